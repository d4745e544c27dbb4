package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
)

// newEntryPoint returns what Traefik does with a request before a router sees it,
// in Traefik's order. These steps decide what is left of the client's request when
// a plugin gets it. Traefik's own are in its package server, which imports all of
// Traefik; the tests against the real binary hold that these do the same.
func newEntryPoint(config *entryPointConfig, next http.Handler) (http.Handler, error) {
	forwarded, err := newForwarded(config.ForwardedHeaders.TrustedIPs, config.ForwardedHeaders.Insecure)
	if err != nil {
		return nil, err
	}
	strategy := config.HTTP.AliasHeadersStrategy
	if !slices.Contains([]string{"", "keep", "delete", "reject"}, strategy) {
		return nil, fmt.Errorf("aliasHeadersStrategy %q", strategy)
	}
	sanitize := config.HTTP.SanitizePath == nil || *config.HTTP.SanitizePath
	return http.AllowQuerySemicolons(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Opaque != "" || strings.Contains(r.URL.RawPath, "#") {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for name := range r.Header {
			switch {
			case strategy == "" || strategy == "keep" || !aliasing(name):
			case strategy == "delete":
				delete(r.Header, name)
			default:
				http.Error(w, "Bad Request", http.StatusBadRequest)
				return
			}
		}
		if unescaped := unescapeUnreserved(r.URL.RawPath); unescaped != r.URL.RawPath {
			r.URL.RawPath = unescaped
			r.RequestURI = r.URL.RequestURI()
		}
		if sanitize {
			r.URL = r.URL.JoinPath()
			r.RequestURI = r.URL.RequestURI()
		}
		w.Header()["Content-Type"] = nil // no guess of a type that the upstream does not tell
		forwarded.apply(r)
		next.ServeHTTP(w, r)
	})), nil
}

// aliasing reports whether a CGI upstream could read a name as another one.
func aliasing(name string) bool {
	return strings.ContainsFunc(name, func(c rune) bool {
		return c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	})
}

// unescapeUnreserved decodes what need not be encoded (RFC 3986 section 6.2.2.2) and
// writes other encodings in upper case. A path that net/url has parsed is well-formed.
func unescapeUnreserved(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) {
			b.WriteByte(path[i])
			continue
		}
		encoded := strings.ToUpper(path[i : i+3])
		i += 2
		c, err := url.PathUnescape(encoded)
		if err == nil && (!aliasing(c) || strings.Contains("._~", c)) {
			encoded = c
		}
		b.WriteString(encoded)
	}
	return b.String()
}

// forwarded sets and removes the fields that tell of the client's connection.
type forwarded struct {
	trusted  []netip.Prefix
	insecure bool
	server   string
}

var managed = []string{
	"X-Forwarded-Proto", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Uri",
	"X-Forwarded-Method", "X-Forwarded-Prefix", "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info", "X-Real-Ip",
}

func newForwarded(trusted []string, insecure bool) (*forwarded, error) {
	f := &forwarded{insecure: insecure}
	for _, s := range trusted {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				return nil, err
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		f.trusted = append(f.trusted, prefix)
	}
	var err error
	f.server, err = os.Hostname()
	return f, err
}

func (f *forwarded) trusts(peer string) bool {
	addr, err := netip.ParseAddrPort(peer)
	return f.insecure || err == nil && slices.ContainsFunc(f.trusted, func(p netip.Prefix) bool { return p.Contains(addr.Addr().Unmap()) })
}

func isManaged(name string) bool {
	return slices.Contains(managed, http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")))
}

func (f *forwarded) apply(r *http.Request) {
	h := r.Header
	if !f.trusts(r.RemoteAddr) {
		for name := range h {
			if isManaged(name) {
				delete(h, name)
			}
		}
	}
	absent := func(name, value string) {
		if h.Get(name) == "" && value != "" {
			h[name] = []string{value}
		}
	}
	socket := hasToken(h, "Connection", "upgrade") && hasToken(h, "Upgrade", "websocket")
	if peer, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		peer, _, _ = strings.Cut(peer, "%")
		absent("X-Real-Ip", peer)
	}
	proto := "http"
	if socket {
		proto = "ws"
	}
	absent("X-Forwarded-Proto", proto)
	port := "80"
	if _, p, err := net.SplitHostPort(r.Host); err == nil && p != "" {
		port = p
	} else if p := h.Get("X-Forwarded-Proto"); p == "https" || p == "wss" {
		port = "443"
	}
	absent("X-Forwarded-Port", port)
	absent("X-Forwarded-Host", r.Host)
	if chain := h["X-Forwarded-For"]; len(chain) > 0 {
		h["X-Forwarded-For"] = []string{strings.Join(chain, ", ")}
	}
	h["X-Forwarded-Server"] = []string{f.server}
	removeHops(h)
}

// removeHops removes the fields that Connection names, but not those of Traefik.
func removeHops(h http.Header) {
	var upgrade []string
	if hasToken(h, "Connection", "upgrade") {
		upgrade = h["Upgrade"]
	}
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name != "" && !isManaged(name) {
				delete(h, name)
			}
		}
	}
	delete(h, "Connection")
	if len(upgrade) > 0 {
		h["Upgrade"], h["Connection"] = upgrade[:1], []string{"Upgrade"}
	}
}

func hasToken(h http.Header, name, token string) bool {
	for _, list := range h[name] {
		for part := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

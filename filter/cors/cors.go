// Package cors answers for the server what the Fetch standard asks about requests
// of other origins: preflights, and the fields that let a script read an answer.
//
// It decides about reading only. Whether a request is let through is nothing that
// an Origin field could say.
package cors

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is the cors section of a policy.
type Config struct {
	// Origins are the origins whose scripts may read answers, as browsers
	// write them: https://app.example.com, http://localhost:3000. A host that
	// begins with "*." stands for every host below it. "*" alone is every
	// origin, and excludes Credentials.
	Origins []string
	// Methods are the methods that scripts may use; none are GET, HEAD, POST.
	Methods []string
	// Headers are the request header fields that scripts may set, in any case.
	Headers []string
	// Expose are the answer's header fields that scripts may read.
	Expose []string
	// Credentials lets scripts send cookies and read the answers to them.
	Credentials bool
	// MaxAge is how long a browser may keep the answer to a preflight; 0 leaves
	// it to the browser, which is 5 seconds.
	MaxAge time.Duration
}

// Policy is a compiled Config. It is immutable and safe for concurrent use. The
// zero Policy allows no origin.
type Policy struct {
	any         bool
	exact       map[string]struct{}
	below       []wildcard
	credentials bool
	methods     string
	headers     string
	expose      string // of the upstream's answers
	refusals    string // exposed of the filter's own refusals
	maxAge      string
}

// wildcard is an origin whose host has a "*." in front: scheme://*.rest.
type wildcard struct{ scheme, rest string }

// refusalFields are what the filter's own refusals tell a client.
var refusalFields = []string{"WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy"}

// New compiles a section. The error joins every fault.
func New(c Config) (*Policy, error) {
	p := &Policy{exact: make(map[string]struct{}), credentials: c.Credentials}
	var errs []error
	for _, o := range c.Origins {
		if o == "*" {
			p.any = true
			continue
		}
		scheme, host, err := splitOrigin(o)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if rest, ok := strings.CutPrefix(host, "*."); ok {
			p.below = append(p.below, wildcard{scheme + "://", "." + rest})
			continue
		}
		p.exact[o] = struct{}{}
	}
	switch {
	case len(c.Origins) == 0:
		errs = append(errs, errors.New("no origins: no script could read an answer"))
	case p.any && len(c.Origins) > 1:
		errs = append(errs, errors.New(`"*" is every origin: remove it or the others`))
	case p.any && c.Credentials:
		errs = append(errs, errors.New(`credentials with the origin "*": every page could read what belongs to its visitors`))
	}
	methods := c.Methods
	if len(methods) == 0 {
		methods = []string{http.MethodGet, http.MethodHead, http.MethodPost}
	}
	for _, m := range methods {
		switch {
		case !isToken(m) || m == "*":
			errs = append(errs, fmt.Errorf("%q is no method", m))
		case m == "CONNECT" || m == "TRACE" || m == "TRACK":
			errs = append(errs, fmt.Errorf("browsers let no script use %s", m))
		}
	}
	for _, h := range slices.Concat(c.Headers, c.Expose) {
		if !isToken(h) || h == "*" {
			errs = append(errs, fmt.Errorf("%q is no name of a header field", h))
		}
	}
	if c.MaxAge < 0 {
		errs = append(errs, errors.New("a negative time"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p.methods = strings.Join(methods, ", ")
	p.headers = strings.ToLower(strings.Join(c.Headers, ", "))
	p.expose = strings.Join(c.Expose, ", ")
	p.refusals = strings.Join(refusalFields, ", ")
	if c.MaxAge > 0 {
		p.maxAge = strconv.FormatInt(int64(c.MaxAge/time.Second), 10)
	}
	return p, nil
}

// splitOrigin checks an origin as browsers write it (RFC 6454 section 6.1, Fetch
// section 3.1): an origin in another writing would never match.
func splitOrigin(o string) (scheme, host string, err error) {
	fault := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("%q is no origin: %s", o, why)
	}
	scheme, rest, ok := strings.Cut(o, "://")
	switch {
	case o == "null":
		return fault("it stands for every page without an origin of its own")
	case !ok || scheme == "":
		return fault("write scheme://host, such as https://app.example.com")
	case strings.ContainsAny(rest, "/?#@"):
		return fault("only scheme, host and port belong to it")
	case o != strings.ToLower(o) || strings.ContainsFunc(o, func(c rune) bool { return c <= ' ' || c > '~' }):
		return fault("browsers write it in lower case and in ASCII")
	}
	host, port := rest, ""
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasSuffix(rest, "]") {
		host, port = rest[:i], rest[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
			return fault("the port is no port")
		}
	}
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return fault("browsers leave the default port out")
	}
	bare := strings.TrimPrefix(host, "*.")
	if strings.HasPrefix(host, "[") {
		if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil || !a.Is6() {
			return fault("the host is no host")
		}
		return scheme, rest, nil
	}
	if bare == "" || strings.HasPrefix(bare, ".") || strings.ContainsAny(bare, "*[]:,;\"'\\") {
		return fault("the host is no host; only a leading *. is a wildcard")
	}
	if bare != host && !strings.Contains(bare, ".") {
		return fault("the wildcard is a whole top-level domain")
	}
	return scheme, rest, nil
}

// allows reports whether scripts of the origin may read answers.
func (p *Policy) allows(origin string) bool {
	if p.any {
		return true
	}
	if _, ok := p.exact[origin]; ok {
		return true
	}
	for _, w := range p.below {
		if host, ok := strings.CutPrefix(origin, w.scheme); ok {
			if sub, ok := strings.CutSuffix(host, w.rest); ok && isHost(sub) {
				return true
			}
		}
	}
	return false
}

// isHost reports whether s are labels of a host name.
func isHost(s string) bool {
	return s != "" && s[0] != '.' && s[len(s)-1] != '.' && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_'
	})
}

// IsPreflight reports whether r is a CORS preflight (Fetch section 4.8).
func IsPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && len(r.Header["Origin"]) > 0 && len(r.Header["Access-Control-Request-Method"]) > 0
}

// Preflight answers a preflight with 204: with what is allowed, for an origin that
// is; without a word about it for any other.
func (p *Policy) Preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if p.allow(h, r) {
		h.Set("Access-Control-Allow-Methods", p.methods)
		if p.headers != "" {
			h.Set("Access-Control-Allow-Headers", p.headers)
		}
		if p.maxAge != "" {
			h.Set("Access-Control-Max-Age", p.maxAge)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// Refusal sets the fields of one of the filter's own refusals, so that a script of
// an allowed origin can read what it was refused for.
func (p *Policy) Refusal(h http.Header, r *http.Request) {
	if p.allow(h, r) {
		h.Set("Access-Control-Expose-Headers", p.refusals)
	}
}

// allow sets the fields that let the script behind r read the answer, if its
// origin is allowed, and reports whether it is.
func (p *Policy) allow(h http.Header, r *http.Request) bool {
	// Only a policy that says the same to everybody does not depend on the
	// origin; the answer to a request without one depends on it as well.
	if !p.any {
		addVary(h, "Origin")
	}
	origin := r.Header["Origin"]
	if len(origin) != 1 || !p.allows(origin[0]) {
		return false
	}
	if p.any {
		h.Set("Access-Control-Allow-Origin", "*")
		return true
	}
	h.Set("Access-Control-Allow-Origin", origin[0])
	if p.credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	return true
}

// addVary adds a name to Vary, unless it is there.
func addVary(h http.Header, field string) {
	for _, line := range h["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.Trim(name, " \t"); name == "*" || strings.EqualFold(name, field) {
				return
			}
		}
	}
	h.Add("Vary", field)
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}

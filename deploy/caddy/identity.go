package moatcaddy

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/moatwaf/moat/filter"
)

// identityHeader is a request header that tells the upstream who the caller is.
type identityHeader struct {
	name  string // canonical
	what  string // subject, method, roles, scopes or claim
	claim string
}

// identityHeaders are those of one handler.
type identityHeaders []identityHeader

// protectedHeaders are no identity headers: moat, Caddy or HTTP itself reads them.
var protectedHeaders = []string{
	"Authorization", "Connection", "Content-Length", "Content-Type", "Cookie", "Expect", "Forwarded", "Host",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
}

func compileIdentityHeaders(config map[string]string) (identityHeaders, error) {
	var all identityHeaders
	for name, what := range config {
		h, err := parseIdentityHeader(name, what)
		if err != nil {
			return nil, err
		}
		for _, other := range all {
			if sameHeader(h.name, other.name) {
				return nil, fmt.Errorf("the identity headers %s and %s are one to some upstreams", other.name, h.name)
			}
		}
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b identityHeader) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

func parseIdentityHeader(name, what string) (identityHeader, error) {
	h := identityHeader{name: http.CanonicalHeaderKey(name), what: what}
	if !httpguts.ValidHeaderFieldName(name) {
		return h, fmt.Errorf("%q is no name of a header", name)
	}
	if slices.ContainsFunc(protectedHeaders, func(p string) bool { return sameHeader(p, name) }) {
		return h, fmt.Errorf("%s cannot be an identity header: it has a meaning of its own", h.name)
	}
	switch what {
	case "subject", "method", "roles", "scopes":
		return h, nil
	}
	claim, ok := strings.CutPrefix(what, "claim:")
	if !ok || claim == "" {
		return h, fmt.Errorf("%s: an identity header holds subject, method, roles, scopes or claim:NAME, not %q", h.name, what)
	}
	h.what, h.claim = "claim", claim
	return h, nil
}

// remove takes the headers away that a client has sent, so that the upstream can
// believe what it gets. It also keeps the client from naming them in Connection,
// which would have a proxy remove moat's own (RFC 9110 section 7.6.1).
func (all identityHeaders) remove(r *http.Request) {
	if len(all) == 0 {
		return
	}
	for _, header := range []http.Header{r.Header, r.Trailer} {
		for key := range header {
			if all.has(key) {
				delete(header, key)
			}
		}
	}
	if r.Trailer != nil && r.Body != nil {
		// Trailers come after the body, also such as were not announced.
		r.Body = &trailerBody{ReadCloser: r.Body, trailer: r.Trailer, names: all}
	}
	lines := r.Header["Connection"]
	if !slices.ContainsFunc(lines, all.named) {
		return
	}
	var kept []string
	for _, line := range lines {
		for token := range strings.SplitSeq(line, ",") {
			if token = strings.TrimSpace(token); token != "" && !all.has(token) {
				kept = append(kept, token)
			}
		}
	}
	if len(kept) == 0 {
		delete(r.Header, "Connection")
		return
	}
	r.Header["Connection"] = []string{strings.Join(kept, ", ")}
}

// trailerBody removes headers from the trailer when the end of a body is read.
type trailerBody struct {
	io.ReadCloser
	trailer http.Header
	names   identityHeaders
}

// Read implements io.Reader.
func (b *trailerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for key := range b.trailer {
			if b.names.has(key) {
				delete(b.trailer, key)
			}
		}
	}
	return n, err
}

// named reports whether a line of Connection names one of the headers.
func (all identityHeaders) named(line string) bool {
	for token := range strings.SplitSeq(line, ",") {
		if all.has(strings.TrimSpace(token)) {
			return true
		}
	}
	return false
}

func (all identityHeaders) has(name string) bool {
	for i := range all {
		if sameHeader(all[i].name, name) {
			return true
		}
	}
	return false
}

// sameHeader reports whether an upstream could take two header names for one: names
// are compared without case, and what becomes a variable of CGI (RFC 3875 section
// 4.1.18) or of PHP has an underscore for each hyphen and dot.
func sameHeader(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if foldHeaderByte(a[i]) != foldHeaderByte(b[i]) {
			return false
		}
	}
	return true
}

func foldHeaderByte(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '-', c == '.':
		return '_'
	}
	return c
}

// set tells the upstream who the caller is. Headers without a value are left out.
func (all identityHeaders) set(r *http.Request, who *filter.Identity) {
	for i := range all {
		if value := all[i].value(who); value != "" {
			r.Header[all[i].name] = []string{value}
		}
	}
}

func (h *identityHeader) value(who *filter.Identity) string {
	switch h.what {
	case "subject":
		return encodeValue(who.Subject, false)
	case "method":
		return encodeValue(who.Method, false)
	case "roles":
		return encodeList(who.Roles)
	case "scopes":
		return encodeList(who.Scopes)
	}
	switch v := who.Claims[h.claim].(type) {
	case string:
		return encodeValue(v, false)
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case int64:
		return strconv.FormatInt(v, 10)
	case []string:
		return encodeList(v)
	case []any:
		items := make([]string, 0, len(v))
		for _, item := range v {
			if s, ok := item.(string); ok {
				items = append(items, s)
			}
		}
		return encodeList(items)
	}
	return "" // an object, or no such claim
}

func encodeList(items []string) string {
	encoded := make([]string, 0, len(items))
	for _, item := range items {
		if item != "" {
			encoded = append(encoded, encodeValue(item, true))
		}
	}
	return strings.Join(encoded, ",")
}

// encodeValue percent-encodes what a header cannot hold: a name that an issuer has
// verified may have a line break in it all the same.
func encodeValue(s string, inList bool) string {
	plain := func(i int) bool {
		c := s[i]
		switch {
		case c == ' ':
			return i > 0 && i < len(s)-1 // would be trimmed at the ends
		case c < '!' || c > '~' || c == '%':
			return false
		}
		return c != ',' || !inList
	}
	var b strings.Builder
	for i := range len(s) {
		if plain(i) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

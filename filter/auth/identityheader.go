package auth

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/moatwaf/moat/filter"
)

// IdentityHeaders are the request header fields that tell the upstream who the
// caller is. Fields of these names that a client has sent are taken away, in every
// spelling that an upstream might read as the same name. It is immutable and safe
// for concurrent use; a nil one does nothing.
type IdentityHeaders struct{ fields []identityField }

// identityField is one field: its canonical name and what it holds.
type identityField struct{ name, what, claim string }

// verbatim is what a field holds that an external service sets.
const verbatim = "verbatim"

// DefaultIdentityHeaders are the fields of a policy that names none.
func DefaultIdentityHeaders() map[string]string { return map[string]string{"X-Remote-User": "subject"} }

// ownMeaning are names that are no identity fields: HTTP itself, proxies or moat
// read them.
var ownMeaning = []string{
	"Authorization", "Connection", "Content-Length", "Content-Type", "Cookie", "Expect", "Forwarded", "Host", "Keep-Alive", "Origin",
	"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Method",
	"X-Forwarded-Proto", "X-Forwarded-Uri", "X-Real-Ip",
}

// NewIdentityHeaders compiles names of fields and what they hold: subject, method,
// roles, scopes or claim:NAME. Fields of the names in passed hold what the verifier
// of the caller says (filter.Identity.Upstream). The error joins every fault.
func NewIdentityHeaders(config map[string]string, passed ...string) (*IdentityHeaders, error) {
	h := new(IdentityHeaders)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(config)) {
		f := identityField{name: textproto.CanonicalMIMEHeaderKey(name), what: config[name]}
		if err := checkIdentityField(name); err != nil {
			errs = append(errs, err)
			continue
		}
		if claim, ok := strings.CutPrefix(f.what, "claim:"); ok && claim != "" {
			f.what, f.claim = "claim", claim
		} else if !slices.Contains([]string{"subject", "method", "roles", "scopes"}, f.what) {
			errs = append(errs, fmt.Errorf("%s holds %q: there are subject, method, roles, scopes and claim:NAME", f.name, f.what))
			continue
		}
		errs = append(errs, h.add(f))
	}
	for _, name := range passed {
		if err := checkIdentityField(name); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, h.add(identityField{name: textproto.CanonicalMIMEHeaderKey(name), what: verbatim}))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return h, nil
}

// checkIdentityField refuses names that no identity field can have.
func checkIdentityField(name string) error {
	if !isToken(name) {
		return fmt.Errorf("%q is no name of a header field", name)
	}
	if slices.ContainsFunc(ownMeaning, func(own string) bool { return sameField(own, name) }) {
		return fmt.Errorf("%s has a meaning of its own", textproto.CanonicalMIMEHeaderKey(name))
	}
	return nil
}

func (h *IdentityHeaders) add(f identityField) error {
	if h.has(f.name) {
		return fmt.Errorf("%s is there twice: some upstreams read both names as one", f.name)
	}
	h.fields = append(h.fields, f)
	return nil
}

// sameField reports whether an upstream could read two names as one: without case,
// and with hyphens and dots as the underscores of variables (RFC 3875 section
// 4.1.18).
func sameField(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if foldByte(a[i]) != foldByte(b[i]) {
			return false
		}
	}
	return true
}

func foldByte(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '-' || c == '.' || c == ' ':
		return '_'
	}
	return c
}

// Apply makes the header of r ready for the upstream: Remove, then Set. who is nil if
// nobody is known.
func (h *IdentityHeaders) Apply(r *http.Request, who *filter.Identity) {
	h.Remove(r)
	h.Set(r, who)
}

// Remove takes the fields away that a client has sent, from header and trailer, so
// that the upstream can believe what it gets. It also takes their names out of
// Connection, where they would have the next proxy take moat's own away.
func (h *IdentityHeaders) Remove(r *http.Request) {
	if h == nil || len(h.fields) == 0 {
		return
	}
	h.removeFrom(r.Header)
	if r.Trailer != nil {
		h.removeFrom(r.Trailer)
		// Trailers come after the body, also such as were not announced.
		if b, ok := r.Body.(*trailerBody); r.Body != nil && (!ok || b.fields != h) {
			r.Body = &trailerBody{ReadCloser: r.Body, trailer: r.Trailer, fields: h}
		}
	}
	h.guardConnection(r.Header)
}

func (h *IdentityHeaders) removeFrom(fields http.Header) {
	for name := range fields {
		if h.has(name) {
			delete(fields, name)
		}
	}
}

// Set sets the fields of who, none if it is nil. Values are in printable ASCII; other
// bytes, the percent sign, and the comma in items of a list are percent-encoded. A
// field without a value is left out.
func (h *IdentityHeaders) Set(r *http.Request, who *filter.Identity) {
	if h == nil || who == nil {
		return
	}
	for i := range h.fields {
		f := &h.fields[i]
		if f.what == verbatim {
			if values := who.Upstream[f.name]; len(values) > 0 {
				r.Header[f.name] = slices.Clone(values)
			}
			continue
		}
		if value := f.value(who); value != "" {
			r.Header[f.name] = []string{value}
		}
	}
}

// trailerBody removes fields from the trailer when the end of a body is read.
type trailerBody struct {
	io.ReadCloser
	trailer http.Header
	fields  *IdentityHeaders
}

// Read implements io.Reader.
func (b *trailerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.fields.removeFrom(b.trailer)
	}
	return n, err
}

// has reports whether an upstream could read the name as that of one of the fields.
func (h *IdentityHeaders) has(name string) bool {
	for i := range h.fields {
		if sameField(h.fields[i].name, name) {
			return true
		}
	}
	return false
}

// guardConnection takes the fields out of Connection: a client that names them there
// would have the next proxy take them away (RFC 9110 section 7.6.1).
func (h *IdentityHeaders) guardConnection(header http.Header) {
	lines := header["Connection"]
	if !slices.ContainsFunc(lines, h.named) {
		return
	}
	var kept []string
	for _, line := range lines {
		for option := range strings.SplitSeq(line, ",") {
			if option = strings.Trim(option, " \t"); option != "" && !h.has(option) {
				kept = append(kept, option)
			}
		}
	}
	if len(kept) == 0 {
		delete(header, "Connection")
		return
	}
	header["Connection"] = []string{strings.Join(kept, ", ")}
}

// named reports whether a line of Connection names one of the fields.
func (h *IdentityHeaders) named(line string) bool {
	for option := range strings.SplitSeq(line, ",") {
		if h.has(strings.Trim(option, " \t")) {
			return true
		}
	}
	return false
}

func (f *identityField) value(who *filter.Identity) string {
	switch f.what {
	case "subject":
		return encodeField(who.Subject, false)
	case "method":
		return encodeField(who.Method, false)
	case "roles":
		return encodeFields(who.Roles)
	case "scopes":
		return encodeFields(who.Scopes)
	}
	switch v := who.Claims[f.claim].(type) {
	case string:
		return encodeField(v, false)
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case int64:
		return strconv.FormatInt(v, 10)
	case []string:
		return encodeFields(v)
	case []any:
		return encodeFields(stringList(v))
	}
	return "" // no such claim, or one that no field can hold
}

func encodeFields(items []string) string {
	var b strings.Builder
	for _, item := range items {
		if item == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(encodeField(item, true))
	}
	return b.String()
}

// encodeField percent-encodes what a field cannot hold as it is.
func encodeField(s string, inList bool) string {
	plain := func(i int) bool {
		switch c := s[i]; {
		case c == ' ':
			return i > 0 && i < len(s)-1 // spaces at the ends would be lost
		case c < '!' || c > '~' || c == '%':
			return false
		default:
			return c != ',' || !inList
		}
	}
	first := 0
	for first < len(s) && plain(first) {
		first++
	}
	if first == len(s) {
		return s
	}
	const digits = "0123456789ABCDEF"
	b := []byte(s[:first])
	for i := first; i < len(s); i++ {
		if plain(i) {
			b = append(b, s[i])
		} else {
			b = append(b, '%', digits[s[i]>>4], digits[s[i]&15])
		}
	}
	return string(b)
}

package auth

import (
	"errors"
	"fmt"
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

// DefaultIdentityHeaders are the fields of a policy that names none.
func DefaultIdentityHeaders() map[string]string { return map[string]string{"X-Remote-User": "subject"} }

// ownMeaning are names that are no identity fields: HTTP itself, proxies or moat
// read them.
var ownMeaning = []string{
	"Authorization", "Connection", "Content-Length", "Content-Type", "Cookie", "Expect", "Forwarded", "Host", "Keep-Alive", "Origin",
	"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip",
}

// NewIdentityHeaders compiles names of fields and what they hold: subject, method,
// roles, scopes or claim:NAME. The error joins every fault.
func NewIdentityHeaders(config map[string]string) (*IdentityHeaders, error) {
	h := new(IdentityHeaders)
	var errs []error
	names := make([]string, 0, len(config))
	for name := range config {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f := identityField{name: textproto.CanonicalMIMEHeaderKey(name), what: config[name]}
		if !isToken(name) {
			errs = append(errs, fmt.Errorf("%q is no name of a header field", name))
			continue
		}
		if slices.ContainsFunc(ownMeaning, func(own string) bool { return sameField(own, name) }) {
			errs = append(errs, fmt.Errorf("%s has a meaning of its own", f.name))
			continue
		}
		if claim, ok := strings.CutPrefix(f.what, "claim:"); ok && claim != "" {
			f.what, f.claim = "claim", claim
		} else if !slices.Contains([]string{"subject", "method", "roles", "scopes"}, f.what) {
			errs = append(errs, fmt.Errorf("%s holds %q: there are subject, method, roles, scopes and claim:NAME", f.name, f.what))
			continue
		}
		if h.has(name) {
			errs = append(errs, fmt.Errorf("%s is there twice: some upstreams read both names as one", f.name))
			continue
		}
		h.fields = append(h.fields, f)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return h, nil
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

// Apply makes the header of r ready for the upstream: it takes away what the client
// has sent and sets the fields of who, nobody if it is nil. Values are in printable
// ASCII; other bytes, the percent sign, and the comma in items of a list are
// percent-encoded. A field without a value is left out.
func (h *IdentityHeaders) Apply(r *http.Request, who *filter.Identity) {
	if h == nil || len(h.fields) == 0 {
		return
	}
	for _, fields := range [...]http.Header{r.Header, r.Trailer} {
		for name := range fields {
			if h.has(name) {
				delete(fields, name)
			}
		}
	}
	h.guardConnection(r.Header)
	if who == nil {
		return
	}
	for i := range h.fields {
		if value := h.fields[i].value(who); value != "" {
			r.Header[h.fields[i].name] = []string{value}
		}
	}
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
		return who.Method
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

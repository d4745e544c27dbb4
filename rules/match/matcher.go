package match

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/moatwaf/moat/filter"
)

// Matcher is a compiled condition. It implements filter.Matcher: it is immutable
// and safe for concurrent use. Without expressions it does not allocate and
// returns no error.
//
// The zero Matcher and a nil one return an error: they hold for no request and
// their negation does not either.
type Matcher struct {
	ready bool
	uses  Uses

	// The parts, nil where not written, in the order in which they are
	// evaluated: from cheap to dear.
	methods []string
	host    *hostSet
	ip      *addrSet
	path    *pathSet
	headers []headerTest
	country *countrySet
	asn     []uint32 // sorted
	hasASN  bool
	claims  []claimTest
	not     *Matcher
	exprs   []*expression
}

var _ filter.Matcher = (*Matcher)(nil)

var (
	errNotCompiled = errors.New("the condition was not compiled")
	errNoRequest   = errors.New("the condition looks at an HTTP request and there is none")
)

// Uses returns what the condition looks at.
func (m *Matcher) Uses() Uses {
	if m == nil {
		return Uses{}
	}
	return m.uses
}

// Match reports whether the condition holds. An error means that an expression
// could not be evaluated; it holds nothing of the request.
func (m *Matcher) Match(r *filter.Request) (bool, error) {
	if m == nil || !m.ready {
		return false, errNotCompiled
	}
	if r.HTTP == nil {
		return false, errNoRequest
	}
	if m.methods != nil && !m.matchMethod(r) ||
		m.host != nil && !m.host.match(r.Host) ||
		m.ip != nil && !m.ip.Contains(r.Client) ||
		m.path != nil && !m.path.match(r.Path) {
		return false, nil
	}
	for i := range m.headers {
		if !m.headers[i].match(r.HTTP) {
			return false, nil
		}
	}
	if m.country != nil && !m.country.contains(r.Location().Country) {
		return false, nil
	}
	if m.hasASN && !m.matchASN(r) {
		return false, nil
	}
	for i := range m.claims {
		if !m.claims[i].match(r.Identity) {
			return false, nil
		}
	}
	if m.not != nil {
		holds, err := m.not.Match(r)
		if holds || err != nil {
			return false, err
		}
	}
	for _, e := range m.exprs {
		holds, err := e.eval(r)
		if !holds || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (m *Matcher) matchMethod(r *filter.Request) bool {
	method := r.HTTP.Method
	if method == "" {
		method = http.MethodGet // net/http: the empty method is GET
	}
	// Methods are case-sensitive (RFC 9110 section 9.1), and upstreams that
	// take post for POST are common. To the others it is a method that they do
	// not know.
	return slices.ContainsFunc(m.methods, func(want string) bool { return strings.EqualFold(want, method) })
}

func (m *Matcher) matchASN(r *filter.Request) bool {
	_, found := slices.BinarySearch(m.asn, r.Location().ASN)
	return found
}

// countrySet is a set of two-letter codes, a bit for each.
type countrySet [(26*26 + 63) / 64]uint64

func (s *countrySet) add(code string) {
	i := int(code[0]-'A')*26 + int(code[1]-'A')
	s[i/64] |= 1 << (i % 64)
}

// contains reports whether the set has code. No set has the unknown country.
func (s *countrySet) contains(code string) bool {
	if !letters(code) {
		return false
	}
	i := int(code[0]-'A')*26 + int(code[1]-'A')
	return s[i/64]&(1<<(i%64)) != 0
}

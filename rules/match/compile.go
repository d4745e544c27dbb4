package match

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"

	"github.com/moatwaf/moat/rules"
)

// AddrSet is a set of addresses: a list of the policy. It is safe for concurrent
// use, takes unmapped addresses, and does not allocate.
type AddrSet interface {
	Contains(netip.Addr) bool
}

// Env is what conditions are compiled against. It is used by one goroutine at a
// time while compiling and must not be changed after its first use. What it
// returns is used by the compiled conditions as long as they live.
type Env struct {
	// List returns the list of a name, without the "$"; nil has no lists.
	List func(name string) (AddrSet, bool)

	// ListNames are the names that List knows, for hints.
	ListNames []string

	// ValidCountry reports whether code is an assigned ISO 3166-1 alpha-2
	// code, upper case; nil takes any two letters.
	ValidCountry func(code string) bool

	// Claims says that the caller is known when the condition is evaluated.
	// It is false for access rules and for tiers by address, which run before
	// the auth stage.
	Claims bool

	celOnce sync.Once
	cel     *cel.Env
	celErr  error
	lists   sync.Map // name -> AddrSet: the lists that expressions name
	cidrs   sync.Map // text -> AddrSet: the prefixes that expressions name
}

// Uses tells what a condition looks at, so that a policy loads only what it
// needs and says what is missing.
type Uses struct {
	Country  bool // needs a country database
	ASN      bool // needs a network database
	Identity bool // needs a verified caller
	Path     bool // may differ between the readings of an ambiguous path
}

func (u *Uses) add(other Uses) {
	u.Country = u.Country || other.Country
	u.ASN = u.ASN || other.ASN
	u.Identity = u.Identity || other.Identity
	u.Path = u.Path || other.Path
}

// Compile returns the compiled condition, or every fault and a nil Matcher. A
// nil Spec, like one without keys, holds for every request.
func (s *Spec) Compile(env *Env) (*Matcher, rules.Errors) {
	c := &Condition{Match: s}
	return c.Compile(env)
}

// Compile returns the compiled condition, or every fault and a nil Matcher. A
// condition without keys holds for every request.
func (c *Condition) Compile(env *Env) (*Matcher, rules.Errors) {
	if env == nil {
		env = new(Env)
	}
	b := builder{env: env, m: &Matcher{ready: true}}
	if c.Match != nil {
		b.spec(c.Match)
	}
	if c.Expr.Set() {
		b.expr(c.Expr)
	}
	if len(b.errs) > 0 {
		b.errs.Sort()
		return nil, b.errs
	}
	return b.m, nil
}

// builder compiles one Spec and collects its faults.
type builder struct {
	env  *Env
	m    *Matcher
	errs rules.Errors
}

func (b *builder) fault(err *rules.Error) { b.errs = append(b.errs, err) }

func (b *builder) spec(s *Spec) {
	if s.IP != nil {
		b.ip(s.IP)
	}
	if s.Country != nil {
		b.country(s.Country)
	}
	if s.ASN != nil {
		b.asn(s.ASN)
	}
	if s.Host != nil {
		b.host(s.Host)
	}
	if s.Path != nil {
		b.path(s.Path)
	}
	if s.Method != nil {
		b.method(s.Method)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Header)) {
		b.header(name, s.Header[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Claim)) {
		b.claim(name, s.Claim[name])
	}
	if s.Not != nil {
		b.not(s.Not)
	}
	if s.Expr.Set() {
		b.expr(s.Expr)
	}
}

func (b *builder) country(list OneOrMore[string]) {
	b.m.uses.Country = true
	set := new(countrySet)
	for _, l := range list {
		if err := checkCountry(b.env, l.Value); err != nil {
			b.fault(l.Errorf(err.hint, "%s", err.msg))
			continue
		}
		set.add(l.Value)
	}
	b.m.country = set
}

// textFault is a fault in a text whose place the caller knows.
type textFault struct{ msg, hint string }

// checkCountry judges a country code.
func checkCountry(env *Env, code string) *textFault {
	valid := func(code string) bool {
		return letters(code) && (env.ValidCountry == nil || env.ValidCountry(code))
	}
	if valid(code) {
		return nil
	}
	f := &textFault{msg: fmt.Sprintf("unknown country %q", clip(code)), hint: "ISO 3166-1 alpha-2 codes, such as DE or NO"}
	// What people write for two countries whose codes are others.
	common := map[string]string{"UK": "GB", "EL": "GR"}
	upper := strings.ToUpper(code)
	if c, ok := common[upper]; ok {
		upper = c
	}
	if valid(upper) {
		f.hint = fmt.Sprintf("did you mean %q?", upper)
	}
	return f
}

// letters reports whether code is two upper-case letters.
func letters(code string) bool {
	return len(code) == 2 && code[0] >= 'A' && code[0] <= 'Z' && code[1] >= 'A' && code[1] <= 'Z'
}

func (b *builder) asn(list OneOrMore[ASN]) {
	b.m.uses.ASN = true
	for _, l := range list {
		b.m.asn = append(b.m.asn, uint32(l.Value))
	}
	slices.Sort(b.m.asn)
	b.m.hasASN = true
}

func (b *builder) method(list OneOrMore[string]) {
	for _, l := range list {
		switch {
		case !token(l.Value):
			b.fault(l.Errorf("such as GET or POST", "%q is no request method", clip(l.Value)))
		case l.Value != strings.ToUpper(l.Value):
			b.fault(l.Errorf("write "+strings.ToUpper(l.Value), "methods are case-sensitive, and %q is none that clients send", l.Value))
		}
		b.m.methods = append(b.m.methods, l.Value)
	}
}

func (b *builder) not(spec *rules.Located[Spec]) {
	if spec.Value.empty() {
		b.fault(spec.Errorf("write what must not hold", "an empty not never holds"))
		return
	}
	inner := builder{env: b.env, m: &Matcher{ready: true}}
	inner.spec(&spec.Value)
	b.errs = append(b.errs, inner.errs...)
	b.m.uses.add(inner.m.uses)
	b.m.not = inner.m
}

// token reports whether s is a token (RFC 9110 section 5.6.2).
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// clip bounds what a message repeats of the policy, in bytes, at a rune's end.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

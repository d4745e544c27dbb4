package policy

import (
	"maps"
	"slices"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/geo"
	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/access"
	"github.com/moatwaf/moat/rules/match"
)

// conditions compiles the conditions of one policy.
type conditions struct {
	before *match.Env // for stages in front of auth: no claims
	after  *match.Env
}

// matchEnv loads the lists and returns what conditions are compiled against.
func (l *loader) matchEnv() *conditions {
	lists := l.lists()
	l.named = lists
	names := slices.Sorted(maps.Keys(l.policy.Lists))
	lookup := func(name string) (match.AddrSet, bool) {
		set, ok := lists[name]
		return set, ok
	}
	env := func(claims bool) *match.Env {
		return &match.Env{List: lookup, ListNames: names, ValidCountry: geo.ValidCountry, Claims: claims}
	}
	return &conditions{before: env(false), after: env(true)}
}

// condition compiles c. It returns nil where the condition holds for every
// request, and after a fault.
func (l *loader) condition(c *match.Condition, env *match.Env) (filter.Matcher, match.Uses) {
	if c.Empty() {
		return nil, match.Uses{}
	}
	m, errs := c.Compile(env)
	if len(errs) > 0 {
		l.errs = append(l.errs, errs...)
		return nil, match.Uses{}
	}
	l.needs(c, m.Uses())
	return m, m.Uses()
}

// needs reports a condition on networks in a policy that knows none.
func (l *loader) needs(c *match.Condition, u match.Uses) {
	if !u.ASN || l.knowsASN {
		return
	}
	at := c.Expr
	if c.Match != nil && len(c.Match.ASN) > 0 {
		at = rules.Located[string]{Pos: c.Match.ASN[0].Pos, Path: c.Match.ASN[0].Path}
	}
	if !at.Set() {
		at.Pos.File = l.options.File
	}
	l.errs = append(l.errs, at.Errorf("name one in geo.asn", "the condition asks for the network of an address, and no database has networks"))
}

// accessStage compiles the access rules; nil if there are none.
func (l *loader) accessStage(env *conditions) filter.Stage {
	var compiled []access.Rule
	for i := range l.policy.Rules {
		r := &l.policy.Rules[i]
		l.claim(l.ids, r.ID)
		action, detect := access.Block, r.Mode == "detect"
		switch r.Action {
		case "allow":
			action = access.Allow
		case "detect":
			detect = true
		}
		if r.Status.Set() {
			switch {
			case r.Action == "allow":
				l.errs = append(l.errs, r.Status.Errorf("remove it", "a rule that allows has no status"))
			case !slices.Contains([]int{403, 404, 410, 429, 451}, r.Status.Value):
				l.errs = append(l.errs, r.Status.Errorf("403, 404, 410, 429 or 451", "a rule cannot refuse with %d", r.Status.Value))
			}
		}
		if c := &r.Condition; r.Action == "allow" && !detect && c.Empty() {
			l.errs = append(l.errs, r.ID.Errorf("give it a match", "the rule allows every request, so that no filter stage runs"))
		}
		m, _ := l.condition(&r.Condition, env.before)
		compiled = append(compiled, access.Rule{ID: r.ID.Value, Matcher: m, Action: action, Detect: detect, Status: r.Status.Value})
	}
	l.summary.AccessRules = len(compiled)
	if len(compiled) == 0 || len(l.errs) > 0 {
		return nil
	}
	return access.New(compiled)
}

package policy

import (
	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/ratelimit"
	"github.com/moatwaf/moat/rules"
)

// tierStages compiles the tiers into two stages: those that know the address
// only, which run before the payload rules, and those that ask for an identity,
// which run after the caller is known. Either may be nil.
func (l *loader) tierStages(env *conditions) (byAddress, byIdentity filter.Stage) {
	var before, after []ratelimit.Tier
	for i := range l.policy.Tiers {
		spec := &l.policy.Tiers[i]
		l.claim(l.ids, spec.ID)
		tier, identity := l.tier(spec, env)
		if identity && l.policy.Auth == nil {
			l.errs = append(l.errs, spec.ID.Errorf("write an auth section", "the tier asks for an identity, and nobody is ever asked for one"))
		}
		if identity {
			after = append(after, tier)
		} else {
			before = append(before, tier)
		}
	}
	l.summary.Tiers = len(l.policy.Tiers)
	if len(l.errs) > 0 {
		return nil, nil
	}
	return l.tierStage(before), l.tierStage(after)
}

func (l *loader) tierStage(tiers []ratelimit.Tier) filter.Stage {
	if len(tiers) == 0 {
		return nil
	}
	options := ratelimit.Options{Memory: int64(l.policy.TierTable.Memory)}
	if l.policy.TierTable.Full == "pass" {
		options.Full = ratelimit.FullPass
	}
	stage, err := ratelimit.New(tiers, l.state.clients.tiers, options)
	if err != nil {
		l.add(rules.Position{File: l.options.File}, "tiers", err)
		return nil
	}
	return stage
}

// tier compiles one tier and reports whether it needs an identity.
func (l *loader) tier(spec *Tier, env *conditions) (t ratelimit.Tier, identity bool) {
	t = ratelimit.Tier{ID: spec.ID.Value, Detect: spec.Mode == "detect", Status: spec.Status.Value}
	name := "ip"
	if spec.Key.Set() {
		name = spec.Key.Value
	}
	key, err := ratelimit.ParseKey(name)
	if err != nil {
		l.errs = append(l.errs, spec.Key.Errorf("", "%s", err))
	}
	t.Key = key
	if spec.Rate.Set() {
		rate, err := ratelimit.ParseRate(spec.Rate.Value)
		if err != nil {
			l.errs = append(l.errs, spec.Rate.Errorf("", "%s", err))
		}
		t.Rate = rate
	}
	t.Burst = t.Rate.Count
	if spec.Burst.Set() {
		t.Burst = spec.Burst.Value
	}
	if s := spec.Status; s.Set() && s.Value != 403 && s.Value != 429 {
		l.errs = append(l.errs, s.Errorf("403 or 429", "a tier cannot refuse with %d", s.Value))
	}
	m, uses := l.condition(&spec.Condition, env.after)
	t.Match = m
	return t, uses.Identity || t.Key.NeedsIdentity()
}

// TierTable returns the state of the tables of all tiers together, those of other
// runtimes with the same ClientState included.
func (rt *Runtime) TierTable() metrics.TierTable { return rt.state.clients.TierTable() }

package policy

import (
	"strconv"
	"strings"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/ratelimit"
	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/match"
)

// Tier is a rate limit.
type Tier struct {
	ID rules.Located[string] `yaml:"id,required" doc:"name of the tier in the RateLimit fields and the audit log"`
	match.Condition
	Key        rules.Located[string]         `yaml:"key" doc:"what is counted: ip (default), ip/48, host, path, country, asn, header:NAME, cookie:NAME, identity, claim:NAME, global, expr:EXPRESSION"`
	Rate       rules.Located[string]         `yaml:"rate" doc:"requests in a time: 20/s, 5/m, 100/h, 1000/d"`
	Burst      rules.Located[int]            `yaml:"burst" min:"1" max:"1000000000" doc:"requests that a fresh client may make at once; default: the number in rate"`
	Concurrent rules.Located[int]            `yaml:"concurrent" min:"1" max:"1000000000" doc:"requests that may be under way at the same time; beside a rate or in place of one"`
	Cost       rules.Located[int]            `yaml:"cost" min:"1" max:"1000000000" doc:"what a request counts, out of rate and burst; default 1"`
	ByStatus   map[string]rules.Located[int] `yaml:"cost_by_status" doc:"what a request counts that is answered with a status (401) or one of a class (4xx), out of rate and burst; not less than cost"`
	Also       bool                          `yaml:"also" doc:"go on to the next tier that matches when this one lets a request through"`
	Status     rules.Located[int]            `yaml:"status" doc:"status of a refusal: 403 (default) or 429"`
	Headers    string                        `yaml:"headers" enum:"refused|always" doc:"answers that have the RateLimit fields; default refused"`
	Mode       string                        `yaml:"mode" enum:"block|detect" doc:"detect reports what the tier would do"`
}

// TierTable bounds the memory of the tiers.
type TierTable struct {
	Memory rules.Size `yaml:"memory" min:"1MiB" max:"64GiB" doc:"bound of each tier's table; default 64MiB"`
	Full   string     `yaml:"full" enum:"block|pass" doc:"what a new client gets while every place is held by a client that is limited; default block"`
}

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
	var share *ratelimit.Shared
	if store := l.sharedStore(); store != nil {
		share = store.shared
	}
	if len(l.errs) > 0 {
		return nil, nil
	}
	return l.tierStage(before, share), l.tierStage(after, share)
}

func (l *loader) tierStage(tiers []ratelimit.Tier, share *ratelimit.Shared) filter.Stage {
	if len(tiers) == 0 {
		return nil
	}
	options := ratelimit.Options{Memory: int64(l.policy.TierTable.Memory), Shared: share}
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
	t = ratelimit.Tier{
		ID: spec.ID.Value, Detect: spec.Mode == "detect", Status: spec.Status.Value,
		Also: spec.Also, Announce: spec.Headers == "always", Concurrent: spec.Concurrent.Value,
	}
	t.Key = l.tierKey(spec, env)
	l.tierRate(spec, &t)
	if s := spec.Status; s.Set() && s.Value != 403 && s.Value != 429 {
		l.errs = append(l.errs, s.Errorf("403 or 429", "a tier cannot refuse with %d", s.Value))
	}
	m, uses := l.condition(&spec.Condition, env.after)
	t.Match = m
	return t, uses.Identity || t.Key.NeedsIdentity()
}

// tierKey compiles what a tier counts by.
func (l *loader) tierKey(spec *Tier, env *conditions) ratelimit.Key {
	name := "ip"
	if spec.Key.Set() {
		name = spec.Key.Value
	}
	if expr, ok := strings.CutPrefix(name, "expr:"); ok {
		at := spec.Key
		at.Value = strings.TrimSpace(expr)
		value, errs := match.CompileValue(at, env.before)
		l.errs = append(l.errs, errs...)
		if errs != nil {
			return ratelimit.Key{}
		}
		if value.Uses().ASN && !l.knowsASN {
			l.errs = append(l.errs, at.Errorf("name one in geo.asn", "the key asks for the network of an address, and no database has networks"))
		}
		return ratelimit.ExprKey(at.Value, value)
	}
	key, err := ratelimit.ParseKey(name)
	if err != nil {
		l.errs = append(l.errs, spec.Key.Errorf("", "%s", err))
	}
	if key.Kind() == ratelimit.KeyASN && !l.knowsASN {
		l.errs = append(l.errs, spec.Key.Errorf("name one in geo.asn", "the key asks for the network of an address, and no database has networks"))
	}
	return key
}

// tierRate compiles rate, burst and costs.
func (l *loader) tierRate(spec *Tier, t *ratelimit.Tier) {
	if !spec.Rate.Set() {
		if !spec.Concurrent.Set() {
			l.errs = append(l.errs, spec.ID.Errorf("such as rate: 20/s", "the tier has neither a rate nor a limit of concurrent requests"))
		}
		for _, needs := range []rules.Located[int]{spec.Burst, spec.Cost} {
			if needs.Set() {
				l.errs = append(l.errs, needs.Errorf("such as rate: 20/s", "there is no rate that this could be a part of"))
			}
		}
		for _, cost := range spec.ByStatus {
			l.errs = append(l.errs, cost.Errorf("such as rate: 20/s", "there is no rate that this could be a part of"))
		}
		return
	}
	rate, err := ratelimit.ParseRate(spec.Rate.Value)
	if err != nil {
		l.errs = append(l.errs, spec.Rate.Errorf("", "%s", err))
		return
	}
	t.Rate, t.Burst, t.Cost = rate, rate.Count, max(spec.Cost.Value, 1)
	if spec.Burst.Set() {
		t.Burst = spec.Burst.Value
	}
	if t.Burst < 1 {
		return // reported where the burst was read
	}
	if t.Cost > t.Burst {
		l.errs = append(l.errs, spec.Cost.Errorf("raise burst", "nobody could pay a cost of %d with a burst of %d", t.Cost, t.Burst))
		return
	}
	for name, cost := range spec.ByStatus {
		status, ok := parseStatus(name)
		switch {
		case !ok:
			l.errs = append(l.errs, cost.Errorf("such as 401 or 4xx", "%.20q is no status", name))
		case cost.Value < t.Cost:
			l.errs = append(l.errs, cost.Errorf("", "it is less than the cost of every request, %d", t.Cost))
		case cost.Value > t.Burst:
			l.errs = append(l.errs, cost.Errorf("raise burst", "nobody could pay a cost of %d with a burst of %d", cost.Value, t.Burst))
		default:
			if t.CostByStatus == nil {
				t.CostByStatus = map[int]int{}
			}
			t.CostByStatus[status] = cost.Value
		}
	}
}

// parseStatus reads a status, or a class such as 4xx as its first digit.
func parseStatus(text string) (int, bool) {
	if len(text) != 3 || text[0] < '1' || text[0] > '5' {
		return 0, false
	}
	if strings.EqualFold(text[1:], "xx") {
		return int(text[0] - '0'), true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 100
}

// TierTable returns the state of the tables of all tiers together, those of other
// runtimes with the same ClientState included.
func (rt *Runtime) TierTable() metrics.TierTable { return rt.state.clients.TierTable() }

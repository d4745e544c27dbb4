package policy

import (
	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/ratelimit"
)

// BanMetrics returns the state of the bans, those of other runtimes with the same
// ClientState included.
func (rt *Runtime) BanMetrics() metrics.Bans { return rt.state.clients.BanMetrics() }

// BanMetrics returns the state of the bans.
func (c *ClientState) BanMetrics() metrics.Bans {
	s := c.bans.Stats()
	b := metrics.Bans{Dropped: s.Dropped, Rules: make([]metrics.BanRule, len(s.Rules))}
	for i, r := range s.Rules {
		b.Rules[i] = metrics.BanRule{Rule: r.Rule, Active: r.Active, Added: r.Added, Lifted: r.Lifted}
	}
	return b
}

// StoreMetrics returns the state of the shared stores, all together, those that were
// given up included.
func (c *ClientState) StoreMetrics() metrics.Store {
	s := &c.stores
	s.mu.Lock()
	sum := s.past
	m := metrics.Store{Stores: len(s.all)}
	for _, one := range s.all {
		st := one.shared.Stats()
		if !st.Away {
			m.Up++
		}
		sum.Add(st)
	}
	s.mu.Unlock()
	m.Asked, m.Fast, m.Over, m.Local, m.Late = sum.Asked, sum.Fast, sum.Over, sum.Degraded, sum.Late
	m.Seconds = metrics.Seconds{Bounds: ratelimit.LatencyBounds(), Counts: sum.Latency.Counts[:], Sum: sum.Latency.Sum}
	return m
}

// PolicyMetrics describes the policy in force; its name is empty behind the end.
func (rt *Runtime) PolicyMetrics() metrics.Policy {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.compiled == nil {
		return metrics.Policy{}
	}
	s := rt.compiled.Summary
	return metrics.Policy{
		Name:     rt.compiled.Pipeline.Name(),
		Version:  rt.compiled.Digest,
		LoadedAt: rt.status.Loaded,
		Rules:    map[string]int{"access": s.AccessRules, "tier": s.Tiers, "payload": s.PayloadRules, "auth": s.Requirements},
	}
}

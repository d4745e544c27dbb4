package moatcaddy

import (
	"sync"

	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/filter/policy"
)

// gone is what the states of clients that are gone have counted: a counter does not go
// back.
var gone struct {
	sync.Mutex
	bans  metrics.Bans
	store metrics.Store
}

// forget adds what a state of clients has counted to those that are gone.
func forget(c *policy.ClientState) {
	bans, store := c.BanMetrics(), c.StoreMetrics()
	for i := range bans.Rules {
		bans.Rules[i].Active = 0
	}
	store.Stores, store.Up = 0, 0
	gone.Lock()
	defer gone.Unlock()
	addBans(&gone.bans, bans)
	addStore(&gone.store, store)
}

// countClients lets m tell of the bans, stores and policies of all runtimes.
func countClients(m *metrics.Metrics) {
	m.SetBans(func() (sum metrics.Bans) {
		gone.Lock()
		addBans(&sum, gone.bans)
		gone.Unlock()
		for _, c := range statesInUse() {
			addBans(&sum, c.BanMetrics())
		}
		return sum
	})
	m.SetStore(func() (sum metrics.Store) {
		gone.Lock()
		addStore(&sum, gone.store)
		gone.Unlock()
		for _, c := range statesInUse() {
			addStore(&sum, c.StoreMetrics())
		}
		return sum
	})
	m.SetPolicies(func() (all []metrics.Policy) {
		for _, rt := range Running() {
			if p := rt.PolicyMetrics(); p.Name != "" {
				all = append(all, p)
			}
		}
		return all
	})
}

// statesInUse returns the states of clients, those of policies that drain included.
func statesInUse() (all []*policy.ClientState) {
	clientStates.Range(func(_, value any) bool {
		if c, ok := value.(*clientState); ok {
			all = append(all, c.ClientState)
		}
		return true
	})
	return all
}

func addBans(sum *metrics.Bans, b metrics.Bans) {
	sum.Dropped += b.Dropped
	for _, r := range b.Rules {
		found := false
		for i := range sum.Rules {
			if one := &sum.Rules[i]; one.Rule == r.Rule {
				found = true
				one.Active += r.Active
				one.Added += r.Added
				one.Lifted += r.Lifted
			}
		}
		if !found {
			sum.Rules = append(sum.Rules, r)
		}
	}
}

func addStore(sum *metrics.Store, s metrics.Store) {
	sum.Stores += s.Stores
	sum.Up += s.Up
	sum.Asked += s.Asked
	sum.Fast += s.Fast
	sum.Over += s.Over
	sum.Local += s.Local
	sum.Late += s.Late
	if len(sum.Seconds.Counts) == 0 {
		sum.Seconds.Bounds = s.Seconds.Bounds
		sum.Seconds.Counts = make([]uint64, len(s.Seconds.Counts))
	}
	for i := range min(len(sum.Seconds.Counts), len(s.Seconds.Counts)) {
		sum.Seconds.Counts[i] += s.Seconds.Counts[i]
	}
	sum.Seconds.Sum += s.Seconds.Sum
}

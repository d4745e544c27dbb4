package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bans is the state of the bans. The counts are since the start.
type Bans struct {
	Rules   []BanRule
	Dropped uint64 // bans that ended early, for want of a place
}

// BanRule is the bans of one rule of the policy, or "manual" for those that operators
// made.
type BanRule struct {
	Rule   string
	Active int    // in force
	Added  uint64 // made here, or heard of from other nodes
	Lifted uint64 // ended early by an operator
}

// Store is the state of the stores that nodes share. The counts are since the start.
type Store struct {
	Stores, Up int     // stores of the policies in use, and those that answer
	Asked      uint64  // decisions that the store made
	Fast       uint64  // requests let through before the store knew
	Over       uint64  // requests refused by what the store said before
	Local      uint64  // decisions of this node alone, because the store was away or late
	Late       uint64  // questions without an answer in time
	Seconds    Seconds // round trips
}

// Seconds is a histogram of times.
type Seconds struct {
	Bounds []time.Duration // upper ones, in ascending order
	Counts []uint64        // of the times up to each bound and above the one before; one more for all above
	Sum    time.Duration
}

var (
	descBans       = desc("bans", "Bans in force, by the rule that led to them.", "rule")
	descBansAdded  = desc("bans_added_total", "Bans made here or heard of from other nodes, by rule.", "rule")
	descBansLifted = desc("bans_lifted_total", "Bans that were lifted before their end, by the rule that led to them.", "rule")
	descBansFull   = desc("bans_dropped_total", "Bans that ended early because the table was full.")
	descStoreUp    = desc("store_up", "Whether the shared store answers in time: 1, or 0 for a node that decides alone.")
	descStoreBy    = desc("store_decisions_total", "Decisions of tiers that nodes share: by the store, fast (reported afterwards), over (by what the store had said), or local (the store was away or late).", "by")
	descStoreLate  = desc("store_late_total", "Questions to the shared store without an answer in time.")
	descStoreTime  = desc("store_roundtrip_seconds", "Time from a question to the shared store to its answer, late ones included.")
)

// clientDescs are described beside the others.
var clientDescs = []*prometheus.Desc{descBans, descBansAdded, descBansLifted, descBansFull, descStoreUp, descStoreBy, descStoreLate, descStoreTime}

// clients are the functions that tell of clients, guarded by Metrics.mu.
type clients struct {
	bans     func() Bans
	store    func() Store
	policies func() []Policy
}

// SetBans sets the function that tells of the bans at each collection; nil tells
// nothing. It must be safe for concurrent use.
func (m *Metrics) SetBans(f func() Bans) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clients.bans = f
}

// SetStore sets the function that tells of the shared stores at each collection; nil
// tells nothing, and neither does one without a store. It must be safe for concurrent
// use.
func (m *Metrics) SetStore(f func() Store) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clients.store = f
}

// SetPolicies sets the function that tells of the policies in force at each collection,
// where there may be several; nil tells of the last that PolicyLoaded was told of. It
// must be safe for concurrent use.
func (m *Metrics) SetPolicies(f func() []Policy) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clients.policies = f
}

// collectPolicies tells of the policies in force: which, when the newest was loaded,
// and their rules together.
func collectPolicies(all []Policy, gauge func(*prometheus.Desc, float64, ...string)) {
	type info struct{ name, version string }
	seen := map[info]bool{} // a policy with two sets of overrides is there twice
	kinds := map[string]int{}
	var newest time.Time
	for _, p := range all {
		key := info{valid(p.Name), valid(p.Version)}
		if seen[key] || len(seen) >= maxLists {
			continue
		}
		seen[key] = true
		gauge(descPolicy, 1, key.name, key.version)
		if p.LoadedAt.After(newest) {
			newest = p.LoadedAt
		}
		for kind, n := range p.Rules {
			kinds[valid(kind)] += n
		}
	}
	if len(seen) == 0 {
		return
	}
	gauge(descLoaded, float64(newest.UnixMilli())/1000)
	for kind, n := range kinds {
		gauge(descRules, float64(n), kind)
	}
}

// collect tells of bans and stores.
func (c clients) collect(ch chan<- prometheus.Metric, counter func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, float64, ...string)) {
	if c.bans != nil {
		b := c.bans()
		rules := map[string]BanRule{} // a name that stands twice would fail the whole collection
		for _, r := range b.Rules {
			name := valid(r.Rule)
			if _, known := rules[name]; !known && len(rules) >= maxLists {
				name = "other"
			}
			sum := rules[name]
			sum.Active += r.Active
			sum.Added += r.Added
			sum.Lifted += r.Lifted
			rules[name] = sum
		}
		for name, r := range rules {
			gauge(descBans, float64(r.Active), name)
			counter(descBansAdded, r.Added, name)
			counter(descBansLifted, r.Lifted, name)
		}
		counter(descBansFull, b.Dropped)
	}
	if c.store == nil {
		return
	}
	s := c.store()
	if s.Stores > 0 {
		up := 0.0
		if s.Up == s.Stores {
			up = 1
		}
		gauge(descStoreUp, up)
	}
	if s.Stores == 0 && s.Asked+s.Fast+s.Over+s.Local+s.Late == 0 {
		return
	}
	counter(descStoreBy, s.Asked, "store")
	counter(descStoreBy, s.Fast, "fast")
	counter(descStoreBy, s.Over, "over")
	counter(descStoreBy, s.Local, "local")
	counter(descStoreLate, s.Late)
	buckets := make(map[float64]uint64, len(s.Seconds.Bounds))
	total := uint64(0)
	for i, n := range s.Seconds.Counts {
		total += n
		if i < len(s.Seconds.Bounds) {
			buckets[s.Seconds.Bounds[i].Seconds()] = total
		}
	}
	ch <- prometheus.MustNewConstHistogram(descStoreTime, total, s.Seconds.Sum.Seconds(), buckets)
}

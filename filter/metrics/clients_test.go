package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestStateOfClients(t *testing.T) {
	m := newMetrics(t)
	m.SetBans(func() Bans {
		return Bans{Dropped: 4, Rules: []BanRule{{"login", 2, 5, 1}, {"manual", 1, 1, 0}, {"login", 1, 1, 1}}}
	})
	m.SetStore(func() Store {
		return Store{Stores: 2, Up: 1, Asked: 1, Fast: 2, Over: 3, Local: 4, Late: 5, Seconds: Seconds{
			Bounds: []time.Duration{time.Millisecond, 10 * time.Millisecond}, Counts: []uint64{3, 2, 1}, Sum: 30 * time.Millisecond,
		}}
	})
	m.SetPolicies(func() []Policy {
		return []Policy{
			{Name: "a.yaml", Version: "1", LoadedAt: time.Unix(100, 0), Rules: map[string]int{"access": 3}},
			{Name: "b.yaml", Version: "2", LoadedAt: time.Unix(200, 0), Rules: map[string]int{"access": 4, "tier": 1}},
			{Name: "a.yaml", Version: "1", LoadedAt: time.Unix(100, 0), Rules: map[string]int{"access": 3}},
		}
	})
	want := `
# HELP moat_bans Bans in force, by the rule that led to them.
# TYPE moat_bans gauge
moat_bans{rule="login"} 3
moat_bans{rule="manual"} 1
# HELP moat_bans_added_total Bans made here or heard of from other nodes, by rule.
# TYPE moat_bans_added_total counter
moat_bans_added_total{rule="login"} 6
moat_bans_added_total{rule="manual"} 1
# HELP moat_bans_dropped_total Bans that ended early because the table was full.
# TYPE moat_bans_dropped_total counter
moat_bans_dropped_total 4
# HELP moat_bans_lifted_total Bans that were lifted before their end, by the rule that led to them.
# TYPE moat_bans_lifted_total counter
moat_bans_lifted_total{rule="login"} 2
moat_bans_lifted_total{rule="manual"} 0
# HELP moat_policy_info The policy in force.
# TYPE moat_policy_info gauge
moat_policy_info{name="a.yaml",version="1"} 1
moat_policy_info{name="b.yaml",version="2"} 1
# HELP moat_policy_loaded_timestamp_seconds When the policy in force was loaded, in Unix time.
# TYPE moat_policy_loaded_timestamp_seconds gauge
moat_policy_loaded_timestamp_seconds 200
# HELP moat_policy_rules Rules of the policy in force, by kind.
# TYPE moat_policy_rules gauge
moat_policy_rules{kind="access"} 7
moat_policy_rules{kind="tier"} 1
# HELP moat_store_decisions_total Decisions of tiers that nodes share: by the store, fast (reported afterwards), over (by what the store had said), or local (the store was away or late).
# TYPE moat_store_decisions_total counter
moat_store_decisions_total{by="fast"} 2
moat_store_decisions_total{by="local"} 4
moat_store_decisions_total{by="over"} 3
moat_store_decisions_total{by="store"} 1
# HELP moat_store_late_total Questions to the shared store without an answer in time.
# TYPE moat_store_late_total counter
moat_store_late_total 5
# HELP moat_store_roundtrip_seconds Time from a question to the shared store to its answer, late ones included.
# TYPE moat_store_roundtrip_seconds histogram
moat_store_roundtrip_seconds_bucket{le="0.001"} 3
moat_store_roundtrip_seconds_bucket{le="0.01"} 5
moat_store_roundtrip_seconds_bucket{le="+Inf"} 6
moat_store_roundtrip_seconds_sum 0.03
moat_store_roundtrip_seconds_count 6
# HELP moat_store_up Whether the shared store answers in time: 1, or 0 for a node that decides alone.
# TYPE moat_store_up gauge
moat_store_up 0
`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), "moat_bans", "moat_bans_added_total", "moat_bans_dropped_total", "moat_bans_lifted_total",
		"moat_policy_info", "moat_policy_loaded_timestamp_seconds", "moat_policy_rules", "moat_store_decisions_total", "moat_store_late_total",
		"moat_store_roundtrip_seconds", "moat_store_up"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	// Without a store there are no series of one; rules of bans are bounded.
	m.SetStore(func() Store { return Store{} })
	m.SetBans(func() (b Bans) {
		for i := range 2 * maxLists {
			b.Rules = append(b.Rules, BanRule{Rule: fmt.Sprint(i), Active: 1})
		}
		return b
	})
	m.SetPolicies(func() []Policy { return nil })
	if n := testutil.CollectAndCount(m, "moat_store_up", "moat_store_decisions_total", "moat_policy_info"); n != 0 {
		t.Errorf("%d series without a store and a policy", n)
	}
	if n := testutil.CollectAndCount(m, "moat_bans"); n != maxLists+1 {
		t.Errorf("%d series of bans", n)
	}
}

package ban

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestStatsByRule(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	table := NewTable(func() time.Time { return now }, nil)
	prefix := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 32)
	}
	for i := range 3 {
		if _, err := table.Add(prefix(i), time.Duration(i+1)*time.Hour, Manual); err != nil {
			t.Fatal(err)
		}
	}
	heard := Ban{Prefix: prefix(7), Since: now, Until: now.Add(time.Hour), Rule: "login"}
	table.Apply(Change{Ban: heard})
	table.Apply(Change{Ban: heard}) // the same again
	table.Lift(prefix(2))
	table.Lift(prefix(2))
	want := []RuleStats{{"login", 1, 1, 0}, {Manual, 2, 3, 1}}
	if got := table.Stats().Rules; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	table.Apply(Change{Lift: true, Ban: heard})
	now = now.Add(90 * time.Minute)
	want = []RuleStats{{"login", 0, 1, 1}, {Manual, 1, 3, 1}}
	if got := table.Stats().Rules; !slices.Equal(got, want) {
		t.Errorf("later: %+v, want %+v", got, want)
	}
	// Other nodes cannot make series without bound.
	for i := range 2 * maxTotals {
		table.Apply(Change{Ban: Ban{Prefix: prefix(1000 + i), Since: now, Until: now.Add(time.Hour), Rule: fmt.Sprint("rule ", i)}})
	}
	rules := table.Stats().Rules
	active := 0
	for _, r := range rules {
		active += r.Active
	}
	if len(rules) != maxTotals+1 || active != 2*maxTotals+1 {
		t.Errorf("%d rules, %d bans in force", len(rules), active)
	}
}

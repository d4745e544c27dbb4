package ban

import (
	"cmp"
	"slices"
)

// Stats is the state of a Table.
type Stats struct {
	Bans    int    // in force or remembered
	Max     int    // bans that fit
	Dropped uint64 // bans that ended early, for want of a place
	Rules   []RuleStats
}

// RuleStats is the bans of one rule, or Manual. The counts are since the table was made.
type RuleStats struct {
	Rule   string
	Active int    // in force
	Added  uint64 // made here, or heard of from other nodes
	Lifted uint64 // ended early by an operator, here or elsewhere
}

// totals are the counts of one rule.
type totals struct{ added, lifted uint64 }

// maxTotals bounds the rules that are counted by name: other nodes name rules too.
// Further ones are counted as otherRules.
const (
	maxTotals  = 256
	otherRules = "other"
)

// total returns the counts of a rule; t.mu is held.
func (t *Table) total(rule string) *totals {
	rule = t.countedAs(rule)
	sum := t.totals[rule]
	if sum == nil {
		if t.totals == nil {
			t.totals = map[string]*totals{}
		}
		sum = new(totals)
		t.totals[rule] = sum
	}
	return sum
}

// countedAs returns the name under which a rule is counted; t.mu is held.
func (t *Table) countedAs(rule string) string {
	if t.totals[rule] == nil && len(t.totals) >= maxTotals {
		return otherRules
	}
	return rule
}

// Stats returns the state of the table, rules by name. It looks at every ban.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Stats{Bans: len(t.order), Max: t.max, Dropped: t.dropped}
	active := map[string]int{}
	now := t.now()
	for _, e := range t.order {
		if e.Until.After(now) {
			t.total(e.Rule) // one that was read from the file
			active[t.countedAs(e.Rule)]++
		}
	}
	for rule, sum := range t.totals {
		s.Rules = append(s.Rules, RuleStats{rule, active[rule], sum.added, sum.lifted})
	}
	slices.SortFunc(s.Rules, func(a, b RuleStats) int { return cmp.Compare(a.Rule, b.Rule) })
	return s
}

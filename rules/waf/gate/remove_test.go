package gate

import (
	"testing"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
)

// removals records what a gate takes away.
type removals struct {
	remover
	phase  types.RulePhase
	ranges [][2]int
}

func (r *removals) LastPhase() types.RulePhase { return r.phase }

func (r *removals) RemoveRuleByIDRange(start, end int) {
	r.ranges = append(r.ranges, [2]int{start, end})
}

// removed returns how many of the gated rules a phase loses, and how many there are.
func removed(tb testing.TB, waf coraza.WAF, g *Gate, r *request, phase types.RulePhase) (n, of int) {
	tx := r.evaluate(tb, waf)
	defer func() { _ = tx.Close() }()
	rec := &removals{remover: tx.(plugintypes.TransactionState).(remover), phase: phase}
	g.Apply(rec)
	for _, rule := range g.phases[phase].rules {
		for _, rng := range rec.ranges {
			if rule.id >= rng[0] && rule.id <= rng[1] {
				n++
			}
		}
	}
	for _, e := range g.phases[phase].order {
		for _, rng := range rec.ranges {
			if e.gated < 0 && e.id >= rng[0] && e.id <= rng[1] {
				tb.Errorf("rule %d is no rule to be taken away in phase %d", e.id, phase)
			}
		}
	}
	return n, len(g.phases[phase].rules)
}

// TestRemoves holds that the gate does take rules away. A gate that takes nothing
// away changes no verdict, so equality alone would prove nothing.
func TestRemoves(t *testing.T) {
	for level := 1; level <= 4; level++ {
		_, gated, g := load(t, coreRuleSet(level))
		for name, r := range workloads() {
			for phase, share := range map[types.RulePhase]int{1: 80, 2: 85} {
				n, of := removed(t, gated, g, r, phase)
				if of == 0 || n*100 < of*share {
					t.Errorf("PL%d %s: %d of %d rules of phase %d go, want %d %%", level, name, n, of, phase, share)
				}
			}
		}
		for key, s := range g.scanners {
			if s.once.Do(s.build); s.set == nil {
				t.Errorf("PL%d: no automaton for the %d patterns %.20s", level, len(s.probes), key)
			}
		}
		t.Logf("PL%d: %d bytes", level, g.automata.Size()-g.automata.Left())
	}
}

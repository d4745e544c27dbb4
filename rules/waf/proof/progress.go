package proof

import "sync/atomic"

// Progress returns a number that all proofs have in common whose largest automaton is
// the same: how far whoever prepares it has come. It is nil without an automaton.
func (p *Proof) Progress() *atomic.Int64 {
	var largest *scanner
	size := 0
	for key, s := range p.scans.sets {
		if s.set != nil && len(key) > size {
			largest, size = s, len(key)
		}
	}
	if largest == nil {
		return nil
	}
	return largest.set.Counter()
}

// Prepare makes what the automata need to read texts that they explode with, which
// takes some tenths of a second of CPU, unless stop returns true before. See
// [dfa.Set.Prepare].
func (p *Proof) Prepare(stop func() bool) {
	for _, s := range p.scans.sets {
		if s.set != nil && !stop() {
			s.set.Prepare(p.scans.automata, stop)
		}
	}
}

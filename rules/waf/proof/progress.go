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

package dfa

import "sync/atomic"

// A text of a kind that a Set has never read asks for more new states than a scan
// may make, and the Set cannot answer, though it could answer the same text at once
// if the states were there. So a Set lends: at first enough for many kinds of text,
// then in proportion to what it has read without any new state. What texts that are
// made to explode can spend is therefore bounded for the life of the Set by what
// they cost anyway.
const (
	lendMost  = 48 << 10 // states
	lendOnce  = 8 << 10
	lendTimes = 4 // to one text
	// lendBytes is how many bytes a Set reads for each state that it lends again.
	// Shorter texts do not count, so that the many scans of short texts write nothing.
	lendBytes = 1 << 10
)

// lender is what a Set has lent. The zero lender has lent nothing.
type lender struct{ lent atomic.Int64 }

// borrow returns how many of n states there are.
func (l *lender) borrow(n int) int {
	for {
		lent := l.lent.Load()
		got := min(int64(n), lendMost-lent)
		if got <= 0 {
			return 0
		}
		if l.lent.CompareAndSwap(lent, lent+got) {
			return int(got)
		}
	}
}

// repay gives states back, as far as any are lent.
func (l *lender) repay(n int) {
	for n > 0 {
		lent := l.lent.Load()
		if lent <= 0 || l.lent.CompareAndSwap(lent, max(0, lent-int64(n))) {
			return
		}
	}
}

// ScanLending is [Set.ScanWithin] for a text of any kind: where newStates do not
// suffice, the Set lends more of them, as long as it has any to lend. It clears out
// before.
func (s *Set) ScanLending(text string, out Bits, newStates *int) bool {
	out.Clear()
	had := *newStates
	if s.ScanWithin(text, out, newStates) {
		if *newStates == had {
			s.lender.repay(len(text) / lendBytes)
		}
		return true
	}
	for range lendTimes {
		if *newStates > 0 && had > 0 {
			return false // there is no memory for it, or one scan may not make more
		}
		lent := s.lender.borrow(lendOnce)
		if lent == 0 {
			return false
		}
		out.Clear()
		left := lent
		ok := s.ScanWithin(text, out, &left)
		s.lender.repay(left)
		if ok || left > 0 {
			return ok
		}
	}
	return false
}

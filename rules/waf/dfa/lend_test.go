package dfa

import (
	"slices"
	"strings"
	"testing"
)

// needy returns a Set and a text that asks it for more states than newStates.
func needy(t *testing.T) (*Set, string) {
	t.Helper()
	var b Builder
	for id, p := range crs(t, isRequestRx1)[:40] {
		if err := b.Add(id, p); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Build(Options{MaxBytes: 32 << 20, MaxNewStatesPerScan: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	texts := corpus(t)
	return s, strings.Join(texts[:min(len(texts), 400)], " ")
}

// TestScanLending holds that a text is answered for which the states of its request
// do not suffice, as it is once they are there.
func TestScanLending(t *testing.T) {
	s, text := needy(t)
	states, out := 8, s.NewBits()
	if s.ScanWithin(text, out, &states) {
		t.Fatal("the text needs no states")
	}
	states = 8
	if !s.ScanLending(text, out, &states) {
		t.Fatal("not answered")
	}
	if s.lender.lent.Load() == 0 {
		t.Error("nothing was lent")
	}
	want := s.NewBits()
	if !s.Scan(text, want) || !slices.Equal(out, want) {
		t.Errorf("%v, want %v", out, want)
	}
}

// TestLendingEnds holds that a Set that has nothing left to lend answers as
// ScanWithin does, and lends again when it has read enough.
func TestLendingEnds(t *testing.T) {
	s, text := needy(t)
	if got := s.lender.borrow(lendMost + 1); got != lendMost {
		t.Fatalf("%d states, want %d", got, lendMost)
	}
	states, out := 8, s.NewBits()
	if s.ScanLending(text, out, &states) {
		t.Error("answered without states")
	}
	if s.lender.lent.Load() != lendMost {
		t.Errorf("%d are lent, want %d", s.lender.lent.Load(), lendMost)
	}
	long := strings.Repeat("a", 64*lendBytes)
	for range 3 {
		states = 4096
		if !s.ScanLending(long, out, &states) {
			t.Fatal("a text of one letter is not answered")
		}
	}
	if got := s.lender.borrow(lendMost); got < 64 || got > 3*64 {
		t.Errorf("%d states are there after three texts of %d bytes", got, len(long))
	}
}

package filter

import (
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// notes keeps what it was told.
type notes struct{ got []uint64 }

func (n *notes) Finish(t Token, status int) { n.got = append(n.got, t.Lo, uint64(status)) }

func TestReleaseFinishes(t *testing.T) {
	for _, c := range []struct {
		name     string
		answered []int
		want     uint64
	}{
		{"unknown", nil, 0},
		{"told", []int{200}, 200},
		{"the first counts", []int{404, 200}, 404},
		{"informational", []int{103, 100, 401}, 401},
		{"switching protocols", []int{101}, 101},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := new(notes)
			r := NewRequest(httptest.NewRequest("GET", "/", nil), time.Now())
			r.Defer(n, Token{Lo: 1})
			r.Defer(n, Token{Lo: 2})
			if r.StatusAwaited() || !r.EndAwaited() {
				t.Error("the end alone is not awaited")
			}
			r.AwaitStatus()
			if !r.StatusAwaited() {
				t.Error("the status is not awaited")
			}
			for _, status := range c.answered {
				r.Answered(status)
			}
			r.Release()
			if want := []uint64{2, c.want, 1, c.want}; !slices.Equal(n.got, want) {
				t.Errorf("finished %v, want %v", n.got, want)
			}
			if r.StatusAwaited() || len(r.deferred) != 0 || r.deferred[:1][0].to != nil {
				t.Error("a released request remembers")
			}
		})
	}
}

func TestAnnounceIsBounded(t *testing.T) {
	r := NewRequest(httptest.NewRequest("GET", "/", nil), time.Now())
	for range 3 * maxAnnounced {
		r.Announce(Limit{Tier: "a"})
	}
	if len(r.Limits) != maxAnnounced {
		t.Errorf("%d limits are kept", len(r.Limits))
	}
	r.Release()
	if len(r.Limits) != 0 || r.Limits[:1][0].Tier != "" {
		t.Error("a released request remembers its limits")
	}
}

func TestDeferAllocatesNothing(t *testing.T) {
	hr := httptest.NewRequest("GET", "/", nil)
	n := &notes{got: make([]uint64, 0, 4)}
	if got := testing.AllocsPerRun(1000, func() {
		n.got = n.got[:0]
		r := NewRequest(hr, time.Time{})
		r.Defer(n, Token{1, 2})
		r.Announce(Limit{Tier: "a"})
		r.Release()
	}); got > 0.1 { // a collection may empty the pool meanwhile
		t.Errorf("%v allocations", got)
	}
}

package waf

import (
	"testing"

	"github.com/moatwaf/moat/filter"
)

// TestWarm holds that ordinary texts are read before the first request, and that the
// requests that are read for it are ordinary: nearly all are proved to be clean.
func TestWarm(t *testing.T) {
	if testing.Short() || raceSlows > 1 {
		t.Skip("seconds of CPU")
	}
	s := mustNew(t, Config{Fast: true, Warm: true})
	start := processCPU(t)
	if err := s.Warmed(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v of CPU", processCPU(t)-start)
	proved, all := 0, ordinary()
	for _, request := range all {
		r := filter.NewRequest(request(), testTime)
		r.Client = r.Peer
		i, err := s.Inspect(r)
		if err != nil {
			t.Fatal(err)
		}
		if i.Proved {
			proved++
		} else {
			t.Logf("%s %s: %+v %v", r.HTTP.Method, r.HTTP.URL, i.Judged, i.Rules)
		}
		r.Release()
	}
	if proved < len(all)*3/4 {
		t.Errorf("%d of %d are proved", proved, len(all))
	}
}

// TestWarmEnds holds that the last user of an engine ends its background work, and
// that a stage without it does not wait.
func TestWarmEnds(t *testing.T) {
	s, err := New(Config{Fast: true, Warm: true, Threshold: 77})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Warmed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := mustNew(t, Config{Threshold: 78}).Warmed(t.Context()); err != nil {
		t.Fatal(err)
	}
}

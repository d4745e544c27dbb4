package waf

import (
	"testing"
	"testing/synctest"
	"time"

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

// TestWarmRests holds that the background work gives way: it rests after each slice, long
// while requests come, and not at all when nobody uses the engine any more.
func TestWarmRests(t *testing.T) {
	for _, c := range []struct {
		name        string
		asked, stop bool
		took, want  time.Duration
	}{
		{"nobody asks", false, false, 40 * time.Millisecond, 10 * time.Millisecond},
		{"requests come", true, false, 10 * time.Millisecond, 90 * time.Millisecond},
		{"a long slice", true, false, time.Second, restMost},
		{"nobody uses it", true, true, time.Second, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &warmer{}
				w.busy.Store(true)
				w.stop.Store(c.stop)
				if c.asked {
					w.noticed()
				}
				start := time.Now()
				w.rest(c.took)
				if got := time.Since(start); got != c.want {
					t.Errorf("rests for %v, want %v", got, c.want)
				}
				if w.asked.Load() {
					t.Error("the request is remembered for the next slice")
				}
			})
		})
	}
}

// TestWarmNotices holds that only a warm-up that is at work is told of requests.
func TestWarmNotices(t *testing.T) {
	w := &warmer{}
	if w.noticed(); w.asked.Load() {
		t.Error("noted without a warm-up")
	}
	start := time.Now()
	if w.rest(time.Hour); time.Since(start) > time.Minute {
		t.Error("rests without a warm-up")
	}
}

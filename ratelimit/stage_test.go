package ratelimit

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

func TestRefusal(t *testing.T) {
	s := mustStage(t, Options{}, Tier{ID: "login", Key: mustKey(t, "ip"), Rate: Rate{5, time.Minute}, Burst: 3})
	for i := range 3 {
		if !passes(t, s, request("/", "192.0.2.1", 0)) {
			t.Fatalf("request %d of a burst of 3 is refused", i+1)
		}
	}
	d, err := s.Check(request("/", "192.0.2.1", 500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if d.Verdict != filter.Block || d.Reason != filter.ReasonRateLimit || d.StatusCode() != 403 || d.Rule != "login" || d.Stage != s.Name() {
		t.Errorf("decision %+v", d)
	}
	want := filter.Limit{Tier: "login", Quota: 3, Window: 36 * time.Second, Remaining: 0, Reset: 11500 * time.Millisecond}
	if d.Limit == nil || *d.Limit != want {
		t.Errorf("limit %+v, want %+v", d.Limit, want)
	}
	if !passes(t, s, request("/", "192.0.2.2", 0)) {
		t.Error("another client is refused")
	}
	if passes(t, s, request("/", "192.0.2.1", 12*time.Second-1)) {
		t.Error("let through a nanosecond before Reset")
	}
	if !passes(t, s, request("/", "192.0.2.1", 12*time.Second)) {
		t.Error("refused after Reset")
	}
	if passes(t, s, request("/", "192.0.2.1", 12*time.Second)) {
		t.Error("one token was given twice")
	}
}

func TestOrder(t *testing.T) {
	ip := mustKey(t, "ip")
	s := mustStage(t, Options{},
		Tier{ID: "login", Match: pathPrefix("/login"), Key: ip, Rate: perSecond(1), Burst: 1, Status: 429},
		Tier{ID: "api", Match: pathPrefix("/api"), Key: ip, Rate: perSecond(1), Burst: 2},
	)
	check := func(path, rule string, status int) {
		t.Helper()
		d, err := s.Check(request(path, "192.0.2.1", 0))
		if err != nil || d.Rule != rule || d.StatusCode() != status {
			t.Errorf("%s: rule %q, status %d (%v), want %q, %d", path, d.Rule, d.StatusCode(), err, rule, status)
		}
	}
	check("/login", "", 0)
	check("/login", "login", 429)
	check("/api", "", 0) // the tiers count by themselves
	check("/api", "", 0)
	check("/api", "api", 403)
	for range 10 {
		check("/open", "", 0) // no tier
	}
}

func TestDetect(t *testing.T) {
	ip := mustKey(t, "ip")
	s := mustStage(t, Options{},
		Tier{ID: "trial", Key: ip, Rate: perSecond(1), Burst: 1, Detect: true},
		Tier{ID: "real", Key: ip, Rate: perSecond(1), Burst: 2},
	)
	var rules []string
	for range 3 {
		r := request("/", "192.0.2.1", 0)
		d, err := s.Check(r)
		if err != nil {
			t.Fatal(err)
		}
		line := d.Rule
		for _, detected := range r.Detected {
			if detected.Limit == nil || detected.Reason != filter.ReasonRateLimit {
				t.Errorf("detected %+v", detected)
			}
			line += "+" + detected.Rule
		}
		rules = append(rules, line)
	}
	if got, want := strings.Join(rules, " "), " +trial real+trial"; got != want {
		t.Errorf("refused and detected: %q, want %q", got, want)
	}
}

// TestAmbiguousPath: each reading is charged to the tier that it leads to.
func TestAmbiguousPath(t *testing.T) {
	ip := mustKey(t, "ip")
	tiers := []Tier{
		{ID: "admin", Match: pathPrefix("/admin/"), Key: ip, Rate: perSecond(1), Burst: 2},
		{ID: "all", Key: ip, Rate: perSecond(1), Burst: 100},
	}
	const path = "/x/..%2fadmin/y" // "/admin/y", or one odd segment
	if r := request(path, "192.0.2.1", 0); !r.Ambiguous() {
		t.Fatalf("%s has one reading, %s", path, r.Path)
	}
	s := mustStage(t, Options{}, tiers...)
	for i, want := range []string{"", "", "admin"} {
		d, err := s.Check(request(path, "192.0.2.1", 0))
		if err != nil || d.Rule != want {
			t.Errorf("request %d: refused by %q (%v), want %q", i+1, d.Rule, err, want)
		}
	}
	if passes(t, s, request("/admin/y", "192.0.2.1", 0)) {
		t.Error("the plain path is let through after the ambiguous one used up the tier")
	}

	// One tier for all readings is charged once.
	once := mustStage(t, Options{}, Tier{ID: "all", Key: ip, Rate: perSecond(1), Burst: 4})
	for i := range 4 {
		if !passes(t, once, request(path, "192.0.2.1", 0)) {
			t.Fatalf("request %d of a burst of 4 is refused", i+1)
		}
	}
	if passes(t, once, request(path, "192.0.2.1", 0)) {
		t.Error("fifth request of a burst of 4 is let through")
	}

	// Counted by path, an ambiguous request uses up each of its paths.
	byPath := mustStage(t, Options{}, Tier{ID: "path", Key: mustKey(t, "path"), Rate: perSecond(1), Burst: 1})
	if !passes(t, byPath, request(path, "192.0.2.1", 0)) {
		t.Error("first request is refused")
	}
	if passes(t, byPath, request("/admin/y", "192.0.2.1", 0)) {
		t.Error("the path that a reading has used up is let through")
	}
}

func TestMatcherError(t *testing.T) {
	fault := errors.New("no such field")
	s := mustStage(t, Options{},
		Tier{ID: "expr", Match: broken{fault}, Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 1},
		Tier{ID: "all", Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 1},
	)
	for _, path := range []string{"/", "/x/..%2fadmin/y"} {
		if _, err := s.Check(request(path, "192.0.2.1", 0)); !errors.Is(err, fault) {
			t.Errorf("%s: error %v, want %v", path, err, fault)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := Tier{ID: "a", Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 1}
	change := func(f func(*Tier)) []Tier { bad := good; f(&bad); return []Tier{bad} }
	for _, c := range []struct {
		name  string
		tiers []Tier
		o     Options
		want  string
	}{
		{"zero-tier", []Tier{{}}, Options{}, `tier "": has no id`},
		{"no-id", change(func(t *Tier) { t.ID = "" }), Options{}, "has no id"},
		{"no-key", change(func(t *Tier) { t.Key = Key{} }), Options{}, `tier "a": has no key`},
		{"no-rate", change(func(t *Tier) { t.Rate = Rate{} }), Options{}, "is not positive"},
		{"negative-rate", change(func(t *Tier) { t.Rate.Count = -1 }), Options{}, "is not positive"},
		{"rate-too-high", change(func(t *Tier) { t.Rate = Rate{2, time.Microsecond} }), Options{}, "is more than"},
		{"rate-too-low", change(func(t *Tier) { t.Rate.Per = 1 << 62 }), Options{}, "more than a year"},
		{"burst-0", change(func(t *Tier) { t.Burst = 0 }), Options{}, "burst of 0"},
		{"negative-burst", change(func(t *Tier) { t.Burst = -1 }), Options{}, "burst of -1"},
		{"burst-of-centuries", change(func(t *Tier) { t.Burst = 1 << 62 }), Options{}, "more than ten years"},
		{"status-404", change(func(t *Tier) { t.Status = 404 }), Options{}, "status 404 is neither"},
		{"duplicate-id", []Tier{good, good}, Options{}, "id is not unique"},
		{"memory-too-small", []Tier{good}, Options{Memory: 100}, "memory of 100 bytes"},
		{"negative-memory", []Tier{good}, Options{Memory: -1}, "memory of -1 bytes"},
		{"unknown-full", []Tier{good}, Options{Full: 7}, "no such policy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := New(c.tiers, nil, c.o)
			if s != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New = %v, %v, want an error with %q", s, err, c.want)
			}
		})
	}

	_, err := New([]Tier{{ID: "x"}, good, {ID: "y"}}, nil, Options{})
	var tierErr *TierError
	if !errors.As(err, &tierErr) || tierErr.Index != 0 || !strings.Contains(err.Error(), `"x"`) || !strings.Contains(err.Error(), `"y"`) {
		t.Errorf("New = %v, want the faults of x and y", err)
	}
}

// TestReload: an unchanged tier keeps its buckets, a changed one begins anew.
func TestReload(t *testing.T) {
	login := Tier{ID: "login", Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 2}
	global := mustKey(t, "global")
	state := NewState()
	made := func(tier Tier, o Options) *Stage {
		t.Helper()
		s, err := New([]Tier{tier}, state, o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	left := func(s *Stage) (n int) {
		t.Helper()
		for passes(t, s, request("/", "192.0.2.1", 0)) {
			n++
		}
		return n
	}
	first := made(login, Options{})
	if got := left(first); got != 2 {
		t.Errorf("a fresh client may make %d requests, want 2", got)
	}
	moved := login
	moved.Match, moved.Status, moved.Detect = pathPrefix("/"), 429, false
	if got := left(made(moved, Options{Full: FullPass})); got != 0 {
		t.Errorf("after a reload with another condition: %d requests, want 0", got)
	}
	for name, change := range map[string]func(*Tier){
		"rate":  func(t *Tier) { t.Rate = perSecond(2) },
		"burst": func(t *Tier) { t.Burst = 1 },
		"key":   func(t *Tier) { t.Key = global },
		"id":    func(t *Tier) { t.ID = "other" },
	} {
		changed := login
		change(&changed)
		if got := left(made(changed, Options{})); got != changed.Burst {
			t.Errorf("after another %s: %d requests, want the burst, %d", name, got, changed.Burst)
		}
	}
	if got := left(made(login, Options{})); got != 0 {
		t.Errorf("after the first tier came back: %d requests, want 0", got)
	}
	runtime.KeepAlive(first)
}

// TestTablesAreDropped: the tables of stages that are gone are gone.
func TestTablesAreDropped(t *testing.T) {
	state := NewState()
	tier := Tier{ID: "kept", Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 2}
	kept, err := New([]Tier{tier}, state, Options{})
	if err != nil {
		t.Fatal(err)
	}
	tier.ID = "gone"
	if _, err := New([]Tier{tier}, state, Options{}); err != nil {
		t.Fatal(err)
	}
	stats := state.Stats()
	for range 10 { // a stack may hold on to the table for a collection or two
		runtime.GC()
		if stats = state.Stats(); len(stats) == 1 {
			break
		}
	}
	if len(stats) != 1 || stats[0].Tier != "kept" {
		t.Errorf("tables %+v, want that of the kept tier", stats)
	}
	runtime.KeepAlive(kept)
}

func TestStats(t *testing.T) {
	state := NewState()
	s, err := New([]Tier{{ID: "a", Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 2}}, state, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		passes(t, s, request("/", "192.0.2.1", 0))
	}
	passes(t, s, request("/", "192.0.2.2", 0))
	got := state.Stats()
	if len(got) != 1 || got[0].Keys != 2 || got[0].Admitted != 3 || got[0].Refused != 3 || got[0].Full != 0 || got[0].MaxBytes != DefaultMemory || got[0].Bytes <= 0 || got[0].Bytes > got[0].MaxBytes {
		t.Errorf("Stats = %+v", got)
	}
	if s.Len() != 1 {
		t.Errorf("Len = %d", s.Len())
	}
}

func TestAllocations(t *testing.T) {
	s := mustStage(t, Options{},
		Tier{ID: "login", Match: pathPrefix("/login"), Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 1},
		Tier{ID: "header", Match: pathPrefix("/header"), Key: mustKey(t, "header:X-Key"), Rate: perSecond(1_000_000), Burst: 1_000_000},
		Tier{ID: "path", Match: pathPrefix("/path"), Key: mustKey(t, "path"), Rate: perSecond(1_000_000), Burst: 1_000_000},
		Tier{ID: "all", Key: mustKey(t, "ip"), Rate: perSecond(1_000_000), Burst: 1_000_000},
	)
	withKey := request("/header", "192.0.2.1", 0)
	withKey.HTTP.Header.Set("X-Key", "some-key")
	for name, r := range map[string]*filter.Request{
		"v4": request("/", "192.0.2.1", 0), "v6": request("/", "2001:db8::1", 0), "header": withKey, "path": request("/path", "192.0.2.1", 0),
	} {
		if n := testing.AllocsPerRun(1000, func() {
			if d, err := s.Check(r); err != nil || d.Refuses() {
				t.Fatalf("%s: %+v, %v", name, d, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestTierOfRequest holds that a request tells which tier has counted it.
func TestTierOfRequest(t *testing.T) {
	tier := func(id string, detect bool) Tier {
		return Tier{ID: id, Key: mustKey(t, "ip"), Rate: Rate{1, time.Hour}, Burst: 1, Detect: detect}
	}
	s := mustStage(t, Options{}, tier("watched", true), tier("counted", false), tier("later", false))
	r := request("/", "192.0.2.1", 0)
	if !passes(t, s, r) || r.Tier != "counted" {
		t.Errorf("tier %q", r.Tier)
	}
}

package ratelimit

import (
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

func TestFailures(t *testing.T) {
	state := NewState()
	f, err := NewFailures(Rate{Count: 2, Per: time.Second}, 5, state)
	if err != nil {
		t.Fatal(err)
	}
	r := filter.NewRequest(httptest.NewRequest("GET", "/", nil), time.Now())
	defer r.Release()
	start := r.Now
	at := func(d time.Duration, addr string) { r.Now, r.Client = start.Add(d), netip.MustParseAddr(addr) }
	refused := func() bool {
		d, err := f.Check(r)
		if err != nil {
			t.Fatal(err)
		}
		if d.Refuses() && (d.Reason != filter.ReasonRateLimit || d.Rule != FailuresID || d.Limit == nil || d.Limit.Reset <= 0) {
			t.Errorf("%+v", d)
		}
		return d.Refuses()
	}
	var current CurrentFailures
	bad := filter.Decision{Verdict: filter.Challenge, Stage: "auth", Reason: filter.ReasonBadCredentials}
	current.Observe(r, bad, nil) // nothing in force
	current.Set(f)

	at(0, "192.0.2.1")
	// What is no failure costs nothing.
	for range 100 {
		for _, d := range []filter.Decision{
			filter.Allowed(), {Verdict: filter.Challenge, Reason: filter.ReasonNoCredentials}, {Reason: filter.ReasonRateLimit}, {Reason: filter.ReasonForbidden},
		} {
			current.Observe(r, d, nil)
		}
		if refused() {
			t.Fatal("refused without a failure")
		}
	}
	for i := range 5 {
		if refused() {
			t.Fatalf("refused behind %d failures", i)
		}
		current.Observe(r, bad, nil)
	}
	if !refused() {
		t.Error("the sixth is verified")
	}
	at(0, "192.0.2.2")
	if refused() {
		t.Error("a neighbour is refused")
	}
	at(500*time.Millisecond, "192.0.2.1")
	if refused() {
		t.Error("a failure has come back")
	}
	current.Observe(r, bad, nil)
	if !refused() {
		t.Error("more than one has come back")
	}
	// An equal one over a reload knows what happened, another does not.
	again, err := NewFailures(Rate{Count: 2, Per: time.Second}, 5, state)
	if err != nil {
		t.Fatal(err)
	}
	if d, _ := again.Check(r); !d.Refuses() {
		t.Error("forgotten over a reload")
	}
	r.Client = netip.Addr{}
	current.Observe(r, bad, nil) // nobody
	at(500*time.Millisecond, "192.0.2.3")
	if n := testing.AllocsPerRun(200, func() { _, _ = f.Check(r); f.Observe(r, bad, nil) }); n > 1 {
		t.Errorf("%v allocations", n) // one for a refusal
	}
	for _, faulty := range []struct {
		rate  Rate
		burst int
	}{{Rate{}, 1}, {Rate{Count: 1, Per: time.Second}, 0}, {Rate{Count: 1, Per: 24 * time.Hour}, 1_000_000}} {
		if _, err := NewFailures(faulty.rate, faulty.burst, nil); err == nil {
			t.Errorf("%+v is taken", faulty)
		}
	}
}

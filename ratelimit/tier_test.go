package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/respond"
)

// answered ends a request with a status.
func answered(r *filter.Request, status int) {
	r.Answered(status)
	r.Release()
}

func TestAlso(t *testing.T) {
	ip, host := mustKey(t, "ip"), mustKey(t, "host")
	s := mustStage(t, Options{},
		Tier{ID: "login", Match: pathPrefix("/login"), Key: ip, Rate: perSecond(1), Burst: 3, Also: true},
		Tier{ID: "all", Key: ip, Rate: perSecond(1), Burst: 2},
		Tier{ID: "host", Key: host, Rate: perSecond(1), Burst: 1},
	)
	for i, want := range []string{"", "", "all", "all", "all"} {
		d, err := s.Check(request("/login", "192.0.2.1", 0))
		if err != nil || d.Rule != want {
			t.Errorf("request %d: refused by %q (%v), want %q", i+1, d.Rule, err, want)
		}
	}
	// The refused ones cost nothing: one of the three tokens of login is left.
	if left, _ := s.tiers[0].table.left(s.tiers[0].table.spend(slotOf(t, ip, request("/", "192.0.2.1", 0)), s.state.now(epoch), s.tiers[0].cost).used); left != 0 {
		t.Errorf("%d tokens of login are left after one more, want 0", left)
	}
}

// TestChosenKeysDoNotReplaceAddresses: a client that takes a new key each time is
// stopped by the first tier by address.
func TestChosenKeysDoNotReplaceAddresses(t *testing.T) {
	for _, key := range []string{"header:X-Key", "cookie:sid", "path", "host"} {
		s := mustStage(t, Options{},
			Tier{ID: "chosen", Key: mustKey(t, key), Rate: perSecond(1), Burst: 5},
			Tier{ID: "other", Key: mustKey(t, "global"), Rate: perSecond(1), Burst: 1},
			Tier{ID: "address", Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 2},
			Tier{ID: "later", Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 1},
		)
		for i, want := range []string{"", "", "address"} {
			r := request(fmt.Sprintf("/%d", i), "192.0.2.1", 0)
			r.Host = fmt.Sprint(i)
			r.HTTP.Header.Set("X-Key", fmt.Sprint(i))
			r.HTTP.Header.Set("Cookie", fmt.Sprint("sid=", i))
			if d, err := s.Check(r); err != nil || d.Rule != want {
				t.Errorf("%s, request %d: refused by %q (%v), want %q", key, i+1, d.Rule, err, want)
			}
		}
	}
}

func TestConcurrent(t *testing.T) {
	tier := Tier{ID: "slow", Key: mustKey(t, "ip"), Concurrent: 2, Announce: true}
	state := NewState()
	s, err := New([]Tier{tier}, state, Options{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(s *Stage, client, want string) *filter.Request {
		t.Helper()
		r := request("/", client, 0)
		d, err := s.Check(r)
		if err != nil || d.Rule != want {
			t.Errorf("refused by %q (%v), want %q", d.Rule, err, want)
		}
		if want != "" && (d.Limit == nil || !d.Limit.Concurrent || d.Limit.Quota != tier.Concurrent || d.Limit.Remaining != 0) {
			t.Errorf("limit %+v", d.Limit)
		}
		return r
	}
	a, b := check(s, "192.0.2.1", ""), check(s, "192.0.2.1", "")
	if len(b.Limits) != 1 || b.Limits[0].Remaining != 0 {
		t.Errorf("announced %+v", b.Limits)
	}
	check(s, "192.0.2.1", "slow").Release()
	check(s, "192.0.2.2", "").Release()
	a.Release()
	c := check(s, "192.0.2.1", "")
	check(s, "192.0.2.1", "slow").Release()

	// A reload changes the limit; who is under way stays counted.
	tier.Concurrent = 3
	reloaded, err := New([]Tier{tier}, state, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := check(reloaded, "192.0.2.1", "")
	check(reloaded, "192.0.2.1", "slow").Release()
	for _, r := range []*filter.Request{b, c, d} {
		r.Release()
	}
	if st := state.Stats(); len(st) != 1 || st[0].Keys != 0 {
		t.Errorf("after the last request: %+v", st)
	}
}

func TestConcurrentIsBounded(t *testing.T) {
	tiers := []Tier{{ID: "slow", Key: mustKey(t, "ip/128"), Concurrent: 1}}
	for _, full := range []Full{FullBlock, FullPass} {
		s := mustStage(t, Options{Memory: MinMemory, Full: full}, tiers...)
		refused := 0
		for i := range 5000 {
			if !passes(t, s, request("/", fmt.Sprintf("2001:db8::%x", i+1), 0)) {
				refused++
			}
		}
		st := s.tiers[0].places.stats()
		if st.Bytes > MinMemory+int64(inflightShards)*256 || st.Full == 0 || (refused > 0) != (full == FullBlock) {
			t.Errorf("full=%d: %+v, %d refused", full, st, refused)
		}
	}
}

// TestConcurrentTwin holds the counts against the truth with many goroutines.
func TestConcurrentTwin(t *testing.T) {
	const limit = 3
	s := mustStage(t, Options{}, Tier{ID: "slow", Key: mustKey(t, "ip"), Concurrent: limit})
	var mu sync.Mutex
	under := map[string]int{}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			var mine []*filter.Request
			for range 5000 {
				client := fmt.Sprintf("192.0.2.%d", rng.IntN(4))
				if len(mine) > 0 && rng.IntN(2) == 0 {
					r := mine[len(mine)-1]
					mine = mine[:len(mine)-1]
					mu.Lock()
					under[r.Client.String()]--
					mu.Unlock()
					r.Release()
					continue
				}
				r := request("/", client, 0)
				if !passes(t, s, r) {
					r.Release()
					continue
				}
				mu.Lock()
				if under[client]++; under[client] > limit {
					t.Errorf("%s: %d under way", client, under[client])
				}
				mu.Unlock()
				mine = append(mine, r)
			}
			for _, r := range mine {
				mu.Lock()
				under[r.Client.String()]--
				mu.Unlock()
				r.Release()
			}
		})
	}
	wg.Wait()
	if st := s.tiers[0].places.stats(); st.Keys != 0 || st.Admitted == 0 || st.Refused == 0 {
		t.Errorf("in the end: %+v", st)
	}
}

func TestCost(t *testing.T) {
	s := mustStage(t, Options{},
		Tier{ID: "search", Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 12, Cost: 5},
	)
	for i, want := range []bool{true, true, false} {
		if got := passes(t, s, request("/", "192.0.2.1", 0)); got != want {
			t.Errorf("request %d: %t", i+1, got)
		}
	}
	d, _ := s.Check(request("/", "192.0.2.1", 0))
	if d.Limit.Remaining != 2 || d.Limit.Reset != 3*time.Second {
		t.Errorf("limit %+v, want 2 left and 3 s until there are 5", d.Limit)
	}
	if passes(t, s, request("/", "192.0.2.1", 3*time.Second-1)) || !passes(t, s, request("/", "192.0.2.1", 3*time.Second)) {
		t.Error("not let in after Reset and no earlier")
	}
}

func TestCostByStatus(t *testing.T) {
	tier := Tier{ID: "login", Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 20, CostByStatus: map[int]int{401: 10, 4: 5, 500: 20}}
	for _, c := range []struct {
		status, left int
	}{{200, 19}, {401, 10}, {403, 15}, {500, 0}, {503, 19}, {0, 19}} {
		s := mustStage(t, Options{}, tier)
		r := request("/", "192.0.2.1", 0)
		if !passes(t, s, r) || !r.StatusAwaited() {
			t.Fatal("first request is refused, or its status not awaited")
		}
		answered(r, c.status)
		n := 0
		for passes(t, s, request("/", "192.0.2.1", 0)) {
			n++
		}
		if n != c.left {
			t.Errorf("after a %d: %d requests, want %d", c.status, n, c.left)
		}
	}

	// More than there is takes what there is: nobody waits for longer than an
	// empty bucket takes.
	s := mustStage(t, Options{}, tier)
	for range 8 {
		r := request("/", "192.0.2.1", 0)
		if _, err := s.Check(r); err != nil {
			t.Fatal(err)
		}
		answered(r, 500)
	}
	if d, _ := s.Check(request("/", "192.0.2.1", 0)); d.Limit == nil || d.Limit.Reset != time.Second {
		t.Errorf("limit %+v, want 1 s", d.Limit)
	}

	// A slow answer is charged to the present, and creates a key anew.
	s = mustStage(t, Options{}, tier)
	slow := request("/", "192.0.2.1", 0)
	passes(t, s, slow)
	for i := range 100 {
		passes(t, s, request("/", fmt.Sprintf("192.0.2.%d", 2+i), time.Hour))
	}
	answered(slow, 500)
	if st := s.tiers[0].table.stats(); st.Admitted != 101 {
		t.Errorf("%+v", st)
	}
}

func TestNewRefusesCosts(t *testing.T) {
	good := Tier{ID: "a", Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 10}
	for name, c := range map[string]struct {
		change func(*Tier)
		want   string
	}{
		"cost-over-burst":       {func(t *Tier) { t.Cost = 11 }, "cost of 11"},
		"cost-negative":         {func(t *Tier) { t.Cost = -1 }, "cost of -1"},
		"status-cost-too-low":   {func(t *Tier) { t.Cost = 5; t.CostByStatus = map[int]int{401: 4} }, "cost of 4 for status 401"},
		"status-cost-too-high":  {func(t *Tier) { t.CostByStatus = map[int]int{401: 11} }, "cost of 11 for status 401"},
		"status-unknown":        {func(t *Tier) { t.CostByStatus = map[int]int{42: 2} }, "42 is no status"},
		"concurrent-negative":   {func(t *Tier) { t.Concurrent = -1 }, "-1 concurrent"},
		"cost-without-rate":     {func(t *Tier) { t.Rate = Rate{}; t.Concurrent = 1 }, "need a rate"},
		"neither-rate-nor-more": {func(t *Tier) { t.Rate = Rate{} }, "is not positive"},
	} {
		bad := good
		c.change(&bad)
		if _, err := New([]Tier{bad}, nil, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestAnnounced: the fields of an answer are true to the second. Who waits for t
// has one more, and who waits a nanosecond less than the exact time has not.
func TestAnnounced(t *testing.T) {
	tier := Tier{ID: "api", Key: mustKey(t, "ip"), Rate: Rate{10, time.Minute}, Burst: 4, Announce: true}
	s := mustStage(t, Options{}, tier)
	at := func(after time.Duration) (state, policy, retry string, l filter.Limit) {
		r := request("/", "192.0.2.1", after)
		defer r.Release()
		d, err := s.Check(r)
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		respond.SetLimits(h, r.Limits)
		if d.Refuses() {
			respond.SetHeader(h, d)
			l = *d.Limit
		} else {
			l = r.Limits[0]
		}
		return h.Get("RateLimit"), h.Get("RateLimit-Policy"), h.Get("Retry-After"), l
	}
	for i, c := range []struct {
		after        time.Duration
		state, retry string
	}{
		{0, `"api";r=3;t=6`, ""},
		{0, `"api";r=2;t=6`, ""},
		{time.Second, `"api";r=1;t=5`, ""},
		{time.Second + 1, `"api";r=0;t=5`, ""}, // 4.999999999 s, rounded up
		{2 * time.Second, `"api";r=0;t=4`, "4"},
		{2*time.Second + 1, `"api";r=0;t=4`, "4"},
		{5999 * time.Millisecond, `"api";r=0;t=1`, "1"},
		{6*time.Second - 1, `"api";r=0;t=1`, "1"},
		{6 * time.Second, `"api";r=0;t=6`, ""}, // the token that came back is taken
		{6 * time.Second, `"api";r=0;t=6`, "6"},
		{time.Hour, `"api";r=3;t=6`, ""},
	} {
		state, policy, retry, _ := at(c.after)
		if state != c.state || retry != c.retry || policy != `"api";q=4;w=24` {
			t.Errorf("%d, after %s: RateLimit %s, Retry-After %q, policy %s, want %s, %q", i, c.after, state, retry, policy, c.state, c.retry)
		}
	}

	// Random arrivals: what was told holds.
	rng := rand.New(rand.NewPCG(5, 6))
	now := 2 * time.Hour
	for range 20_000 {
		now += time.Duration(rng.Int64N(int64(8 * time.Second)))
		client := fmt.Sprintf("198.51.100.%d", rng.IntN(3))
		r := request("/", client, now)
		d, _ := s.Check(r)
		if d.Refuses() {
			wait := d.Limit.Reset
			if passes(t, s, request("/", client, now+wait-1)) {
				t.Fatalf("let in before %s are over", wait)
			}
			told, _ := time.ParseDuration(func() string { h := http.Header{}; respond.SetHeader(h, d); return h.Get("Retry-After") + "s" }())
			if told < wait || told-wait >= time.Second {
				t.Fatalf("told to wait %s, %s are exact", told, wait)
			}
			if now += told; !passes(t, s, request("/", client, now)) {
				t.Fatalf("refused after the %s that it was told", told)
			}
		}
		r.Release()
	}
}

// exprValue is an expression.
type exprValue struct{ err error }

func (v exprValue) Value(r *filter.Request) (string, error) { return r.Host, v.err }

func TestExprKey(t *testing.T) {
	s := mustStage(t, Options{}, Tier{ID: "expr", Key: ExprKey("http.host", exprValue{}), Rate: perSecond(1), Burst: 1})
	if !passes(t, s, request("/", "192.0.2.1", 0)) || passes(t, s, request("/", "192.0.2.2", 0)) {
		t.Error("requests of one host are not counted together")
	}
	bad := mustStage(t, Options{}, Tier{ID: "expr", Key: ExprKey("x", exprValue{fmt.Errorf("no value")}), Rate: perSecond(1), Burst: 1})
	if _, err := bad.Check(request("/", "192.0.2.1", 0)); err == nil {
		t.Error("an expression without a value lets the request through")
	}
}

// TestNeverMoreThanRateInTokens: with costs, costs by status and several tiers at
// once, no tier grants more tokens than its burst and its rate.
func TestNeverMoreThanRateInTokens(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for round := range 40 {
		tiers := make([]Tier, 3)
		for i := range tiers {
			burst := 2 + rng.IntN(30)
			cost := 1 + rng.IntN(burst)
			tiers[i] = Tier{
				ID: fmt.Sprint(i), Key: mustKey(t, "ip"), Rate: perSecond(1 + rng.IntN(20)), Burst: burst, Also: true,
				Cost: cost, CostByStatus: map[int]int{401: cost + rng.IntN(burst-cost+1)},
			}
		}
		s := mustStage(t, Options{Memory: MinMemory}, tiers...)
		admitted := 0
		var now time.Duration
		for i := range 3000 {
			now += time.Duration(rng.ExpFloat64() * float64(time.Second) / 10)
			if rng.IntN(200) == 0 {
				now += time.Duration(rng.Int64N(int64(10 * time.Second)))
			}
			passes(t, s, request("/", fmt.Sprintf("198.51.100.%d", i%200), now))
			r := request("/", "192.0.2.1", now)
			if passes(t, s, r) {
				admitted++
			}
			answered(r, []int{200, 401}[rng.IntN(2)])
			for j, tier := range tiers {
				if most := tier.Burst + int(now/tier.Rate.interval()); admitted*tier.Cost > most {
					t.Fatalf("round %d: tier %d granted %d tokens in %s, %d at most", round, j, admitted*tier.Cost, now, most)
				}
			}
		}
		// And not less than the strictest grants: the last is limiting.
		if admitted == 0 {
			t.Errorf("round %d: nothing was let through", round)
		}
	}
}

func TestTierAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools at random")
	}
	s := mustStage(t, Options{},
		Tier{ID: "slow", Key: mustKey(t, "cookie:sid"), Concurrent: 10, Also: true, Announce: true},
		Tier{ID: "rate", Key: mustKey(t, "ip"), Rate: perSecond(1000), Burst: 1 << 30, Announce: true, CostByStatus: map[int]int{401: 5}},
	)
	hr := httptest.NewRequest("GET", "/", nil)
	hr.Header.Set("Cookie", "a=b; sid=c")
	if n := testing.AllocsPerRun(1000, func() {
		r := filter.NewRequest(hr, epoch)
		if d, err := s.Check(r); err != nil || d.Refuses() {
			t.Fatalf("%+v, %v", d, err)
		}
		answered(r, 401)
	}); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}

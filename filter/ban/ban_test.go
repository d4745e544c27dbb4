package ban

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/filtertest"
)

var epoch = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// clock is a time that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newTestTable() (*Table, *clock) {
	c := &clock{t: epoch}
	return NewTable(c.now, nil), c
}

func request(client string, at time.Time) *filter.Request {
	r := filter.NewRequest(httptest.NewRequest("GET", "/", nil), at)
	r.Client = netip.Addr{}
	if client != "" {
		r.Client = netip.MustParseAddr(client)
	}
	return r
}

// banned returns the rule that refuses a client now.
func banned(t *testing.T, table *Table, client string) string {
	t.Helper()
	d, err := table.Check(request(client, table.now()))
	if err != nil {
		t.Fatal(err)
	}
	if d.Refuses() != (d.Reason == filter.ReasonBan) || d.Refuses() && (d.StatusCode() != 403 || d.Stage != "ban" || d.Detail == "") {
		t.Errorf("decision %+v", d)
	}
	return d.Rule
}

func ip(s string) netip.Prefix {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a := netip.MustParseAddr(s)
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return p
}

func TestAddAndLift(t *testing.T) {
	table, c := newTestTable()
	add := func(prefix string, d time.Duration, rule string) {
		t.Helper()
		if _, err := table.Add(ip(prefix), d, rule); err != nil {
			t.Fatal(err)
		}
	}
	add("192.0.2.1", time.Hour, "one")
	add("198.51.100.0/24", 2*time.Hour, "wide")
	add("198.51.100.7", time.Minute, "close")
	add("2001:db8::/64", time.Hour, "v6")
	add("::ffff:203.0.113.5", time.Hour, "mapped")
	for client, want := range map[string]string{
		"192.0.2.1": "one", "::ffff:192.0.2.1": "one", "192.0.2.2": "", "198.51.100.9": "wide", "198.51.100.7": "close",
		"2001:db8::ffff": "v6", "2001:db8:0:1::": "", "203.0.113.5": "mapped", "": "",
	} {
		if got := banned(t, table, client); got != want {
			t.Errorf("%s: banned by %q, want %q", client, got, want)
		}
	}
	c.add(time.Minute)
	if got := banned(t, table, "198.51.100.7"); got != "wide" {
		t.Errorf("when the close ban is over: %q, want the wide one", got)
	}
	c.add(59*time.Minute - 1)
	if got := banned(t, table, "192.0.2.1"); got != "one" {
		t.Errorf("a nanosecond before the end: %q", got)
	}
	c.add(1)
	if got := banned(t, table, "192.0.2.1"); got != "" {
		t.Errorf("at the end: %q", got)
	}
	if list := table.List(); len(list) != 1 || list[0].Rule != "wide" {
		t.Errorf("list %+v", list)
	}
	if lifted := table.Lift(ip("198.51.100.7")); len(lifted) != 1 || lifted[0].Rule != "wide" {
		t.Errorf("lifted %+v", lifted)
	}
	if got := banned(t, table, "198.51.100.7"); got != "" || len(table.Lift(ip("198.51.100.7"))) != 0 {
		t.Errorf("after lifting: %q", got)
	}
	for _, bad := range []string{"0.0.0.0/0", "::/0", "::ffff:0.0.0.0/90"} {
		if _, err := table.Add(ip(bad), time.Hour, "x"); err == nil {
			t.Errorf("%s can be banned", bad)
		}
	}
	for _, d := range []time.Duration{0, -1, MaxFor + 1} {
		if _, err := table.Add(ip("192.0.2.1"), d, "x"); err == nil {
			t.Errorf("a ban of %s is taken", d)
		}
	}
	if _, err := table.Add(netip.Prefix{}, time.Hour, "x"); err == nil {
		t.Error("no prefix can be banned")
	}
}

// offend makes n refusals of a client.
func offend(w *Watcher, client string, at time.Time, n int, reason filter.Reason) {
	for range n {
		w.Observe(request(client, at), filter.Decision{Reason: reason}, nil)
	}
}

func mustWatch(t *testing.T, table *Table, rules ...Rule) *Watcher {
	t.Helper()
	for i := range rules {
		if rules[i].IPv4Bits == 0 {
			rules[i].IPv4Bits, rules[i].IPv6Bits = 32, 64
		}
	}
	w, err := table.Watch(rules)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestBehaviourLeadsToBans(t *testing.T) {
	table, c := newTestTable()
	rule := Rule{ID: "five", After: 5, Within: time.Minute, For: 10 * time.Minute, Growth: 2, Max: 30 * time.Minute}
	w := mustWatch(t, table, rule)

	offend(w, "192.0.2.1", c.now(), 4, filter.ReasonRule)
	if banned(t, table, "192.0.2.1") != "" {
		t.Error("banned after four")
	}
	offend(w, "192.0.2.1", c.now().Add(time.Minute+1), 1, filter.ReasonPayload) // the window has passed
	if banned(t, table, "192.0.2.1") != "" {
		t.Error("banned after five in more than a minute")
	}
	// What does not count.
	for _, reason := range []filter.Reason{filter.ReasonNoCredentials, filter.ReasonForbidden, filter.ReasonUnavailable, filter.ReasonBan} {
		offend(w, "192.0.2.2", c.now(), 20, reason)
	}
	for range 20 {
		w.Observe(request("192.0.2.2", c.now()), filter.Allowed(), nil)
	}
	if banned(t, table, "192.0.2.2") != "" {
		t.Error("banned for what does not count")
	}
	// Bans grow, up to the bound.
	for i, want := range []time.Duration{10 * time.Minute, 20 * time.Minute, 30 * time.Minute, 30 * time.Minute} {
		offend(w, "192.0.2.3", c.now(), 5, filter.ReasonRateLimit)
		list := table.List()
		if len(list) != 1 || list[0].Level != i+1 || list[0].Until.Sub(c.now()) != want {
			t.Fatalf("ban %d: %+v, want %s", i+1, list, want)
		}
		offend(w, "192.0.2.3", c.now(), 50, filter.ReasonRule) // under way when the ban came
		if again := table.List(); again[0] != list[0] {
			t.Errorf("ban %d was renewed while it was in force: %+v", i+1, again)
		}
		c.add(want)
		if banned(t, table, "192.0.2.3") != "" {
			t.Errorf("ban %d is not over", i+1)
		}
	}
	// Who was quiet for as long as the longest ban begins anew.
	c.add(30 * time.Minute)
	offend(w, "192.0.2.3", c.now(), 5, filter.ReasonRule)
	if list := table.List(); len(list) != 1 || list[0].Level != 1 {
		t.Errorf("after a quiet time: %+v", list)
	}
	// A /64 counts as one.
	for i := range 5 {
		offend(w, fmt.Sprintf("2001:db8::%x", i), c.now(), 1, filter.ReasonOversize)
	}
	if banned(t, table, "2001:db8::abcd") != "five" || banned(t, table, "2001:db8:0:1::1") != "" {
		t.Error("not the /64 was banned")
	}
	offend(w, "", c.now(), 50, filter.ReasonMalformed) // nobody knows who it was
}

func TestReasonsAreChosen(t *testing.T) {
	table, c := newTestTable()
	w := mustWatch(t, table,
		Rule{ID: "guess", After: 2, Within: time.Minute, For: time.Minute, Reasons: []filter.Reason{filter.ReasonBadCredentials}},
		Rule{ID: "rate", After: 3, Within: time.Minute, For: time.Minute, Reasons: []filter.Reason{filter.ReasonRateLimit}, IPv4Bits: 24, IPv6Bits: 48},
	)
	for range 2 {
		w.Observe(request("192.0.2.1", c.now()), filter.Decision{Verdict: filter.Challenge, Reason: filter.ReasonBadCredentials}, nil)
	}
	offend(w, "192.0.2.1", c.now(), 2, filter.ReasonRateLimit)
	if got := banned(t, table, "192.0.2.1") + banned(t, table, "192.0.2.9"); got != "guess" {
		t.Errorf("banned by %q", got)
	}
	offend(w, "192.0.2.9", c.now(), 1, filter.ReasonRateLimit)
	if got := banned(t, table, "192.0.2.77"); got != "rate" {
		t.Errorf("the /24 is banned by %q", got)
	}
}

func TestReloadKeepsCounts(t *testing.T) {
	table, c := newTestTable()
	rule := Rule{ID: "a", After: 4, Within: time.Minute, For: time.Minute}
	var current Current
	current.Observe(request("192.0.2.1", c.now()), filter.Decision{Reason: filter.ReasonRule}, nil)
	for i := range 4 {
		w := mustWatch(t, table, rule)
		current.Set(w)
		if banned(t, table, "192.0.2.1") != "" {
			t.Fatalf("banned after %d", i)
		}
		current.Observe(request("192.0.2.1", c.now()), filter.Decision{Reason: filter.ReasonRule}, nil)
		rule.For = time.Duration(i+2) * time.Minute // what a ban is does not change what leads to it
	}
	if banned(t, table, "192.0.2.1") == "" {
		t.Error("not banned after four in four policies")
	}
}

func TestAllowRulesWin(t *testing.T) {
	table, _ := newTestTable()
	if _, err := table.Add(ip("192.0.2.1"), time.Hour, Manual); err != nil {
		t.Fatal(err)
	}
	p := filter.NewPipeline(filter.Config{Steps: []filter.Step{{Stage: allow("192.0.2.1")}, {Stage: table}}})
	for client, want := range map[string]filter.Verdict{"192.0.2.1": filter.Allow, "192.0.2.2": filter.Allow} {
		if d, err := p.Decide(request(client, epoch)); d.Verdict != want || err != nil {
			t.Errorf("%s: %v, %v", client, d.Verdict, err)
		}
	}
}

type allow string

func (allow) Name() string { return "access" }
func (a allow) Check(r *filter.Request) (filter.Decision, error) {
	if r.Client.String() == string(a) {
		return filter.Allowed(), nil
	}
	return filter.Next(), nil
}

func TestTableIsBounded(t *testing.T) {
	table, c := newTestTable()
	table.SetMax(100)
	for i := range 1000 {
		if _, err := table.Add(ip(fmt.Sprintf("10.0.%d.%d", i/250, i%250)), time.Duration(1+(i*7)%1000)*time.Minute, "a"); err != nil {
			t.Fatal(err)
		}
	}
	list := table.List()
	if len(list) != 100 || table.Stats().Bans != 100 || table.Stats().Dropped == 0 || table.current.Load().Size() != 100 {
		t.Fatalf("%d bans, %+v", len(list), table.Stats())
	}
	// Those that end first went first.
	if shortest := list[99].Until.Sub(c.now()); shortest < 900*time.Minute {
		t.Errorf("a ban of %s stayed", shortest)
	}
	c.add(1000 * time.Hour)
	if _, err := table.Add(ip("10.9.9.9"), time.Minute, "a"); err != nil || table.Stats().Bans != 1 {
		t.Errorf("bans that are over stay: %+v", table.Stats())
	}
}

func TestCounterIsBounded(t *testing.T) {
	c := newCounter(3, int64(time.Minute))
	for i := range 300_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if c.hit(netip.PrefixFrom(a, 32), int64(i)) {
			t.Fatal("one hit leads to a ban")
		}
	}
	n := 0
	for i := range c.shards {
		n += len(c.shards[i].keys)
		if len(c.shards[i].keys) != c.shards[i].quiet.Len() {
			t.Error("map and list differ")
		}
	}
	if n > counterKeys || n < counterKeys/2 {
		t.Errorf("%d prefixes are counted", n)
	}
}

// TestCounterTwin holds the rings against plain lists of all times.
func TestCounterTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	bans := 0
	for round := range 50 {
		n := 1 + rng.IntN(10)
		within := int64(1 + rng.IntN(1000))
		c := newCounter(n, within)
		all := map[netip.Prefix][]int64{}
		now := int64(0)
		for range 3000 {
			now += int64(rng.IntN(int(within)/n + 2))
			p := ip(fmt.Sprintf("10.0.0.%d", rng.IntN(3)))
			all[p] = append(all[p], now)
			want := len(all[p]) >= n && now-all[p][len(all[p])-n] <= within
			if got := c.hit(p, now); got != want {
				t.Fatalf("round %d: at %d: %t, want %t (%d in %d: %v)", round, now, got, want, n, within, all[p])
			}
			if want {
				bans++
				delete(all, p)
			}
		}
	}
	if bans < 1000 {
		t.Errorf("only %d bans", bans)
	}
}

func TestWatchRefuses(t *testing.T) {
	good := Rule{ID: "a", After: 5, Within: time.Minute, For: time.Minute, IPv4Bits: 32, IPv6Bits: 64}
	for name, c := range map[string]struct {
		change func(*Rule)
		want   string
	}{
		"no-id":                {func(r *Rule) { r.ID = "" }, "no id"},
		"after-zero":           {func(r *Rule) { r.After = 0 }, "0 blocks"},
		"after-too-many":       {func(r *Rule) { r.After = 1001 }, "1001 blocks"},
		"within-zero":          {func(r *Rule) { r.Within = 0 }, "not in 0s"},
		"for-zero":             {func(r *Rule) { r.For = 0 }, "not 0s"},
		"for-centuries":        {func(r *Rule) { r.For = 1 << 62 }, "ten years"},
		"growth-below-1":       {func(r *Rule) { r.Growth = 0.5 }, "growth"},
		"max-below-for":        {func(r *Rule) { r.Max = time.Second }, "the longest ban"},
		"bits-zero":            {func(r *Rule) { r.IPv4Bits = 0 }, "prefix lengths"},
		"reason-of-ban":        {func(r *Rule) { r.Reasons = []filter.Reason{filter.ReasonBan} }, "reason ban"},
		"reason-unavailable":   {func(r *Rule) { r.Reasons = []filter.Reason{filter.ReasonUnavailable} }, "reason unavailable"},
		"reason-of-no-refusal": {func(r *Rule) { r.Reasons = []filter.Reason{filter.ReasonNone} }, "reason none"},
	} {
		bad := good
		c.change(&bad)
		table, _ := newTestTable()
		if w, err := table.Watch([]Rule{good, bad}); w != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestParseAfter(t *testing.T) {
	n, within, err := ParseAfter("5 blocks in 1m", time.ParseDuration)
	if n != 5 || within != time.Minute || err != nil {
		t.Errorf("%d, %s, %v", n, within, err)
	}
	if n, _, err := ParseAfter("1 block in 90s", time.ParseDuration); n != 1 || err != nil {
		t.Error(n, err)
	}
	for _, bad := range []string{"", "5 blocks", "blocks in 1m", "-5 blocks in 1m", "5 blocks in x", "5 blocks in 1y", "5  blocks in 1m", "9999999 blocks in 1m", "5 blocks in 1m "} {
		if _, _, err := ParseAfter(bad, time.ParseDuration); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestApply says what a node takes over of another.
func TestApply(t *testing.T) {
	table, c := newTestTable()
	var told []Change
	table.SetPublish(func(c Change) { told = append(told, c) })
	remote := func(until time.Duration) Change {
		return Change{Ban: Ban{Prefix: ip("192.0.2.1"), Since: c.now(), Until: c.now().Add(until), Forget: c.now().Add(until), Rule: "far", Level: 1}}
	}
	table.Apply(remote(-time.Second))
	table.Apply(remote(2 * MaxFor))
	table.Apply(Change{})
	table.Apply(Change{Ban: Ban{Prefix: ip("0.0.0.0/0"), Until: c.now().Add(time.Hour)}})
	if len(table.List()) != 0 {
		t.Errorf("took %+v", table.List())
	}
	table.Apply(remote(time.Hour))
	table.Apply(remote(time.Minute)) // shorter
	if l := table.List(); len(l) != 1 || l[0].Until != c.now().Add(time.Hour) {
		t.Errorf("took %+v", l)
	}
	lift := remote(time.Hour)
	lift.Lift = true
	c.add(time.Second)
	if _, err := table.Add(ip("192.0.2.1"), 2*time.Hour, Manual); err != nil {
		t.Fatal(err)
	}
	table.Apply(lift) // of a ban that there is no more
	if len(table.List()) != 1 {
		t.Error("an old lift ended a new ban")
	}
	lift.Since = c.now()
	table.Apply(lift)
	if len(table.List()) != 0 {
		t.Error("the lift did nothing")
	}
	// News of the lifted ban that comes late bans nobody again; a new ban does.
	late := remote(time.Hour)
	table.Apply(late)
	if len(table.List()) != 0 {
		t.Error("late news of a ban undid its lift")
	}
	c.add(time.Second)
	table.Apply(remote(time.Hour))
	if len(table.List()) != 1 {
		t.Error("a new ban is not taken over")
	}
	if len(told) != 1 || told[0].Rule != Manual {
		t.Errorf("told the others %+v, want the manual ban alone", told)
	}
}

func TestConformance(t *testing.T) {
	table, _ := newTestTable()
	if _, err := table.Add(ip("192.0.2.0/24"), time.Hour, Manual); err != nil {
		t.Fatal(err)
	}
	filtertest.Stage(t, table)
}

func TestConcurrency(t *testing.T) {
	table, c := newTestTable()
	w := mustWatch(t, table, Rule{ID: "a", After: 3, Within: time.Minute, For: time.Minute, Growth: 2})
	if err := table.Persist(t.TempDir() + "/bans.log"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			for range 2000 {
				client := fmt.Sprintf("10.0.0.%d", rng.IntN(50))
				offend(w, client, c.now(), 1, filter.ReasonRule)
				_, _ = table.Check(request(client, c.now()))
				switch rng.IntN(50) {
				case 0:
					table.Lift(ip(client))
				case 1:
					table.List()
				case 2:
					c.add(time.Second)
				case 3:
					table.Apply(Change{Ban: Ban{Prefix: ip(client), Since: c.now(), Until: c.now().Add(time.Minute)}})
				}
			}
		})
	}
	wg.Wait()
	if err := table.Close(); err != nil {
		t.Error(err)
	}
	if a, b := len(table.entries), table.current.Load().Size(); a != b || a != len(table.order) {
		t.Errorf("%d in the map, %d in the tree, %d in the heap", a, b, len(table.order))
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	table, _ := newTestTable()
	for i := range 1000 {
		if _, err := table.Add(ip(fmt.Sprintf("10.0.%d.%d", i/250, i%250)), time.Hour, "a"); err != nil {
			t.Fatal(err)
		}
	}
	for _, client := range []string{"10.0.0.1", "192.0.2.1"} {
		r := request(client, epoch)
		if n := testing.AllocsPerRun(1000, func() { _, _ = table.Check(r) }); n != 0 {
			t.Errorf("%s: %v allocations", client, n)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	table := NewTable(nil, nil)
	for _, n := range []int{0, 100_000} {
		for i := range n {
			if _, err := table.Add(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), time.Hour, "a"); err != nil {
				b.Fatal(err)
			}
		}
		for _, client := range []string{"10.0.0.1", "192.0.2.1"} {
			b.Run(fmt.Sprintf("bans=%d/%s", n, client), func(b *testing.B) {
				r := request(client, time.Now())
				b.ReportAllocs()
				for b.Loop() {
					_, _ = table.Check(r)
				}
			})
		}
	}
}

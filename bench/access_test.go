package bench

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/policy"
)

// prefixes is how many entries the large list has.
const prefixes = 1_000_000

// largeList writes a list of random prefixes, half of them IPv4 /25 to /32 and
// half IPv6 /40 to /64, and returns them. None covers the documentation networks
// that the requests come from.
func largeList(tb testing.TB, file string, n int) []netip.Prefix {
	tb.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	list := make([]netip.Prefix, 0, n)
	var b strings.Builder
	for len(list) < n {
		var p netip.Prefix
		if len(list)%2 == 0 {
			v := 1<<24 + rng.Uint32N(190<<24)
			p, _ = netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}).Prefix(25 + rng.IntN(8))
		} else {
			var a [16]byte
			a[0], a[1] = 0x2a, byte(rng.Uint32N(16))
			for i := 2; i < 8; i++ {
				a[i] = byte(rng.Uint32())
			}
			p, _ = netip.AddrFrom16(a).Prefix(40 + rng.IntN(25))
		}
		list = append(list, p)
		fmt.Fprintln(&b, p)
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	return list
}

// start loads a policy, without payload rules and auth, and returns its engine.
func start(tb testing.TB, dir, list string) *policy.Runtime {
	tb.Helper()
	file := filepath.Join(dir, "policy.yaml")
	content := `version: 1
client_ip: {trusted_proxies: [10.0.0.0/8]}
lists: {drop: ` + list + `}
rules:
  - {id: drop, match: {ip: $drop}, action: block}
  - {id: embargo, match: {country: [KP, NO]}, action: block}
  - {id: admin, match: {path: /admin/*, not: {country: [DE, AT]}}, action: block}
tiers:
  - {id: login, match: {method: POST, path: /login}, key: ip, rate: 5/m}
  - {id: all, key: ip, rate: 1000000/s, burst: 1000000}
waf: {mode: off}
audit: {file: "off"}
`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	rt, err := policy.Start(tb.Context(), policy.Options{File: file, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := rt.Close(); err != nil {
			tb.Error(err)
		}
	})
	return rt
}

// requestFrom returns a request as it arrives through a trusted proxy.
func requestFrom(client string) *http.Request {
	hr := httptest.NewRequest(http.MethodGet, "http://www.example.com/products/4711?color=red", nil)
	hr.RemoteAddr = "10.1.2.3:4711"
	hr.Header.Set("X-Forwarded-For", client)
	hr.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36")
	return hr
}

// clients are addresses that no rule refuses, one of them in a country of the
// shipped database.
var clients = []string{"203.0.113.7", "8.8.8.8", "2001:db8:1::7"}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestLargeList holds what an allowed request costs, and what the list costs,
// against the bounds that the README of this room states.
func TestLargeList(t *testing.T) {
	if raceEnabled {
		t.Skip("memory and allocations are not those of a normal build under the race detector")
	}
	dir := t.TempDir()
	empty := start(t, t.TempDir(), "[]")
	before := heap()

	list := largeList(t, filepath.Join(dir, "drop.netset"), prefixes)
	began := time.Now()
	rt := start(t, dir, "{file: drop.netset}")
	took := time.Since(began)
	first := list[0].Addr().String()
	list = nil
	_ = list
	held := int64(heap()) - int64(before)
	t.Logf("%d prefixes: loaded in %v, %d MB more than an empty list", prefixes, took, held>>20)
	if took > 3*time.Second {
		t.Errorf("the policy was loaded in %v, want 3 s at most", took)
	}
	if held > 150<<20 {
		t.Errorf("the list holds %d MB, want 150 MB at most", held>>20)
	}
	if n := rt.Status().Summary.ListEntries; n != prefixes {
		t.Errorf("%d entries were loaded", n)
	}

	decide := func(rt *policy.Runtime, hr *http.Request, now time.Time) filter.Decision {
		r := filter.NewRequest(hr, now)
		d := rt.Engine().Decide(r)
		r.Release()
		return d
	}
	now := time.Now()
	for _, client := range clients {
		hr := requestFrom(client)
		if d := decide(rt, hr, now); d.Verdict != filter.Allow {
			t.Errorf("%s: %v by %s", client, d.Verdict, d.Rule)
		}
		if n := testing.AllocsPerRun(1000, func() { decide(rt, hr, now) }); n != 0 {
			t.Errorf("%s: %v allocations a request, want 0", client, n)
		}
	}
	if d := decide(rt, requestFrom(first), now); d.Rule != "drop" {
		t.Errorf("an address of the list: %v by %q", d.Verdict, d.Rule)
	}
	if d := decide(rt, requestFrom("175.45.176.1"), now); d.Rule != "embargo" {
		t.Errorf("a country of a rule: %v by %q", d.Verdict, d.Rule)
	}
	if d := decide(empty, requestFrom(first), now); d.Verdict != filter.Allow {
		t.Errorf("with an empty list: %v by %q", d.Verdict, d.Rule)
	}
}

// BenchmarkAllowed is an allowed request through client address, access rules
// with a list of a million prefixes, country, and tier.
func BenchmarkAllowed(b *testing.B) {
	dir := b.TempDir()
	largeList(b, filepath.Join(dir, "drop.netset"), prefixes)
	rt := start(b, dir, "{file: drop.netset}")
	now := time.Now() // one clock for all runs: a tier forgets nothing when it steps back
	for _, client := range clients {
		b.Run(strings.ReplaceAll(client, ":", "_"), func(b *testing.B) {
			hr := requestFrom(client)
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Microsecond) // as fast as the tier allows
				r := filter.NewRequest(hr, now)
				if rt.Engine().Decide(r).Verdict != filter.Allow {
					b.Fatal("refused")
				}
				r.Release()
			}
		})
	}
	b.Run("different clients", func(b *testing.B) {
		rng := rand.New(rand.NewPCG(3, 4))
		requests := make([]*http.Request, 4096)
		for i := range requests {
			requests[i] = requestFrom(fmt.Sprintf("203.%d.%d.%d", rng.IntN(256), rng.IntN(256), rng.IntN(256)))
		}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			now = now.Add(time.Microsecond)
			r := filter.NewRequest(requests[i%len(requests)], now)
			rt.Engine().Decide(r)
			r.Release()
			i++
		}
	})
}

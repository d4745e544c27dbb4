package access_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/gaissmai/bart"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/filtertest"
	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/access"
	"github.com/moatwaf/moat/rules/match"
)

// million is a list of 1,000,000 random prefixes, half of them IPv6, that holds
// no address for documentation.
var million = sync.OnceValue(func() *bart.Lite {
	rng := rand.New(rand.NewPCG(7, 8))
	list := new(bart.Lite)
	for list.Size() < 1_000_000 {
		b := [16]byte{0x2a, byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())}
		list.Insert(netip.PrefixFrom(netip.AddrFrom16(b), 33+rng.IntN(16)).Masked())
		v4 := [4]byte{1 + byte(rng.IntN(99)), byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())}
		list.Insert(netip.PrefixFrom(netip.AddrFrom4(v4), 20+rng.IntN(13)).Masked())
	}
	return list
})

// stage compiles rules as the policy does.
func stage(tb testing.TB, yaml string) *access.Stage {
	tb.Helper()
	var doc struct {
		Rules []struct {
			ID string `yaml:"id"`
			match.Condition
			Action string `yaml:"action"`
		} `yaml:"rules"`
	}
	if errs := rules.Decode("policy.yaml", []byte(yaml), &doc); errs != nil {
		tb.Fatal(errs)
	}
	office := new(bart.Lite)
	office.Insert(netip.MustParsePrefix("203.0.113.0/24"))
	env := &match.Env{
		List: func(name string) (match.AddrSet, bool) {
			if name == "drop" {
				return million(), true
			}
			return office, name == "office"
		},
		ListNames: []string{"drop", "office"},
	}
	var compiled []access.Rule
	for _, r := range doc.Rules {
		m, errs := r.Compile(env)
		if errs != nil {
			tb.Fatal(errs)
		}
		action := access.Block
		if r.Action == "allow" {
			action = access.Allow
		}
		compiled = append(compiled, access.Rule{ID: r.ID, Matcher: m, Action: action})
	}
	return access.New(compiled)
}

const usual = `
rules:
  - {id: office, match: {ip: $office}, action: allow}
  - {id: drop, match: {ip: $drop}, action: block}
  - {id: embargo, match: {country: [KP, NO]}, action: block}
  - {id: network, match: {asn: [64496, AS64497]}, action: block}
  - {id: admin-at-home, match: {path: /admin/*, not: {country: [DE, AT]}}, action: block}
`

// The allowed path of a policy with a list of a million prefixes, countries and
// networks takes no allocation.
func TestAllocs(t *testing.T) {
	s := stage(t, usual)
	for _, addr := range []string{"198.51.100.7", "2001:db8::7"} {
		r := filtertest.Get("/assets/app.js", filtertest.From(addr), filtertest.In("DE", 64500))
		d, err := s.Check(r)
		if err != nil || d.Verdict != filter.Continue {
			t.Fatalf("Check = %+v, %v", d, err)
		}
		if n := testing.AllocsPerRun(1000, func() { _, _ = s.Check(r) }); n != 0 {
			t.Errorf("%s: %v allocations", addr, n)
		}
	}
	r := filtertest.Get("/admin/users", filtertest.In("FR", 64500))
	if d, err := s.Check(r); err != nil || d.Rule != "admin-at-home" {
		t.Fatalf("Check = %+v, %v", d, err)
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = s.Check(r) }); n != 0 {
		t.Errorf("a refusal takes %v allocations", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	run := func(name string, s *access.Stage, r *filter.Request, want filter.Verdict) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d, err := s.Check(r); err != nil || d.Verdict != want {
					b.Fatal(d, err)
				}
			}
		})
	}
	s := stage(b, usual)
	request := func(target, addr string) *filter.Request {
		return filtertest.Get(target, filtertest.From(addr), filtertest.In("DE", 64500))
	}
	run("usual/ipv4", s, request("/assets/app.js", "198.51.100.7"), filter.Continue)
	run("usual/ipv6", s, request("/assets/app.js", "2001:db8::7"), filter.Continue)
	run("usual/allowed", s, request("/assets/app.js", "203.0.113.7"), filter.Allow)
	run("usual/ambiguous", s, request("/public/..;/a%2fb%5cc", "198.51.100.7"), filter.Continue)

	kinds := []string{
		"{id: r%d, match: {path: /p%[1]d/*}}", "{id: r%d, match: {ip: 10.0.%[1]d.0/28}}",
		"{id: r%d, match: {host: h%[1]d.example}}", "{id: r%d, match: {country: KP, path: /q%[1]d/*.php}}",
		"{id: r%d, match: {header: {user-agent: bot%[1]d*}}}",
	}
	for _, n := range []int{10, 100, 1000} {
		yaml := "rules:\n"
		for i := range n {
			yaml += "  - " + fmt.Sprintf(kinds[i%len(kinds)], i%250) + "\n"
		}
		s := stage(b, yaml)
		run(fmt.Sprintf("rules/%d", n), s, request("/assets/app.js", "198.51.100.7"), filter.Continue)
	}
	yaml := "rules:\n"
	for i := range 10 {
		yaml += fmt.Sprintf("  - {id: r%d, expr: 'http.user_agent.contains(\"bot%[1]d\")'}\n", i)
	}
	run("expressions/10", stage(b, yaml), request("/assets/app.js", "198.51.100.7"), filter.Continue)
}

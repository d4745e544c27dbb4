package match

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gaissmai/bart"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/filtertest"
	"github.com/moatwaf/moat/rules"
)

// testEnv knows two lists and a few countries, and claims.
func testEnv() *Env {
	office := new(bart.Lite)
	office.Insert(netip.MustParsePrefix("203.0.113.0/24"))
	office.Insert(netip.MustParsePrefix("2001:db8:1::/48"))
	lists := map[string]AddrSet{"office": office, "empty": new(bart.Lite)}
	return &Env{
		List:      func(name string) (AddrSet, bool) { l, ok := lists[name]; return l, ok },
		ListNames: []string{"empty", "office"},
		ValidCountry: func(code string) bool {
			return slices.Contains([]string{"DE", "AT", "NO", "KP", "GB", "GR"}, code)
		},
		Claims: true,
	}
}

// decode reads a condition as the policy does.
func decode(t testing.TB, yaml string) (*Condition, rules.Errors) {
	t.Helper()
	var doc struct {
		Condition
	}
	errs := rules.Decode("policy.yaml", []byte(yaml), &doc)
	return &doc.Condition, errs
}

// compile returns the matcher of a condition without faults.
func compile(t testing.TB, yaml string, env *Env) *Matcher {
	t.Helper()
	c, errs := decode(t, yaml)
	if errs != nil {
		t.Fatal(errs)
	}
	m, errs := c.Compile(env)
	if errs != nil {
		t.Fatal(errs)
	}
	return m
}

func TestMatch(t *testing.T) {
	get, in, from, header := filtertest.Get, filtertest.In, filtertest.From, filtertest.Header
	pro := &filter.Identity{Subject: "ann", Claims: map[string]any{
		"plan": "pro", "level": float64(3), "beta": true, "groups": []any{"dev", "ops"}, "null": nil,
	}}
	tests := []struct {
		match   string // the value of match
		request *filter.Request
		want    bool
	}{
		{`{}`, get("/"), true},

		// ip
		{`{ip: 192.0.2.1}`, get("/"), true},
		{`{ip: 192.0.2.2}`, get("/"), false},
		{`{ip: 192.0.2.0/24}`, get("/"), true},
		{`{ip: 192.0.2.0-192.0.2.1}`, get("/"), true},
		{`{ip: 192.0.2.2 - 192.0.2.9}`, get("/"), false},
		{`{ip: $office}`, get("/"), false},
		{`{ip: $office}`, get("/", from("203.0.113.9")), true},
		{`{ip: $office}`, get("/", from("::ffff:203.0.113.9")), true},
		{`{ip: $empty}`, get("/"), false},
		{`{ip: [$empty, 198.51.100.1, 192.0.2.0/28]}`, get("/"), true},
		{`{ip: "::ffff:192.0.2.1"}`, get("/"), true},
		{`{ip: "::ffff:192.0.2.0/120"}`, get("/"), true},
		{`{ip: "2001:db8::/32"}`, get("/", from("2001:db8::1")), true},
		{`{ip: "::/0"}`, get("/"), false},
		{`{ip: 0.0.0.0/0}`, get("/"), true},

		// country, asn
		{`{country: [DE, NO]}`, get("/", in("NO", 0)), true},
		{`{country: DE}`, get("/", in("NO", 0)), false},
		{`{country: DE}`, get("/"), false},
		{`{not: {country: DE}}`, get("/"), true},
		{`{asn: 64500}`, get("/", in("DE", 64500)), true},
		{`{asn: [AS64496, as64500]}`, get("/", in("DE", 64500)), true},
		{`{asn: 64501}`, get("/", in("DE", 64500)), false},
		{`{asn: 64501}`, get("/"), false},

		// host
		{`{host: example.com}`, get("/", filtertest.Host("EXAMPLE.com:8443")), true},
		{`{host: Example.COM.}`, get("/", filtertest.Host("example.com.")), true},
		{`{host: example.com}`, get("/", filtertest.Host("www.example.com")), false},
		{`{host: "*.example.com"}`, get("/", filtertest.Host("a.b.example.com")), true},
		{`{host: "*.example.com"}`, get("/", filtertest.Host("example.com")), false},
		{`{host: "*.example.com"}`, get("/", filtertest.Host("badexample.com")), false},
		{`{host: "[2001:DB8::1]"}`, get("/", filtertest.Host("[2001:db8::1]:443")), true},

		// path; the table of patterns is TestPathPattern
		{`{path: /admin/*}`, get("/admin"), true},
		{`{path: /admin/*}`, get("/x/..//admin/y"), true},
		{`{path: /admin/*}`, get("/administrator"), false},
		{`{path: [/a, /b]}`, get("/b?x"), true},

		// method
		{`{method: [GET, HEAD]}`, get("/"), true},
		{`{method: POST}`, get("/"), false},

		// header
		{`{header: {x-test: "1"}}`, get("/", header("X-Test", "0"), header("X-Test", "1")), true},
		{`{header: {X-TEST: "1"}}`, get("/", header("X-Test", "11")), false},
		{`{header: {user-agent: curl/*}}`, get("/", header("User-Agent", "curl/8.5")), true},
		{`{header: {user-agent: curl/*}}`, get("/", header("User-Agent", "xcurl/8.5")), false},
		{`{header: {x-test: "*"}}`, get("/", header("X-Test", "")), true},
		{`{header: {x-test: "*"}}`, get("/"), false},
		{`{header: {x-test: ""}}`, get("/"), true},
		{`{header: {x-test: ""}}`, get("/", header("X-Test", "")), true},
		{`{header: {x-test: ""}}`, get("/", header("X-Test", "1")), false},
		{`{header: {x-test: [a, b]}}`, get("/", header("X-Test", "b")), true},
		{`{header: {a: "1", b: "2"}}`, get("/", header("A", "1")), false},

		// claim
		{`{claim: {plan: pro}}`, get("/"), false},
		{`{claim: {plan: pro}}`, get("/", filtertest.As(pro)), true},
		{`{claim: {plan: [free, pro]}}`, get("/", filtertest.As(pro)), true},
		{`{claim: {plan: free}}`, get("/", filtertest.As(pro)), false},
		{`{claim: {level: 3}}`, get("/", filtertest.As(pro)), true},
		{`{claim: {level: "3"}}`, get("/", filtertest.As(pro)), false},
		{`{claim: {beta: true}}`, get("/", filtertest.As(pro)), true},
		{`{claim: {groups: ops}}`, get("/", filtertest.As(pro)), true},
		{`{claim: {groups: "*"}}`, get("/", filtertest.As(pro)), true},
		{`{claim: {"null": "*"}}`, get("/", filtertest.As(pro)), false},
		{`{claim: {other: "*"}}`, get("/", filtertest.As(pro)), false},
		{`{not: {claim: {plan: pro}}}`, get("/"), true},

		// all keys must hold
		{`{path: /admin/*, not: {country: [DE, AT]}}`, get("/admin", in("NO", 0)), true},
		{`{path: /admin/*, not: {country: [DE, AT]}}`, get("/admin", in("DE", 0)), false},
		{`{path: /admin/*, not: {country: [DE, AT]}}`, get("/", in("NO", 0)), false},
		{`{method: GET, expr: 'http.host == "a.example"'}`, get("/", filtertest.Host("a.example")), true},
		{`{method: POST, expr: 'http.host == "a.example"'}`, get("/", filtertest.Host("a.example")), false},
		{`{not: {expr: 'true'}}`, get("/"), false},
	}
	for _, tt := range tests {
		t.Run(tt.match, func(t *testing.T) {
			m := compile(t, "match: "+tt.match, testEnv())
			got, err := m.Match(tt.request)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("%s %s: %v, want %v", tt.request.HTTP.Method, tt.request.HTTP.URL, got, tt.want)
			}
		})
	}
}

func TestCompileFaults(t *testing.T) {
	tests := []struct {
		yaml string
		want string // part of the one fault's text
	}{
		// decoding
		{`match: {ips: 10.0.0.1}`, `policy.yaml:1:9: match.ips: unknown key "ips" (did you mean "ip"?)`},
		{`match: {ip: []}`, `policy.yaml:1:13: match.ip: an empty list matches nothing (`},
		{`match: {asn: AS}`, `"AS" is no autonomous system number`},
		{`match: {asn: 0}`, `0 is reserved`},
		{`match: {asn: 4294967296}`, `out of range`},
		{`match: {asn: AS4294967296}`, `"AS4294967296" is no autonomous system number`},
		{`match: {claim: {a: [[b]]}}`, `expected a string, a number, true or false, got a list`},
		{`match: {country: true}`, `expected a string`},

		// ip
		{`match: {ip: 300.1.2.3}`, `policy.yaml:1:13: match.ip: "300.1.2.3" is no address, prefix or range (such as`},
		{`match: {ip: [10.0.0.1/8]}`, `match.ip[0]: the prefix "10.0.0.1/8" has bits beyond its length (write 10.0.0.0/8, or 10.0.0.1 for the one address)`},
		{`match: {ip: 10.0.0.0/33}`, `no address, prefix or range`},
		{`match: {ip: "fe80::1%eth0"}`, `has a zone`},
		{`match: {ip: 10.0.0.9-10.0.0.1}`, `ends before it begins (write 10.0.0.1-10.0.0.9)`},
		{`match: {ip: "10.0.0.9-::1"}`, `mixes IPv4 and IPv6`},
		{`match: {ip: 10.0.0.9-}`, `"" is no address`},
		{`match: {ip: $offcie}`, `unknown list "offcie" (did you mean "office"?)`},
		{`match: {ip: office}`, `"office" is no address, prefix or range (write $office for the list)`},

		// country
		{`match: {country: UK}`, `unknown country "UK" (did you mean "GB"?)`},
		{`match: {country: no}`, `unknown country "no" (did you mean "NO"?)`},
		{`match: {country: [DE, XX]}`, `match.country[1]: unknown country "XX" (ISO 3166-1`},
		{`match: {country: Germany}`, `unknown country "Germany"`},

		// host
		{`match: {host: "example.com:443"}`, `hosts are matched without port (write example.com)`},
		{`match: {host: "https://example.com/"}`, `is a URL, not a host`},
		{`match: {host: "*"}`, `leave host out`},
		{`match: {host: "www.*.com"}`, `a * may stand only for all labels`},
		{`match: {host: münchen.example}`, `write xn--mnchen-3ya.example`},
		{`match: {host: "a..b"}`, `"a..b" is no host name`},
		{`match: {host: ""}`, `"" is no host name`},

		// path
		{`match: {path: admin/*}`, `does not begin with / (write /admin/*)`},
		{`match: {path: "*"}`, `(write /* for every path)`},
		{`match: {path: /a//b}`, `holds an empty segment`},
		{`match: {path: /a/../b}`, `holds ".." and never matches`},
		{`match: {path: /a%20b}`, `is percent-encoded`},
		{`match: {path: "/a?b=1"}`, `http.request.uri.query`},
		{`match: {path: '/a\b'}`, `backslash`},
		{`match: {path: "/a\tb"}`, `control character`},
		{`match: {path: /a**/b}`, `** beside other text`},
		{"match: {path: /" + strings.Repeat("a", maxPattern) + "}", `longer than`},

		// method, header, claim, not
		{`match: {method: get}`, `(write GET)`},
		{`match: {method: "GET POST"}`, `is no request method`},
		{`match: {header: {host: a}}`, `(use host)`},
		{`match: {header: {"x y": a}}`, `is no name of a header field`},
		{`match: {header: {x-a: "*bot*"}}`, `a * may stand only at the end`},
		{`match: {header: {x-a: " a"}}`, `begins or ends with a blank`},
		{`match: {header: {x-a: a, X-A: b}}`, `stands twice`},
		{`match: {not: {}}`, `policy.yaml:1:14: match.not: an empty not never holds`},
		{`match: {not: {not: {country: QQ}}}`, `match.not.not.country: unknown country`},

		// expressions
		{`expr: ""`, `the expression is empty`},
		{`expr: 'http.host =='`, `policy.yaml:1:7: expr: expression, column 13: syntax error:`},
		{`expr: 'http.usr_agent == ""'`, `expression, column 1: unknown name "http.usr_agent" (did you mean "http.user_agent"?)`},
		{`expr: 'ip.src'`, `the expression is a string, not true or false`},
		{`expr: 'ip.src.asnum == "1"'`, `no matching overload`},
		{`expr: 'http.host.contain("a")'`, `unknown name "contain" (did you mean "contains"?)`},
		{`expr: 'has(http.request.headers.a)'`, `"name" in http.request.headers`},
		{`expr: 'inList(ip.src, "offcie")'`, `expression, column 16: unknown list "offcie" (did you mean "office"?)`},
		{`expr: 'inList(ip.src, http.host)'`, `must be written out`},
		{`expr: 'inCIDR(ip.src, "10.0.0.1/8")'`, `has bits beyond its length`},
		{`expr: 'http.user_agent.matches("(")'`, `expression, column 25: error parsing regexp: missing closing )`},
		{`expr: 'matches(http.user_agent, "((a{1,30}){1,30}){1,30}")'`, `error parsing regexp: invalid repeat count`},
		{`expr: 'http.user_agent.matches("((abcdefgh){1,40}){1,20}")'`, `the regular expression is too large`},
		{`expr: 'http.user_agent.matches(http.host)'`, `a regular expression must be written out`},
		{`expr: 'ip.src == "10.0.0.0/8"'`, `"10.0.0.0/8" is no address (use inCIDR`},
		{`expr: '"2001:DB8::1" == ip.src'`, `(write 2001:db8::1)`},
		{`expr: 'ip.src.country in ["DE", "UK"]'`, `expression, column 26: unknown country "UK" (did you mean "GB"?)`},
		{"expr: |\n  http.host == \"a\" &&\n  http.hots == \"b\"", `expression, line 2, column 1: unknown name "http.hots"`},
	}
	for _, tt := range tests {
		t.Run(tt.yaml[:min(len(tt.yaml), 60)], func(t *testing.T) {
			c, errs := decode(t, tt.yaml)
			if errs == nil {
				var m *Matcher
				if m, errs = c.Compile(testEnv()); m != nil {
					t.Fatalf("compiled; want the fault %q", tt.want)
				}
			}
			if len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want) {
				t.Errorf("faults:\n%v\nwant one with\n%s", errs, tt.want)
			}
			if errs[0].Pos.Line == 0 || errs[0].Path == "" {
				t.Errorf("the fault has no place: %v", errs[0])
			}
		})
	}
}

// Every fault of a condition is told at once, in order of place.
func TestCompileTellsEveryFault(t *testing.T) {
	c, errs := decode(t, "match:\n  path: a\n  ip: [x, 10.0.0.1, $y]\n  not: {country: QQ}\nexpr: nope(")
	if errs != nil {
		t.Fatal(errs)
	}
	_, errs = c.Compile(testEnv())
	var lines []int
	for _, e := range errs {
		lines = append(lines, e.Pos.Line)
	}
	if want := []int{2, 3, 3, 4, 5}; !slices.Equal(lines, want) {
		t.Errorf("faults at the lines %v, want %v:\n%v", lines, want, errs)
	}
}

func TestClaimsNeedAnIdentity(t *testing.T) {
	c, _ := decode(t, `match: {claim: {plan: pro}}`)
	env := testEnv()
	env.Claims = false
	if _, errs := c.Compile(env); len(errs) != 1 || !strings.Contains(errs.Error(), "the caller is not known yet") {
		t.Errorf("faults: %v", errs)
	}
}

func TestUses(t *testing.T) {
	tests := []struct {
		yaml string
		want Uses
	}{
		{`match: {ip: $office, method: GET}`, Uses{}},
		{`match: {country: DE}`, Uses{Country: true}},
		{`match: {not: {asn: 1, path: /a}}`, Uses{ASN: true, Path: true}},
		{`match: {claim: {a: b}}`, Uses{Identity: true}},
		{`expr: 'ip.src.country == "DE" || http.request.uri.path == "/"'`, Uses{Country: true, Path: true}},
		{`expr: 'ip.src == "10.0.0.1" && ip.src.asnum != 5'`, Uses{ASN: true}},
	}
	for _, tt := range tests {
		if got := compile(t, tt.yaml, testEnv()).Uses(); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.yaml, got, tt.want)
		}
	}
}

// What was never compiled holds for nothing, and neither does its negation.
func TestZeroMatcher(t *testing.T) {
	for _, m := range []*Matcher{nil, {}, {ready: true, not: &Matcher{}}} {
		if holds, err := m.Match(filtertest.Get("/")); holds || err == nil {
			t.Errorf("%+v: %v, %v", m, holds, err)
		}
	}
	if holds, err := compile(t, `match: {}`, nil).Match(new(filter.Request)); holds || !errors.Is(err, errNoRequest) {
		t.Errorf("a request without HTTP: %v, %v", holds, err)
	}
	c := new(Condition)
	if !c.Empty() {
		t.Error("the zero Condition is not empty")
	}
	m, errs := (*Spec)(nil).Compile(nil)
	if holds, err := m.Match(filtertest.Get("/")); !holds || err != nil || errs != nil {
		t.Errorf("no condition: %v, %v, %v", holds, err, errs)
	}
}

// Every part but expressions decides without allocation, whether it holds or not.
func TestMatchAllocs(t *testing.T) {
	m := compile(t, `match:
  ip: [$office, 192.0.2.0/24]
  country: [DE, NO]
  asn: [64500, 64501]
  host: ["*.example.com", example.org]
  path: [/x, /y/*, /**/z*/a, /api/*/b]
  method: [GET, POST]
  header: {user-agent: [curl/*, x], x-none: ""}
  claim: {groups: ops, level: 3, beta: true}
  not: {path: /api/secret/*}`, testEnv())
	r := filtertest.Get("/api/v1/b", filtertest.Host("www.example.com"), filtertest.In("NO", 64501),
		filtertest.Header("User-Agent", "curl/8"), filtertest.As(&filter.Identity{Claims: map[string]any{
			"groups": []any{"dev", "ops"}, "level": float64(3), "beta": true,
		}}))
	if holds, err := m.Match(r); !holds || err != nil {
		t.Fatalf("the condition does not hold: %v, %v", holds, err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = m.Match(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	r.Path = "/api/secret/b"
	if n := testing.AllocsPerRun(100, func() { _, _ = m.Match(r) }); n != 0 {
		t.Errorf("%v allocations where it does not hold", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	r := filtertest.Get("/api/v1/users/17", filtertest.Host("www.example.com"), filtertest.In("NO", 64501),
		filtertest.Header("User-Agent", "curl/8"))
	for _, bb := range []struct{ name, yaml string }{
		{"ip", `match: {ip: [10.0.0.0/8, 172.16.0.0/12]}`},
		{"list", `match: {ip: $office}`},
		{"country", `match: {country: [DE, AT]}`},
		{"path-below", `match: {path: /api/*}`},
		{"path-glob", `match: {path: /**/users/*/edit}`},
		{"header", `match: {header: {user-agent: wget/*}}`},
		{"expr-simple", `expr: 'http.request.method == "POST" && http.user_agent == ""'`},
		{"expr-header", `expr: 'http.request.headers["x-api"] == "1"'`},
		{"expr-cidr", `expr: 'inCIDR(ip.src, "10.0.0.0/8")'`},
		{"expr-regex", `expr: 'http.user_agent.matches("(?i)bot|crawl|spider")'`},
		{"expr-counted", `expr: 'http.request.headers.exists(k, k.startsWith("x-") && http.request.headers[k] == "")'`},
	} {
		m := compile(b, bb.yaml, testEnv())
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Match(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExampleSpec_Compile() {
	var policy struct {
		Match Spec `yaml:"match"`
	}
	if errs := rules.Decode("policy.yaml", []byte(`match: {path: /admin/*, not: {ip: 10.0.0.0/8}}`), &policy); errs != nil {
		fmt.Println(errs)
		return
	}
	m, errs := policy.Match.Compile(&Env{})
	if errs != nil {
		fmt.Println(errs)
		return
	}
	fmt.Println(m.Match(filtertest.Get("/admin/users")))
	// Output: true <nil>
}

package match

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/filtertest"
	"github.com/moatwaf/moat/rules"
)

func expr(s string) *Spec {
	return &Spec{Expr: rules.Located[string]{Value: s, Pos: rules.Position{File: "policy.yaml", Line: 3, Column: 9}}}
}

func compileExpr(t testing.TB, s string) *Matcher {
	t.Helper()
	m, errs := expr(s).Compile(testEnv())
	if errs != nil {
		t.Fatal(errs)
	}
	return m
}

func TestExpr(t *testing.T) {
	r := filtertest.New(http.MethodPost, "/api/..//API/users?id=1&x=%20", nil,
		filtertest.From("203.0.113.9"), filtertest.In("DE", 64500), filtertest.Host("WWW.example.com:80"),
		filtertest.Header("User-Agent", "Curl/8.5"), filtertest.Header("X-Multi", "a"), filtertest.Header("X-Multi", "b"),
		filtertest.Header("Cookie", "a=1"), filtertest.Header("Cookie", "b=2"), filtertest.Header("X-Empty", ""))
	tests := []struct {
		expr string
		want bool
	}{
		{`true`, true},
		{`ip.src == "203.0.113.9"`, true},
		{`ip.src in ["203.0.113.8", "203.0.113.9"]`, true},
		{`inCIDR(ip.src, "203.0.113.0/24")`, true},
		{`inCIDR(ip.src, "203.0.113.0-203.0.113.8")`, false},
		{`inCIDR(ip.src, "2001:db8::/32")`, false},
		{`inCIDR(http.host, "0.0.0.0/0")`, false},
		{`inList(ip.src, "office")`, true},
		{`inList(ip.src, "$office")`, true},
		{`inList(ip.src, "empty")`, false},
		{`ip.src.country == "DE"`, true},
		{`!(ip.src.country in ["NO", "KP"])`, true},
		{`ip.src.country == ""`, false},
		{`ip.src.asnum == 64500`, true},
		{`ip.src.asnum >= 64496 && ip.src.asnum <= 64511`, true},
		{`http.host == "www.example.com"`, true},
		{`http.host.endsWith(".example.com")`, true},
		{`http.request.method == "POST"`, true},
		{`http.request.uri.path == "/API/users"`, true},
		{`lower(http.request.uri.path).startsWith("/api/")`, true},
		{`upper(http.host) == "WWW.EXAMPLE.COM"`, true},
		{`http.request.uri.query == "id=1&x=%20"`, true},
		{`http.request.uri.query.contains("id=2")`, false},
		{`http.user_agent == "Curl/8.5"`, true},
		{`http.user_agent.matches("(?i)^curl/[0-9]")`, true},
		{`http.referer == ""`, true},
		{`http.cookie == "a=1; b=2"`, true},
		{`http.request.headers["user-agent"] == "Curl/8.5"`, true},
		{`http.request.headers["User-Agent"] == "Curl/8.5"`, true},
		{`http.request.headers["x-multi"] == "a, b"`, true},
		{`http.request.headers["x-none"] == ""`, true},
		{`http.request.headers["x-" + "none"] == ""`, true},
		{`http.request.headers[lower("X-MULTI")] == "a, b"`, true},
		{`"x-none" in http.request.headers`, false},
		{`"x-empty" in http.request.headers`, true},
		{`http.request.headers["host"] == "WWW.example.com:80"`, true},
		{`http.request.headers.exists(k, k.startsWith("x-m"))`, true},
		{`http.request.headers.all(k, size(http.request.headers[k]) < 9)`, true},
		{`size(http.request.headers) == 4`, true},
		{`http.request.version == "HTTP/1.1"`, true},
		{`int(http.host) == 1 || true`, true}, // CEL: the error is absorbed
	}
	for _, tt := range tests {
		got, err := compileExpr(t, tt.expr).Match(r)
		if err != nil || got != tt.want {
			t.Errorf("%s: %v, %v; want %v", tt.expr, got, err, tt.want)
		}
	}
}

func TestExprUnknownClient(t *testing.T) {
	r := filtertest.Get("/")
	r.Client = netip.Addr{}
	for _, e := range []string{`ip.src == ""`, `ip.src.country == ""`, `ip.src.asnum == 0`, `!inCIDR(ip.src, "0.0.0.0/0")`, `!inList(ip.src, "office")`} {
		if holds, err := compileExpr(t, e).Match(r); !holds || err != nil {
			t.Errorf("%s: %v, %v", e, holds, err)
		}
	}
}

func TestExprVersion(t *testing.T) {
	for proto, want := range map[string]string{"HTTP/1.0": "HTTP/1.0", "HTTP/1.1": "HTTP/1.1", "HTTP/2.0": "HTTP/2", "HTTP/3.0": "HTTP/3"} {
		r := filtertest.Get("/")
		r.HTTP.Proto = proto
		r.HTTP.ProtoMajor, r.HTTP.ProtoMinor, _ = http.ParseHTTPVersion(proto)
		r.HTTP.TLS = new(tls.ConnectionState)
		if holds, err := compileExpr(t, `http.request.version == "`+want+`"`).Match(r); !holds || err != nil {
			t.Errorf("%s is not %s: %v", proto, want, err)
		}
	}
}

// An expression that fails at run time is an error that tells the place and
// nothing of the request.
func TestExprErrors(t *testing.T) {
	long := strings.Repeat("s3cr3t ", 20_000)
	huge := strings.Repeat("a", mostHeader+1)
	tests := []struct {
		name, expr string
		value      string // of X-A
		cost       bool
	}{
		{"conversion", `int(http.request.headers["x-a"]) == 1`, "s3cr3t", false},
		{"division", `1 / size(http.request.headers["x-b"]) == 1`, "s3cr3t", false},
		{"cost", `http.request.headers.exists(a, http.request.headers.exists(b, (http.request.headers[a] + http.request.headers[b]).matches("(?i)x.{1,20}y.{1,20}z")))`, long, true},
		{"too large", `http.request.headers["x-a"] == "1"`, huge, false},
		{"too large, user agent", `http.user_agent == "1"`, huge, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := filtertest.Get("/", filtertest.Header("X-A", tt.value), filtertest.Header("User-Agent", tt.value),
				filtertest.Header("X-C", tt.value), filtertest.Header("X-D", tt.value))
			for _, m := range []*Matcher{compileExpr(t, tt.expr), {ready: true, not: compileExpr(t, tt.expr)}} {
				holds, err := m.Match(r)
				var failed *EvalError
				if holds || !errors.As(err, &failed) {
					t.Fatalf("Match = %v, %v; want an EvalError", holds, err)
				}
				if failed.Cost != tt.cost {
					t.Errorf("cost: %v, want %v", failed.Cost, tt.cost)
				}
				if msg := err.Error(); !strings.Contains(msg, "policy.yaml:3:9") || strings.Contains(msg, "s3cr3t") {
					t.Errorf("message %q", msg)
				}
			}
		})
	}
}

// An expression of bounded cost is evaluated without counting.
func TestExprCostEstimate(t *testing.T) {
	env, err := testEnv().celEnv()
	if err != nil {
		t.Fatal(err)
	}
	for e, bounded := range map[string]bool{
		`http.request.method == "POST" && http.user_agent == ""`:                                        true,
		`inCIDR(ip.src, "10.0.0.0/8") || ip.src.country == "DE"`:                                        true,
		`lower(http.user_agent).contains("bot")`:                                                        true,
		`http.request.uri.path.matches("^/(a|b)/.*[.]php$")`:                                            true,
		`http.request.headers["x-a"].startsWith("1")`:                                                   true,
		`http.request.headers.exists(k, k == "x")`:                                                      true,
		`http.request.headers.exists(k, k.startsWith("x-") && http.request.headers[k].contains("bot"))`: false,
		`(http.cookie + http.cookie + http.cookie + http.cookie).size() > 9`:                            true,
	} {
		checked, issues := env.Compile(e)
		if issues.Err() != nil {
			t.Fatal(issues.Err())
		}
		estimate, err := env.EstimateCost(checked, costs{})
		if err != nil {
			t.Fatal(err)
		}
		if (estimate.Max <= maxCost) != bounded {
			t.Errorf("%s: estimated at %d of %d", e, estimate.Max, maxCost)
		}
	}
}

func FuzzSpecCompile(f *testing.F) {
	for _, e := range []string{
		`http.request.method == "POST" && http.user_agent == ""`, `inList(ip.src, "office")`, `inCIDR(ip.src, "10.0.0.0/8")`,
		`http.request.headers.exists(k, k.matches("a+"))`, `ip.src.country in ["DE"]`, `ip.src == `, `[1].all(x, [x] == [x])`,
		`a.b.c`, `"\x00" == b'\377'`, `1 / 0 == 1`, `int(http.host) == 1`, `((((((((((true))))))))))`, `{"a": 1}["b"] == 1`,
		`http.request.headers == http.request.headers`, `type(http.request.headers) == map`, `dyn(http.request.headers)[1] == ""`,
		`timestamp(http.host) > timestamp(0)`, `http.request.headers.x == ""`, "true // \xff",
	} {
		f.Add(e)
	}
	r := filtertest.Get("/a/b?c", filtertest.Header("X-A", "1"), filtertest.In("DE", 1))
	env := testEnv()
	f.Fuzz(func(t *testing.T, e string) {
		if len(e) > 500 {
			return
		}
		m, errs := expr(e).Compile(env)
		if (m == nil) != (len(errs) > 0) {
			t.Fatalf("%q: %v, %v", e, m, errs)
		}
		if m == nil {
			return
		}
		holds, err := m.Match(r)
		if holds && err != nil {
			t.Fatalf("%q holds with the error %v", e, err)
		}
		if _, err := m.Match(&filter.Request{HTTP: new(http.Request)}); err != nil && strings.Contains(err.Error(), "internal") {
			t.Fatal(err)
		}
	})
}

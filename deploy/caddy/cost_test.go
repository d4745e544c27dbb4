package moatcaddy

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/moatwaf/moat/filter"
)

// costs is a policy of everything but payload rules, whose own cost is hundreds of
// times what is measured here.
const costs = noWAF + `
client_ip: {trusted_proxies: [192.0.2.0/24]}
rules: [{id: embargo, match: {country: [KP]}, action: block}]
tiers: [{id: everyone, key: ip, rate: 1000000/s}]
`

// provisioned returns a handler of its own, outside of a server.
func provisioned(tb testing.TB, policy string) *Handler {
	tb.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: tb.Context()})
	h := &Handler{Policy: policy, IdentityHeaders: map[string]string{"X-Auth-User": "subject"}}
	if err := h.Provision(ctx); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cancel()
		if err := h.Cleanup(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// browserRequest is a request as a server hands it over.
func browserRequest() (*http.Request, *caddy.Replacer) {
	hr := httptest.NewRequest(http.MethodGet, "/articles/2026/list?page=2", nil)
	hr.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	hr.Header.Set("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	hr.Header.Set("Accept-Language", "en")
	hr.Header.Set("Cookie", "session=0123456789abcdef")
	repl := caddy.NewReplacer()
	return caddyhttp.PrepareRequest(hr, repl, nil, new(caddyhttp.Server)), repl
}

// nowhere is a response writer that keeps nothing.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n *nowhere) WriteHeader(int)             {}

var end = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

// BenchmarkAllowed is a request that is let through, by the pipeline alone and by
// the handler around it. The difference is what Caddy's ways cost.
func BenchmarkAllowed(b *testing.B) {
	h := provisioned(b, writePolicy(b, costs))
	b.Run("pipeline", func(b *testing.B) {
		hr, _ := browserRequest()
		b.ReportAllocs()
		for b.Loop() {
			r := filter.NewRequest(hr, time.Now())
			if d := h.runtime.Engine().Decide(r); d.Refuses() {
				b.Fatal(d)
			}
			r.Release()
		}
	})
	b.Run("handler", func(b *testing.B) {
		hr, repl := browserRequest()
		w := &nowhere{http.Header{}}
		fresh := *repl
		b.ReportAllocs()
		for b.Loop() {
			*repl = fresh
			if err := h.ServeHTTP(w, hr, end); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestCostOfAllowed holds that the handler costs 2 allocations above the pipeline.
func TestCostOfAllowed(t *testing.T) {
	h := provisioned(t, writePolicy(t, costs))
	hr, repl := browserRequest()
	w := &nowhere{http.Header{}}
	fresh := *repl
	pipeline := testing.AllocsPerRun(1000, func() {
		r := filter.NewRequest(hr, time.Now())
		h.runtime.Engine().Decide(r)
		r.Release()
	})
	handler := testing.AllocsPerRun(1000, func() {
		*repl = fresh
		if err := h.ServeHTTP(w, hr, end); err != nil {
			t.Fatal(err)
		}
	})
	if handler > pipeline+2 {
		t.Errorf("%v allocations, the pipeline alone has %v", handler, pipeline)
	}
	if verdict, _ := repl.GetString("http.moat.verdict"); verdict != "allow" {
		t.Errorf("verdict %q", verdict)
	}
}

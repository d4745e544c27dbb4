package policy

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

// tierRuntime runs the policy of testdata/good/tiers.yaml.
func tierRuntime(t *testing.T) *Runtime {
	t.Helper()
	rt, err := Start(t.Context(), Options{File: "testdata/good/tiers.yaml", CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close() })
	return rt
}

// ask decides a request and ends it with a status. It returns the rule that
// refused it.
func ask(rt *Runtime, method, target, client string, now time.Time, status int) string {
	hr := httptest.NewRequest(method, target, nil)
	hr.Header.Set("User-Agent", "test")
	hr.Header.Set("Accept", "*/*")
	hr.Header.Set("X-Tenant", "t")
	r := filter.NewRequest(hr, now)
	defer r.Release()
	r.Client = netip.MustParseAddr(client)
	d := rt.Engine().Decide(r)
	if d.Refuses() {
		r.Answered(d.StatusCode())
		return d.Rule
	}
	r.Answered(status)
	return ""
}

func TestTiersOfAPolicy(t *testing.T) {
	rt := tierRuntime(t)
	now := time.Now()
	// 30 tokens, 10 for each failed login.
	for i, want := range []string{"", "", "", "login"} {
		if got := ask(rt, "POST", "/login", "192.0.2.1", now, 401); got != want {
			t.Errorf("failed login %d: refused by %q, want %q", i+1, got, want)
		}
	}
	// 60 tokens, 5 for each search.
	for i := range 13 {
		want := ""
		if i == 12 {
			want = "search"
		}
		if got := ask(rt, "GET", "/search?q=a", "192.0.2.2", now, 200); got != want {
			t.Errorf("search %d: refused by %q, want %q", i+1, got, want)
		}
	}
	// Four downloads at the same time, of which the client gets the fifth when
	// one has ended.
	var under []*filter.Request
	download := func() string {
		hr := httptest.NewRequest("GET", "/files/a", nil)
		hr.Header.Set("User-Agent", "test")
		hr.Header.Set("X-Tenant", "t")
		r := filter.NewRequest(hr, now)
		r.Client = netip.MustParseAddr("192.0.2.3")
		d := rt.Engine().Decide(r)
		if d.Refuses() {
			r.Release()
			return d.Rule
		}
		under = append(under, r)
		return ""
	}
	var got []string
	for range 5 {
		got = append(got, download())
	}
	under[0].Release()
	got = append(got, download(), download())
	if want := ",,,,downloads,,downloads"; strings.Join(got, ",") != want {
		t.Errorf("downloads: %q, want %q", strings.Join(got, ","), want)
	}
	for _, r := range under[1:] {
		r.Release()
	}
	// A client with a new cookie each time is stopped by its address.
	refused := ""
	for i := range 60 {
		hr := httptest.NewRequest("GET", "/", nil)
		hr.Header.Set("User-Agent", "test")
		hr.Header.Set("Cookie", "sid="+strings.Repeat("x", i))
		r := filter.NewRequest(hr, now)
		r.Client = netip.MustParseAddr("192.0.2.4")
		if d := rt.Engine().Decide(r); d.Refuses() && refused == "" {
			refused = d.Rule
		}
		r.Release()
	}
	if refused != "anonymous" {
		t.Errorf("a client with new cookies was refused by %q", refused)
	}
}

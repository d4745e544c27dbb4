package policy

import (
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/ratelimit"
)

// TestFailuresOfAPolicy: a limit by address stands before auth even where the only tier
// asks for an identity. It counts credentials that are not good, and nothing else.
func TestFailuresOfAPolicy(t *testing.T) {
	keys, err := filepath.Abs("testdata/good/api.keys")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(failures string) {
		t.Helper()
		text := `version: 1
tiers:
  - {id: known, key: identity, rate: 1000/s}
auth:
  methods:
    - api_key: {file: "` + keys + `"}
  require:
    - {match: {path: /hidden}, roles: [nobody], conceal: true}
    - {match: {path: /hidden}, auth: none}
    - {auth: required}
` + failures + `
waf: {mode: "off"}
audit: {file: "off"}
`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("  failures: {rate: 1/h, burst: 3}")
	rt, err := Start(t.Context(), Options{File: file, CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	now := time.Now()
	ask := func(client, path, key string) filter.Decision {
		hr := httptest.NewRequest("GET", path, nil)
		if key != "" {
			hr.Header.Set("X-API-Key", key)
		}
		r := filter.NewRequest(hr, now)
		defer r.Release()
		r.Client = netip.MustParseAddr(client)
		return rt.Engine().Decide(r)
	}
	expect := func(d filter.Decision, want filter.Reason) {
		t.Helper()
		if d.Reason != want {
			t.Errorf("%+v, want %s", d, want)
		}
	}
	for range 10 {
		expect(ask("192.0.2.1", "/", ""), filter.ReasonNoCredentials)
	}
	for range 3 {
		expect(ask("192.0.2.1", "/", "guess"), filter.ReasonBadCredentials)
	}
	d := ask("192.0.2.1", "/", "guess")
	expect(d, filter.ReasonRateLimit)
	if d.Rule != ratelimit.FailuresID || d.StatusCode() != 403 || len(d.Challenges) > 0 {
		t.Errorf("%+v", d)
	}
	expect(ask("192.0.2.2", "/", "guess"), filter.ReasonBadCredentials)
	for range 10 {
		expect(ask("192.0.2.3", "/hidden", ""), filter.ReasonConcealed)
	}
	for range 3 {
		expect(ask("192.0.2.3", "/hidden", "guess"), filter.ReasonConcealed)
	}
	expect(ask("192.0.2.3", "/hidden", "guess"), filter.ReasonRateLimit)

	// A reload of an equal limit forgets nothing; another begins anew; off is off.
	write("  failures: {rate: 1/h, burst: 3}  # changed")
	for _, c := range []struct {
		failures string
		want     filter.Reason
		first    int
	}{
		{"  failures: {rate: 1/h, burst: 3}", filter.ReasonRateLimit, 0},
		{"", filter.ReasonRateLimit, ratelimit.DefaultFailuresBurst},
		{"  failures: off", filter.ReasonBadCredentials, 2 * ratelimit.DefaultFailuresBurst},
	} {
		write(c.failures + " # " + strings.Repeat("x", c.first%7))
		if err := rt.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range c.first {
			if d := ask("192.0.2.1", "/", "guess"); d.Reason != filter.ReasonBadCredentials {
				t.Fatalf("%q: failure %d: %+v", c.failures, i+1, d)
			}
		}
		expect(ask("192.0.2.1", "/", "guess"), c.want)
	}
}

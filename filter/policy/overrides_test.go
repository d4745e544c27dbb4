package policy

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

const injection = "/?q=1%27+UNION+SELECT+password+FROM+users--+-"

// startWith starts a runtime of a policy under overrides.
func startWith(t *testing.T, content string, o Options) *Runtime {
	t.Helper()
	o.File = filepath.Join(t.TempDir(), "policy.yaml")
	writePolicy(t, o.File, content)
	o.CacheDir = t.TempDir()
	rt, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close() })
	return rt
}

func writePolicy(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func decide(rt *Runtime, target string) filter.Decision {
	hr := httptest.NewRequest("GET", target, nil)
	hr.Header.Set("User-Agent", "test")
	hr.Header.Set("Accept", "*/*")
	r := filter.NewRequest(hr, time.Now())
	defer r.Release()
	return rt.Engine().Decide(r)
}

const quiet = "version: 1\naudit: {file: \"off\"}\n"

func TestOverrides(t *testing.T) {
	for _, tt := range []struct {
		name    string
		o       Overrides
		verdict filter.Verdict
	}{
		{"none", Overrides{}, filter.Block},
		{"detect", Overrides{Mode: "detect"}, filter.Allow},
		{"off", Overrides{Mode: "off"}, filter.Allow},
		{"high threshold", Overrides{Threshold: 1000}, filter.Allow},
		{"argument excluded", Overrides{Exclude: "SecRuleUpdateTargetById 932000-944999 \"!ARGS:q\"\n"}, filter.Allow},
		{"other argument excluded", Overrides{Exclude: "SecRuleUpdateTargetById 932000-944999 \"!ARGS:p\"\n"}, filter.Block},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rt := startWith(t, quiet, Options{Overrides: tt.o})
			if d := decide(rt, injection); d.Verdict != tt.verdict {
				t.Errorf("%v by %s, want %v", d.Verdict, d.Rule, tt.verdict)
			}
		})
	}
}

func TestBadOverrides(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	writePolicy(t, file, quiet)
	for want, o := range map[string]Overrides{
		`there is no mode "blok"`:                     {Mode: "blok"},
		`there is no oversize "maybe"`:                {Oversize: "maybe"},
		"a paranoia of 5 is not possible":             {Paranoia: 5},
		"a threshold of -1 is not possible":           {Threshold: -1},
		"a body_limit of 12 is not possible":          {BodyLimit: 12},
		"exclude:2:1: SecRuleRemoveById: there is no": {Exclude: "SecRuleRemoveById 942100\nSecRuleRemoveById 942999\n"},
	} {
		if _, err := Check(t.Context(), Options{File: file, Overrides: o}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", o, err, want)
		}
	}
}

// TestClientStateIsShared lets two runtimes count a client together.
func TestClientStateIsShared(t *testing.T) {
	const limited = quiet + "tiers: [{id: all, key: ip, rate: 1/h, burst: 1}]\n"
	clients := NewClientState()
	a := startWith(t, limited, Options{Clients: clients})
	b := startWith(t, limited, Options{Clients: clients, Overrides: Overrides{Paranoia: 2}})
	other := startWith(t, limited, Options{})
	if d := decide(a, "/"); d.Verdict != filter.Allow {
		t.Fatalf("the first request: %+v", d)
	}
	if d := decide(b, "/"); d.Reason != filter.ReasonRateLimit {
		t.Errorf("the second request, elsewhere: %+v", d)
	}
	if d := decide(other, "/"); d.Verdict != filter.Allow {
		t.Errorf("a runtime with clients of its own: %+v", d)
	}
	if n := clients.TierTable().Entries; n != 1 {
		t.Errorf("%d clients are known, want 1", n)
	}
}

func TestOnReload(t *testing.T) {
	type call struct {
		status Status
		err    error
	}
	var calls []call
	rt := startWith(t, quiet, Options{OnReload: func(s Status, err error) { calls = append(calls, call{s, err}) }})
	file := rt.Status().File
	if len(calls) != 0 {
		t.Errorf("the first load was told: %+v", calls)
	}
	writePolicy(t, file, quiet+"surprise: true\n")
	bad := rt.Reload(t.Context())
	if len(calls) != 1 || bad == nil || !errors.Is(calls[0].err, bad) || calls[0].status.LastError == "" {
		t.Fatalf("a bad edit: %+v", calls)
	}
	writePolicy(t, file, quiet+"rules: []\n")
	if err := rt.Reload(t.Context()); err != nil || len(calls) != 2 || calls[1].err != nil || calls[1].status.Reloads != 1 {
		t.Errorf("a good edit: %v, %+v", err, calls)
	}
	if err := rt.Reload(t.Context()); err != nil || len(calls) != 2 {
		t.Errorf("no edit: %v, %d calls", err, len(calls))
	}
}

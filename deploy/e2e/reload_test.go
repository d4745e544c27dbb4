package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Bounds of the reload scenario.
const (
	liveWithin = 2 * time.Second         // a good edit is in force
	watchBad   = 1500 * time.Millisecond // a bad one is watched for an effect
)

// TestReloadUnderLoad edits the files of a running policy while requests flow:
// each good edit is live in time, a bad one changes nothing, and no request fails.
func TestReloadUnderLoad(t *testing.T) {
	onTargets(t, func(t *testing.T, target Target) {
		f := newFixtures(t)
		u := newUpstream(t)
		addr := target.Start(t, f.policy, u.URL)
		s := &reloadScene{t: t, f: f, url: "http://" + addr, client: newClient(t)}

		stop := s.load()
		defer stop()
		s.goodEdits()
		s.badEdits()
		s.finalEdit()
		if sent := stop(); sent < 100 {
			t.Errorf("only %d requests flowed beside the edits", sent)
		}
	})
}

type reloadScene struct {
	t      *testing.T
	f      fixtures
	url    string
	client *http.Client
}

// load sends requests that every version of the policy lets through, until the
// returned function is called. It returns how many there were.
func (s *reloadScene) load() (stop func() int64) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	var sent, failed atomic.Int64
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				// Not under ctx: the last request is to end, not to be cut off.
				status, err := s.get(s.t.Context(), "/api/me", "", s.f.vars["TOKEN_OK"])
				sent.Add(1)
				if err != nil || status != http.StatusOK {
					if failed.Add(1) <= 5 {
						s.t.Errorf("a request failed meanwhile: %d, %v", status, err)
					}
				}
			}
		})
	}
	return sync.OnceValue(func() int64 {
		cancel()
		wg.Wait()
		s.t.Logf("%d requests beside, %d failed", sent.Load(), failed.Load())
		return sent.Load()
	})
}

// get sends a request for a client and returns the status.
func (s *reloadScene) get(ctx context.Context, path, client, token string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return 0, err
	}
	if client != "" {
		req.Header.Set("X-Forwarded-For", client)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// probe is a request whose status tells which version is in force.
type probe struct{ path, client, token string }

func (s *reloadScene) status(p probe) int {
	s.t.Helper()
	status, err := s.get(s.t.Context(), p.path, p.client, p.token)
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

// becomes waits until the probe is answered with status.
func (s *reloadScene) becomes(what string, p probe, status int) {
	s.t.Helper()
	start := time.Now()
	for {
		got := s.status(p)
		if got == status {
			s.t.Logf("%s: live after %v", what, time.Since(start).Round(time.Millisecond))
			return
		}
		if time.Since(start) > liveWithin {
			s.t.Fatalf("%s: %d after %v, want %d", what, got, liveWithin, status)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// stays watches that the probe goes on being answered with status.
func (s *reloadScene) stays(what string, p probe, status int) {
	s.t.Helper()
	for start := time.Now(); time.Since(start) < watchBad; time.Sleep(20 * time.Millisecond) {
		if got := s.status(p); got != status {
			s.t.Fatalf("%s: %d after %v, want %d as before", what, got, time.Since(start), status)
		}
	}
}

func (s *reloadScene) path(name string) string { return filepath.Join(s.f.dir, name) }

func (s *reloadScene) read(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

var (
	byAddress = probe{path: "/", client: "203.0.113.99"}
	byCountry = probe{path: "/", client: "198.51.100.1"}
	byRule    = probe{path: "/basic/me", client: "192.0.2.1"}
)

func (s *reloadScene) goodEdits() {
	revoked := probe{path: "/api/admin/report", token: s.f.vars["TOKEN_SCOPE"]}
	before := map[probe]int{byAddress: 200, byCountry: 200, byRule: 401, revoked: 200}
	for p, status := range before {
		if got := s.status(p); got != status {
			s.t.Fatalf("before any edit: %+v gives %d, want %d", p, got, status)
		}
	}

	blocked := s.read("lists/blocked.netset")
	replaceFile(s.t, s.path("lists/blocked.netset"), []byte(blocked+"203.0.113.96/29\n"))
	s.becomes("list, renamed over", byAddress, http.StatusForbidden)
	writeFile(s.t, s.path("lists/blocked.netset"), []byte(blocked))
	s.becomes("list, written in place", byAddress, http.StatusOK)

	policy := strings.Replace(s.read("policy.yaml"), "rules:\n", "rules:\n  - {id: no-basic, match: {path: /basic/*, ip: 192.0.2.0/24}, action: block}\n", 1)
	replaceFile(s.t, s.path("policy.yaml"), []byte(policy))
	s.becomes("policy file", byRule, http.StatusForbidden)

	replaceFile(s.t, s.path("country.mmdb"), countryDatabase(s.t, map[string]string{"203.0.113.77/32": "KP", "198.51.100.0/24": "KP"}))
	s.becomes("country database", byCountry, http.StatusForbidden)

	writeFile(s.t, s.path("revoked.txt"), []byte("revoked-1\ngood-2\n"))
	s.becomes("revoked tokens", revoked, http.StatusUnauthorized)
}

func (s *reloadScene) badEdits() {
	for _, edit := range []struct{ name, file, content string }{
		{"list with a line that is no address", "lists/blocked.netset", "192.0.2.1\nnonsense\n"},
		{"truncated database", "country.mmdb", s.read("country.mmdb")[:200]},
		{"policy that is no YAML", "policy.yaml", "version: 1\nrules: [\n"},
		{"policy with an unknown key", "policy.yaml", s.read("policy.yaml") + "surprise: true\n"},
		{"keys that are no JSON", "keys.json", `{"keys":[`},
	} {
		good := s.read(edit.file)
		replaceFile(s.t, s.path(edit.file), []byte(edit.content))
		s.stays(edit.name, byRule, http.StatusForbidden)
		for p, status := range map[probe]int{byCountry: 403, byAddress: 200, {path: "/", client: "203.0.113.66"}: 403} {
			if got := s.status(p); got != status {
				s.t.Errorf("%s: %+v gives %d, want %d as before", edit.name, p, got, status)
			}
		}
		replaceFile(s.t, s.path(edit.file), []byte(good))
	}
	if err := os.Remove(s.path("lists/blocked.netset")); err != nil {
		s.t.Fatal(err)
	}
	s.stays("list deleted", probe{path: "/", client: "203.0.113.66"}, http.StatusForbidden)
}

// finalEdit shows that the bad edits have not stopped the watching.
func (s *reloadScene) finalEdit() {
	writeFile(s.t, s.path("lists/blocked.netset"), fmt.Appendf(nil, "203.0.113.66\n%s\n", byAddress.client))
	s.becomes("good edit after bad ones", byAddress, http.StatusForbidden)
}

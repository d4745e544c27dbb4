package policy

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/front"
)

// askWith returns the status that a request with header fields gets; 0 if it is
// let through.
func (h *house) askWith(method, target string, fields ...string) int {
	hr := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(fields); i += 2 {
		hr.Header.Add(fields[i], fields[i+1])
	}
	r := filter.NewRequest(hr, time.Now())
	defer r.Release()
	return h.rt.Engine().Decide(r).StatusCode()
}

func (h *house) wantWith(status int, target string, fields ...string) {
	h.t.Helper()
	if got := h.askWith(http.MethodGet, target, fields...); got != status {
		h.t.Errorf("%s with %q: %d, want %d", target, fields, got, status)
	}
}

func apiKeys(entries ...string) string {
	file := "keys:\n"
	for i := 0; i < len(entries); i += 2 {
		file += fmt.Sprintf("  - {id: %q, sha256: \"%x\", %s}\n", entries[i], sha256.Sum256([]byte(entries[i])), entries[i+1])
	}
	return file
}

// TestAPIKeysAreReloaded edits a file of keys while the policy is in force.
func TestAPIKeysAreReloaded(t *testing.T) {
	h := newHouse(t, `
auth:
  methods: [{api_key: {header: X-API-Key, file: api-keys.yaml}}]
  require:
    - {match: {path: /staff/*}, roles: [staff]}
    - {auth: required}
tiers:
  - {id: pro, match: {claim: {plan: pro}}, key: identity, rate: 100/h}
  - {id: free, match: {claim: {plan: "*"}}, key: identity, rate: 1/h}
`)
	h.write("api-keys.yaml", apiKeys("one", "claims: {plan: pro}, roles: [staff]", "two", "claims: {plan: free}"))
	h.start(false)
	h.wantWith(401, "/")
	h.wantWith(0, "/staff/x", "X-API-Key", "one")
	h.wantWith(403, "/staff/x", "X-API-Key", "two")
	h.wantWith(403, "/", "X-API-Key", "two") // the free tier is used up
	h.wantWith(0, "/", "X-API-Key", "one")

	h.write("api-keys.yaml", "keys: [")
	if h.reload() == nil {
		t.Error("a broken file of keys was taken")
	}
	h.wantWith(0, "/", "X-API-Key", "one")

	h.write("api-keys.yaml", apiKeys("three", "expires: 2020-01-01", "four", "roles: []"))
	if err := h.reload(); err != nil {
		t.Fatal(err)
	}
	h.wantWith(401, "/", "X-API-Key", "one")
	h.wantWith(401, "/", "X-API-Key", "three")
	h.wantWith(0, "/", "X-API-Key", "four")
}

// TestConditionOnClaims holds requirements that look at claims, and the login of
// browsers.
func TestConditionOnClaims(t *testing.T) {
	h := newHouse(t, `
auth:
  methods: [{api_key: {file: api-keys.yaml}}]
  require:
    - {match: {path: /pro/*}, if: {match: {claim: {plan: pro}}}}
    - {match: {path: /read/*}, if: {match: {claim: {plan: "*"}}, expr: 'http.request.method == "GET"'}}
    - {match: {path: /app/*}, login: "/login?next={uri}"}
    - {auth: none}
`)
	h.write("api-keys.yaml", apiKeys("one", "claims: {plan: pro}", "two", "claims: {plan: free}", "three", "roles: []"))
	h.start(false)
	for _, tt := range []struct {
		method, target, key string
		status              int
	}{
		{"GET", "/pro/x", "one", 0}, {"GET", "/pro/x", "two", 403}, {"GET", "/pro/x", "three", 403}, {"GET", "/pro/x", "", 401},
		{"GET", "/read/x", "two", 0}, {"POST", "/read/x", "two", 403}, {"GET", "/read/x", "three", 403},
		{"GET", "/", "", 0},
	} {
		if got := h.askWith(tt.method, tt.target, "X-API-Key", tt.key); tt.key != "" && got != tt.status {
			t.Errorf("%s %s by %q: %d, want %d", tt.method, tt.target, tt.key, got, tt.status)
		}
	}
	for accept, want := range map[string]int{"text/html": 302, "application/json": 401} {
		w := h.serve("GET", "/app/x?y=z", "Accept", accept)
		if w.Code != want || want == 302 && w.Header().Get("Location") != "/login?next=%2Fapp%2Fx%3Fy%3Dz" {
			t.Errorf("%s: %d %v", accept, w.Code, w.Header())
		}
	}
}

// TestIdentityHeaders holds what the upstream is told of the caller, and that no
// client tells it.
func TestIdentityHeaders(t *testing.T) {
	for section, want := range map[string]http.Header{
		"":                       {"X-Remote-User": {"one"}, "X_plan": {"gold"}},
		"  identity_headers: {}": {"X-Remote-User": {"root"}, "X_remote_user": {"root"}, "X_plan": {"gold"}},
		"  identity_headers: {X-Remote-User: subject, X-Plan: \"claim:plan\"}": {"X-Remote-User": {"one"}, "X-Plan": {"pro"}},
	} {
		h := newHouse(t, "auth:\n  methods: [{api_key: {file: api-keys.yaml}}]\n"+section+"\n")
		h.write("api-keys.yaml", apiKeys("one", "claims: {plan: pro}"))
		h.start(false)
		hr := httptest.NewRequest("GET", "/", nil)
		hr.Header = http.Header{"X-Api-Key": {"one"}, "X-Remote-User": {"root"}, "X_remote_user": {"root"}, "X_plan": {"gold"}}
		r := filter.NewRequest(hr, time.Now())
		if d := h.rt.Engine().Decide(r); d.Refuses() {
			t.Fatal(d)
		}
		front.Of(h.rt.Engine().Pipeline()).Pass(httptest.NewRecorder(), r)
		r.Release()
		delete(hr.Header, "X-Api-Key")
		if !maps.EqualFunc(hr.Header, want, slices.Equal) {
			t.Errorf("%s: got %v, want %v", section, hr.Header, want)
		}
	}
}

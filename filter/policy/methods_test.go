package policy

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/crypto/bcrypt"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
)

// inForce returns the methods in force by their names.
func (h *house) inForce() map[string]auth.Method {
	h.rt.state.mu.Lock()
	defer h.rt.state.mu.Unlock()
	all := make(map[string]auth.Method)
	for _, m := range h.rt.state.methods {
		all[m.Name()] = m
	}
	return all
}

func hashed(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// tokenWith makes a token with a jti.
func (s signer) tokenWith(t *testing.T, jti string) string {
	t.Helper()
	enc := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"iss":"https://issuer.example","aud":"api","sub":"anna","jti":%q,"exp":%d}`, jti, time.Now().Add(3*time.Hour).Unix())
	input := enc(fmt.Appendf(nil, `{"alg":"EdDSA","kid":%q}`, s.kid)) + "." + enc([]byte(claims))
	signature, err := s.private.Sign(nil, []byte(input), crypto.Hash(0))
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + enc(signature)
}

// TestReloadKeepsWhatIsRemembered holds that a method that no change concerns goes on
// with the credentials that it knows, and that any other begins anew.
func TestReloadKeepsWhatIsRemembered(t *testing.T) {
	a, b := newSigner(t, "a"), newSigner(t, "b")
	section := func(users, more string) string {
		return "auth:\n  methods:\n    - bearer: {issuer: \"https://issuer.example\", audience: api, jwks: keys.json, revoked: revoked.txt}\n    - basic: {htpasswd: " + users + "}\n" + more
	}
	h := newHouse(t, section("users.htpasswd", ""))
	users := "anna:" + hashed(t, "right") + "\n"
	h.write("users.htpasswd", users)
	h.write("keys.json", a.jwks())
	h.write("revoked.txt", "# none\n")
	h.start(false)
	token := a.tokenWith(t, "one")
	anna := "Basic " + base64.StdEncoding.EncodeToString([]byte("anna:right"))
	check := func(bearer, basic int) {
		t.Helper()
		for range 2 {
			h.wantWith(bearer, "/", "Authorization", "Bearer "+token)
			h.wantWith(basic, "/", "Authorization", anna)
		}
	}
	check(0, 0)
	step := func(what string, change func(), kept ...string) {
		t.Helper()
		before := h.inForce()
		digest := h.rt.Status().Digest
		change()
		if err := h.reload(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if h.rt.Status().Digest == digest {
			t.Fatalf("%s: nothing was reloaded", what)
		}
		after := h.inForce()
		for _, name := range []string{"bearer", "basic"} {
			if same, want := before[name] == after[name], strings.Contains(strings.Join(kept, " "), name); same != want || after[name] == nil {
				t.Errorf("%s: %s is kept: %v, want %v", what, name, same, want)
			}
		}
	}
	const rule = "rules: [{id: one, match: {ip: 203.0.113.1}, action: block}]\n"
	step("another section", func() { h.policy(section("users.htpasswd", "") + rule) }, "bearer", "basic")
	check(0, 0)
	step("another requirement", func() {
		h.policy(section("users.htpasswd", "  require: [{match: {path: /x}, roles: [x]}, {auth: required}]\n") + rule)
	}, "bearer", "basic")
	check(0, 0)
	step("the same file under another name", func() {
		h.write("people.htpasswd", users)
		h.policy(section("people.htpasswd", ""))
	}, "bearer", "basic")
	check(0, 0)
	step("another password", func() { h.write("people.htpasswd", "anna:"+hashed(t, "other")+"\n") }, "bearer")
	check(0, 401)
	step("the password again", func() { h.write("people.htpasswd", users) }, "bearer")
	check(0, 0)
	step("a revoked token", func() { h.write("revoked.txt", "one\n") }, "basic")
	check(401, 0)
	step("not revoked any more", func() { h.write("revoked.txt", "# none\n") }, "basic")
	check(0, 0)
	step("another key", func() { h.write("keys.json", b.jwks()) }, "basic")
	check(401, 0)
	step("the key again", func() { h.write("keys.json", a.jwks()) }, "basic")
	check(0, 0)
	step("another audience", func() {
		h.policy(strings.Replace(section("people.htpasswd", ""), "audience: api", "audience: other", 1))
	}, "basic")
	check(401, 0)
	step("the audience again", func() { h.policy(section("people.htpasswd", "")) }, "basic")
	check(0, 0)

	// A reload that is refused changes nothing, and leaves nothing behind.
	before := h.inForce()
	h.write("revoked.txt", "one\n")
	h.write("people.htpasswd", "anna:plain\n")
	if h.reload() == nil {
		t.Fatal("a broken file was taken")
	}
	check(0, 0)
	h.write("people.htpasswd", users)
	if err := h.reload(); err != nil {
		t.Fatal(err)
	}
	check(401, 0)
	if after := h.inForce(); after["basic"] != before["basic"] || after["bearer"] == before["bearer"] {
		t.Error("a refused reload decides what is kept")
	}
}

// TestWithdrawnMethodIsForgotten holds that a method that was not in force for a while
// remembers nothing.
func TestWithdrawnMethodIsForgotten(t *testing.T) {
	basic, key := "auth: {methods: [{basic: {htpasswd: u}}]}\n", "auth: {methods: [{api_key: {file: k}}]}\n"
	h := newHouse(t, basic)
	h.write("u", "anna:"+hashed(t, "right")+"\n")
	h.write("k", apiKeys("one", "roles: []"))
	h.start(false)
	first := h.inForce()["basic"]
	for _, policy := range []string{key, basic} {
		h.policy(policy)
		if err := h.reload(); err != nil {
			t.Fatal(err)
		}
	}
	if again := h.inForce()["basic"]; again == nil || again == first {
		t.Error("kept")
	}
}

// TestIssuerIsAwayMetric stops a real issuer: known keys go on working for an hour,
// nobody unknown gets in, and the metrics say so.
func TestIssuerIsAwayMetric(t *testing.T) {
	a, b := newSigner(t, "a"), newSigner(t, "b")
	var keys atomic.Pointer[string]
	answer := func(s string) { keys.Store(&s) }
	answer(a.jwks())
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, *keys.Load()) })
	listen := func(addr string) (*http.Server, string) {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: handler}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
		return s, l.Addr().String()
	}
	issuer, addr := listen("127.0.0.1:0")
	policy := "auth:\n  methods: [{bearer: {issuer: \"https://issuer.example\", audience: api, jwks: \"http://" + addr + "/keys\"}}]\n"
	h := newHouse(t, policy).start(false)
	metric := func(ok, failed int) {
		t.Helper()
		want := fmt.Sprintf(`
# HELP moat_list_refresh_total Refreshes of a list, by outcome.
# TYPE moat_list_refresh_total counter
moat_list_refresh_total{list="jwks %[1]s",result="failed"} %[2]d
moat_list_refresh_total{list="jwks %[1]s",result="ok"} %[3]d
moat_list_refresh_total{list="jwks %[1]s",result="unchanged"} 0
`, addr, failed, ok)
		if err := testutil.CollectAndCompare(h.rt.Metrics(), strings.NewReader(want), "moat_list_refresh_total"); err != nil {
			t.Error(err)
		}
	}
	at := func(after time.Duration, token string) int {
		hr := httptest.NewRequest(http.MethodGet, "/", nil)
		hr.Header.Set("Authorization", "Bearer "+token)
		r := filter.NewRequest(hr, time.Now().Add(after))
		defer r.Release()
		return h.rt.Engine().Decide(r).StatusCode()
	}
	seen, later := a.tokenWith(t, "1"), a.tokenWith(t, "2")
	if got := at(0, seen); got != 0 {
		t.Fatal(got)
	}
	metric(1, 0)
	if err := issuer.Close(); err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{0, time.Minute, time.Hour} {
		if got := at(after, seen); got != 0 {
			t.Errorf("after %v: a token that was seen: %d", after, got)
		}
		if got := at(after, later); got != 0 {
			t.Errorf("after %v: a token by a known key: %d", after, got)
		}
		if got := at(after, b.tokenWith(t, "1")); got != 401 { // asks for the key, once
			t.Errorf("after %v: a token by an unknown key: %d", after, got)
		}
	}
	metric(1, 1)

	listen(addr)
	answer(b.jwks())
	h.policy(policy + "rules: [{id: one, match: {ip: 203.0.113.1}, action: block}]\n")
	if err := h.reload(); err != nil { // keeps the keys; the next question is due in a minute
		t.Fatal(err)
	}
	if got := at(time.Hour, seen); got != 0 { // not before: a clock that is set back empties buckets
		t.Errorf("over a reload: %d", got)
	}
	metric(1, 1)
}

// TestSignedURLsAreReloaded holds that keys are changed without an end of service.
func TestSignedURLsAreReloaded(t *testing.T) {
	secrets := map[string][]byte{"old": []byte(strings.Repeat("old secret ", 4)), "new": []byte(strings.Repeat("new secret ", 4))}
	link := func(id, method string, expires time.Time) string {
		at := fmt.Sprint(expires.Unix())
		mac := hmac.New(sha256.New, secrets[id])
		mac.Write([]byte("moat-signed-url-1\n" + method + "\nexample.com\n/files/a\n" + id + "\n" + at + "\n\n"))
		return "/files/a?moat_key=" + id + "&moat_expires=" + at + "&moat_signature=" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	keys := func(ids ...string) string {
		file := "keys:\n"
		for _, id := range ids {
			file += fmt.Sprintf("  - {id: %s, secret: %q}\n", id, base64.StdEncoding.EncodeToString(secrets[id]))
		}
		return file
	}
	h := newHouse(t, "auth:\n  methods: [{signed_url: {keys: url.keys}}, {api_key: {file: api-keys.yaml}}]\n  require: [{match: {path: /files/*}, methods: signed_url}, {auth: required}]\n")
	h.write("url.keys", keys("old"))
	h.write("api-keys.yaml", apiKeys("one", "roles: []"))
	h.start(true)
	hour := time.Now().Add(time.Hour)
	h.wantWith(0, link("old", "GET", hour))
	h.wantWith(403, link("new", "GET", hour))
	h.wantWith(403, link("old", "POST", hour))
	h.wantWith(403, link("old", "GET", time.Now().Add(-time.Second)))
	h.wantWith(403, "/files/a")
	h.wantWith(401, "/other")
	if w := h.serve("GET", "/files/a"); w.Code != 403 || len(w.Header()["Www-Authenticate"]) > 0 {
		t.Errorf("no credentials where none can be asked for: %d %v", w.Code, w.Header())
	}
	h.write("url.keys", keys("old", "new"))
	h.soon("192.0.2.1", link("new", "GET", hour), 0)
	h.wantWith(0, link("old", "GET", hour))
	h.write("url.keys", keys("new"))
	h.soon("192.0.2.1", link("old", "GET", hour), 403)
	h.wantWith(0, link("new", "GET", hour))
}

// TestForwardInAPolicy holds that what the service refuses passes every profile as it
// is, and that its outage lets nobody in, whatever on_error says.
func TestForwardInAPolicy(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Cookie") {
		case "sid=1":
			w.Header().Set("X-User", "anna")
			w.Header().Set("X-Plan", "pro")
		default:
			w.Header().Set("Www-Authenticate", `Own realm="x"`)
			w.Header().Add("Set-Cookie", "state=1")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "own words")
		}
	}))
	defer service.Close()
	h := newHouse(t, "on_error: pass\nresponses: {profile: s3}\ncors: {origins: \"https://app.example.com\"}\nauth:\n  methods: [{forward: {url: \""+service.URL+
		"\", subject: X-User, upstream_headers: [X-Plan]}}]\n  require:\n    - {match: {path: /pro/*}, if: {match: {claim: {X-Plan: pro}}}}\n    - {match: {path: /team/*}, if: {match: {claim: {X-Plan: team}}}}\n    - {auth: required}\n").start(false)
	if w := h.serve("GET", "/", "Origin", "https://app.example.com"); w.Code != 401 || w.Header().Get("Www-Authenticate") != `Own realm="x"` || w.Header().Get("Set-Cookie") != "state=1" ||
		w.Body.String() != "own words" || w.Header().Get("Access-Control-Allow-Origin") != "https://app.example.com" || w.Header().Get("X-Amz-Request-Id") != "" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	h.wantWith(0, "/", "Cookie", "sid=1")
	h.wantWith(0, "/pro/x", "Cookie", "sid=1")
	h.wantWith(403, "/team/x", "Cookie", "sid=1")
	service.Close()
	h.wantWith(503, "/", "Cookie", "sid=1")
	h.wantWith(503, "/")
}

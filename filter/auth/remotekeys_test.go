package auth_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"

	"github.com/moatwaf/moat/filter/auth"
)

// issuerServer is a real server with a key set, which can be stopped and started.
type issuerServer struct {
	t     *testing.T
	addr  string
	srv   *http.Server
	asked atomic.Int64
	mu    sync.Mutex
	body  []byte
	code  int
}

func newIssuerServer(t *testing.T, keys auth.File) *issuerServer {
	s := &issuerServer{t: t, addr: "127.0.0.1:0", body: keys.Data, code: 200}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *issuerServer) start() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.srv = &http.Server{Handler: s}
	go func() { _ = s.srv.Serve(l) }()
}

func (s *issuerServer) stop() { _ = s.srv.Close() }

func (s *issuerServer) set(code int, keys auth.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.body = code, keys.Data
}

func (s *issuerServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	w.WriteHeader(s.code)
	_, _ = w.Write(s.body)
}

func (s *issuerServer) url() string { return "http://" + s.addr + "/keys" }

// remote returns a method with the keys of the server.
func remote(t *testing.T, s *issuerServer, cache string, onRefresh func(error)) (*auth.Bearer, *auth.RemoteKeys) {
	t.Helper()
	k, err := auth.NewRemoteKeys(t.Context(), auth.RemoteKeysConfig{URL: s.url(), Cache: cache, OnRefresh: onRefresh})
	if err != nil {
		t.Fatal(err)
	}
	return newBearer(t, func(c *auth.BearerConfig) { c.Tokens.JWKS, c.Tokens.Keys = auth.File{}, k }), k
}

func TestKeyRotation(t *testing.T) {
	k := keys()
	old := jwks(t, publicJWK(t, k.rsa, map[string]any{"kid": "old"}))
	both := jwks(t, publicJWK(t, k.rsa, map[string]any{"kid": "old"}), publicJWK(t, k.otherRSA, map[string]any{"kid": "new"}))
	fresh := jwks(t, publicJWK(t, k.otherRSA, map[string]any{"kid": "new"}))
	byOld := sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "old"}, claims(nil))
	byNew := sign(t, jwa.RS256(), k.otherRSA, map[string]any{"kid": "new"}, claims(nil))
	byNobody := sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "nobody"}, claims(nil))

	s := newIssuerServer(t, old)
	m, _ := remote(t, s, "", nil)
	want := func(token, detail string) {
		t.Helper()
		if _, err := verify(m, token); errorText(err) != detail {
			t.Errorf("got %v, want %q", err, detail)
		}
	}
	want(byOld, "")
	s.set(200, both)
	want(byNew, "") // asks at once
	want(byOld, "")
	asked := s.asked.Load()
	if asked != 2 {
		t.Errorf("asked %d times, want 2", asked)
	}
	for range 100 {
		want(byNobody, "no key for key id and algorithm")
	}
	if n := s.asked.Load(); n != asked {
		t.Errorf("a flood of unknown keys asks %d times more", n-asked)
	}

	// A withdrawn key is withdrawn from tokens that are remembered, too.
	s.set(200, fresh)
	m, _ = remote(t, s, "", nil)
	want(byNew, "")
	want(byOld, "no key for key id and algorithm")
}

// TestWithdrawnKey holds that a refresh forgets what was verified by a key that is
// not there any more.
func TestWithdrawnKey(t *testing.T) {
	k := keys()
	s := newIssuerServer(t, jwks(t, publicJWK(t, k.rsa, map[string]any{"kid": "a"})))
	m, _ := remote(t, s, "", nil)
	byA := sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "a"}, claims(nil))
	byB := sign(t, jwa.RS256(), k.otherRSA, map[string]any{"kid": "b"}, claims(nil))
	for range 2 {
		if _, err := verify(m, byA); err != nil {
			t.Fatal(err)
		}
	}
	s.set(200, jwks(t, publicJWK(t, k.otherRSA, map[string]any{"kid": "b"})))
	if _, err := verify(m, byB); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(m, byA); errorText(err) != "no key for key id and algorithm" {
		t.Errorf("the token of a withdrawn key: %v", err)
	}
}

// TestIssuerIsAway stops the server: known keys go on, nobody unknown gets in, and
// whoever watches is told.
func TestIssuerIsAway(t *testing.T) {
	k := keys()
	var mu sync.Mutex
	var outcomes []error
	s := newIssuerServer(t, jwks(t, publicJWK(t, k.rsa, map[string]any{"kid": "a"})))
	cache := filepath.Join(t.TempDir(), "deep", "keys.json")
	m, _ := remote(t, s, cache, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		outcomes = append(outcomes, err)
	})
	s.stop()

	long := map[string]any{"exp": now.Add(2 * time.Hour).Unix()}
	byA := func(jti string) string {
		long["jti"] = jti
		return sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "a"}, claims(long))
	}
	seen := byA("1")
	byB := sign(t, jwa.RS256(), k.otherRSA, map[string]any{"kid": "b"}, claims(long))
	for _, at := range []time.Time{now, now.Add(time.Hour)} {
		for _, token := range []string{seen, seen, byA("2")} {
			if _, err := verifyAt(m, token, at); err != nil {
				t.Errorf("%v: a token by a known key: %v", at, err)
			}
		}
		if who, err := verifyAt(m, byB, at); who != nil || errorText(err) != "no key for key id and algorithm" {
			t.Errorf("%v: a token by an unknown key: %+v, %v", at, who, err)
		}
	}
	mu.Lock()
	if len(outcomes) != 2 || outcomes[0] != nil || outcomes[1] == nil {
		t.Errorf("told of %v", outcomes)
	}
	mu.Unlock()

	// A start while the issuer is away takes the last good answer.
	again, _ := remote(t, s, cache, nil)
	if _, err := verify(again, seen); err != nil {
		t.Error(err)
	}
	if k, err := auth.NewRemoteKeys(t.Context(), auth.RemoteKeysConfig{URL: s.url(), Cache: cache + ".none"}); k != nil || err == nil {
		t.Error("keys without an issuer and without a cache")
	}

	s.start()
	s.set(200, jwks(t, publicJWK(t, k.otherRSA, map[string]any{"kid": "b"})))
	back, _ := remote(t, s, cache, nil)
	if _, err := verify(back, byB); err != nil {
		t.Error(err)
	}
}

// TestStartWithoutIssuer holds that keys of the cache are asked for again soon, and not
// only after the time that good ones have.
func TestStartWithoutIssuer(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(cache, jwks(t, publicJWK(t, keys().rsa, map[string]any{"kid": "a"})).Data, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		k, err := auth.NewRemoteKeys(t.Context(), auth.RemoteKeysConfig{URL: "https://issuer.example/keys", Cache: cache, Client: &http.Client{
			Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				asked++
				return nil, errors.New("away")
			}),
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go k.Run(ctx)
		time.Sleep(10*time.Minute + time.Second)
		cancel()
		synctest.Wait()
		if asked != 11 {
			t.Errorf("asked %d times in ten minutes, want 11", asked)
		}
	})
}

func TestBadAnswersChangeNothing(t *testing.T) {
	k := keys()
	good := jwks(t, publicJWK(t, k.rsa, map[string]any{"kid": "a"}))
	for name, answer := range map[string]struct {
		code int
		body string
	}{
		"500": {500, string(good.Data)}, "404": {404, ""}, "empty": {200, ""}, "HTML": {200, "<html>"}, "no keys": {200, `{"keys":[]}`},
		"symmetric": {200, `{"keys":[{"kty":"oct","kid":"b","k":"c2VjcmV0"}]}`}, "over 1 MiB": {200, strings.Repeat(" ", 1<<20) + string(good.Data)},
		"redirect": {302, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newIssuerServer(t, good)
			var failed error
			m, _ := remote(t, s, "", func(err error) { failed = err })
			s.set(answer.code, auth.File{Data: []byte(answer.body)})
			if _, err := verify(m, sign(t, jwa.RS256(), k.otherRSA, map[string]any{"kid": "b"}, claims(nil))); err == nil {
				t.Error("an unknown key gets in")
			}
			if failed == nil || strings.Contains(failed.Error(), "c2VjcmV0") {
				t.Errorf("told %v", failed)
			}
			if _, err := verify(m, sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "a"}, claims(nil))); err != nil {
				t.Errorf("a known key: %v", err)
			}
			if _, err := auth.NewRemoteKeys(t.Context(), auth.RemoteKeysConfig{URL: s.url()}); err == nil {
				t.Error("keys were made of it")
			}
		})
	}
}

// TestSlowIssuer holds that requests wait for an issuer no longer than they live.
func TestSlowIssuer(t *testing.T) {
	k := keys()
	slow := make(chan struct{})
	first := true
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !first {
			select {
			case <-slow:
			case <-r.Context().Done():
			}
		}
		first = false
		_, _ = w.Write(jwks(t, publicJWK(t, k.rsa, map[string]any{"kid": "a"})).Data)
	}))
	defer s.Close()
	defer close(slow)
	source, err := auth.NewRemoteKeys(t.Context(), auth.RemoteKeysConfig{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	m := newBearer(t, func(c *auth.BearerConfig) { c.Tokens.Keys = source })
	byB := sign(t, jwa.RS256(), k.otherRSA, map[string]any{"kid": "b"}, claims(nil))
	byA := sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "a"}, claims(nil))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 100 { // more than may wait
		wg.Go(func() {
			r := request("GET", "/")
			defer r.Release()
			r.HTTP = r.HTTP.WithContext(ctx)
			var rejected *auth.Rejection
			if _, err := m.Verify(r, byB); !errors.As(err, &rejected) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := verify(m, byA); err != nil {
		t.Errorf("a known key waits for an unknown one: %v", err)
	}
	cancel()
	wg.Wait()
}

func TestKeysURL(t *testing.T) {
	for _, bad := range []string{"http://issuer.example/keys", "ftp://issuer.example", "https://", "keys.json", "https://u:p@issuer.example/", "http://127.0.0.1.evil.example/", "http://[::2]/"} {
		if k, err := auth.NewRemoteKeys(t.Context(), auth.RemoteKeysConfig{URL: bad}); k != nil || err == nil || !strings.Contains(err.Error(), "keys come by https only") && !strings.Contains(err.Error(), "is no URL of a key set") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

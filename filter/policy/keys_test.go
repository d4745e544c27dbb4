package policy

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// signer signs tokens by hand (RFC 7515 section 3.1, RFC 8037).
type signer struct {
	kid     string
	private ed25519.PrivateKey
}

func newSigner(t *testing.T, kid string) signer {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return signer{kid, private}
}

func (s signer) jwks() string {
	x := base64.RawURLEncoding.EncodeToString(s.private.Public().(ed25519.PublicKey))
	return fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}]}`, s.kid, x)
}

func (s signer) token(t *testing.T, subject string) string {
	claims, err := json.Marshal(map[string]any{"iss": "https://issuer.example", "aud": "api", "sub": subject, "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding
	input := enc.EncodeToString(fmt.Appendf(nil, `{"alg":"EdDSA","kid":%q}`, s.kid)) + "." + enc.EncodeToString(claims)
	return input + "." + enc.EncodeToString(ed25519.Sign(s.private, []byte(input)))
}

// TestKeysFromURL holds keys of an issuer over reloads and while it is away.
func TestKeysFromURL(t *testing.T) {
	a, b := newSigner(t, "a"), newSigner(t, "b")
	var asked atomic.Int64
	var keys atomic.Pointer[string]
	answer := func(s string) { keys.Store(&s) }
	answer(a.jwks())
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if body := *keys.Load(); body != "" {
			_, _ = io.WriteString(w, body)
			return
		}
		http.Error(w, "away", http.StatusBadGateway)
	}))
	defer issuer.Close()
	policy := "auth:\n  methods: [{bearer: {issuer: \"https://issuer.example\", audience: api, jwks: \"" + issuer.URL + "/keys\"}}]\n"
	h := newHouse(t, policy).start(false)
	h.wantWith(0, "/", "Authorization", "Bearer "+a.token(t, "anna"))
	h.wantWith(401, "/", "Authorization", "Bearer "+b.token(t, "anna"))

	before := asked.Load()
	h.policy(policy + "rules: [{id: one, match: {ip: 203.0.113.1}, action: block}]\n")
	if err := h.reload(); err != nil {
		t.Fatal(err)
	}
	if asked.Load() != before {
		t.Error("a reload asks the issuer anew")
	}
	h.wantWith(0, "/", "Authorization", "Bearer "+a.token(t, "otto"))

	answer("")
	again := &house{t: t, dir: h.dir}
	again.start(false)
	again.wantWith(0, "/", "Authorization", "Bearer "+a.token(t, "anna"))
	again.wantWith(401, "/", "Authorization", "Bearer "+b.token(t, "anna"))
	if !strings.Contains(again.log.String(), "keys not refreshed") {
		t.Error("the log does not say that the issuer is away")
	}

	answer(b.jwks())
	third := newHouse(t, policy).start(false)
	third.wantWith(0, "/", "Authorization", "Bearer "+b.token(t, "anna"))
	third.wantWith(401, "/", "Authorization", "Bearer "+a.token(t, "anna"))
}

// TestNoCacheOfKeysWithoutADirectory holds that keys are kept, and found, nowhere if
// there is no directory for them: the working directory may be anybody's.
func TestNoCacheOfKeysWithoutADirectory(t *testing.T) {
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("CACHE_DIRECTORY", "")
	a := newSigner(t, "a")
	up := true
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if up {
			_, _ = io.WriteString(w, a.jwks())
			return
		}
		http.Error(w, "away", http.StatusBadGateway)
	}))
	defer issuer.Close()
	h := newHouse(t, "auth:\n  methods: [{bearer: {issuer: \"https://issuer.example\", audience: api, jwks: \""+issuer.URL+"\"}}]\n")
	t.Chdir(t.TempDir())
	options := Options{File: filepath.Join(h.dir, "policy.yaml")}
	if _, err := Check(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	if files, err := filepath.Glob("*"); err != nil || len(files) > 0 {
		t.Errorf("written into the working directory: %q %v", files, err)
	}
	up = false
	if _, err := Check(t.Context(), options); err == nil {
		t.Error("keys without an issuer")
	}
}

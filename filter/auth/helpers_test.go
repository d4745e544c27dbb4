package auth_test

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"golang.org/x/crypto/bcrypt"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/filter/respond"
)

// now is the time of every request of the tests.
var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const (
	issuer   = "https://issuer.example"
	audience = "api"
)

// keys are private keys of every type, made once.
var keys = sync.OnceValue(func() (k struct {
	rsa, otherRSA *rsa.PrivateKey
	p256, p384    *ecdsa.PrivateKey
	p521          *ecdsa.PrivateKey
	ed            ed25519.PrivateKey
}) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.otherRSA, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.p256, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	k.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	k.p521, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	must(err)
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	return k
})

// publicJWK returns the public half of a key as a JWK with further members.
func publicJWK(t testing.TB, private crypto.Signer, members map[string]any) map[string]any {
	t.Helper()
	key, err := jwk.Import(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	maps.Copy(m, members)
	return m
}

// jwks returns a key set file.
func jwks(t testing.TB, keys ...map[string]any) auth.File {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return auth.File{Name: "keys.json", Data: raw}
}

// allKeys is a key set with a key of every type, its id that of the field.
func allKeys(t testing.TB) auth.File {
	k := keys()
	return jwks(t,
		publicJWK(t, k.rsa, map[string]any{"kid": "rsa", "use": "sig"}),
		publicJWK(t, k.p256, map[string]any{"kid": "p256", "alg": "ES256"}),
		publicJWK(t, k.p384, map[string]any{"kid": "p384"}),
		publicJWK(t, k.p521, map[string]any{"kid": "p521"}),
		publicJWK(t, k.ed, map[string]any{"kid": "ed"}),
	)
}

// claims returns good claims with changes; a nil value takes a claim away.
func claims(changes map[string]any) map[string]any {
	c := map[string]any{
		"iss": issuer, "aud": audience, "sub": "anna", "jti": "id-1",
		"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	for name, v := range changes {
		if v == nil {
			delete(c, name)
		} else {
			c[name] = v
		}
	}
	return c
}

// sign makes a token with the header members beside alg.
func sign(t testing.TB, alg jwa.SignatureAlgorithm, key any, header map[string]any, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return signBytes(t, alg, key, header, payload)
}

// signBytes is sign for a payload that need not be claims.
func signBytes(t testing.TB, alg jwa.SignatureAlgorithm, key any, header map[string]any, payload []byte) string {
	t.Helper()
	h := jws.NewHeaders()
	for name, v := range header {
		if err := h.Set(name, v); err != nil {
			t.Fatal(err)
		}
	}
	token, err := jws.Sign(payload, jws.WithKey(alg, key, jws.WithProtectedHeaders(h)))
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// token makes a good RS256 token with changed claims.
func token(t testing.TB, changes map[string]any) string {
	t.Helper()
	return sign(t, jwa.RS256(), keys().rsa, map[string]any{"kid": "rsa", "typ": "JWT"}, claims(changes))
}

// handmade makes a token out of any header and a signature function, for what no
// library signs.
func handmade(t testing.TB, header, payload string, signature func(input string) []byte) string {
	t.Helper()
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return input + "." + base64.RawURLEncoding.EncodeToString(signature(input))
}

// goodPayload is the payload of a good token.
func goodPayload(t testing.TB) string {
	t.Helper()
	raw, err := json.Marshal(claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// hmacWith signs like HS256.
func hmacWith(secret []byte) func(string) []byte {
	return func(input string) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(input))
		return h.Sum(nil)
	}
}

// publicPEM is the public RSA key in the form in which people keep it.
func publicPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(keys().rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// htpasswd returns a password file: name, password, name, password ...
func htpasswd(t testing.TB, pairs ...string) auth.File {
	t.Helper()
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		hash, err := bcrypt.GenerateFromPassword([]byte(pairs[i+1]), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(pairs[i] + ":" + string(hash) + "\n")
	}
	return auth.File{Name: "users.htpasswd", Data: []byte(b.String())}
}

func newBearer(t testing.TB, change func(*auth.BearerConfig)) *auth.Bearer {
	t.Helper()
	c := auth.BearerConfig{Tokens: auth.TokenConfig{Issuer: issuer, Audience: audience, JWKS: allKeys(t), Revoked: auth.File{Name: "revoked.txt", Data: []byte("# gone\nrevoked-1\n\n")}}}
	if change != nil {
		change(&c)
	}
	b, err := auth.NewBearer(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newBasic(t testing.TB, pairs ...string) *auth.Basic {
	t.Helper()
	b, err := auth.NewBasic(auth.BasicConfig{Htpasswd: htpasswd(t, pairs...)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func basicPair(pair string) string { return base64.StdEncoding.EncodeToString([]byte(pair)) }

// under matches paths below a prefix.
type under string

func (u under) Match(r *filter.Request) (bool, error) {
	return strings.HasPrefix(r.Path, string(u)), nil
}

// pipeline returns the two stages in their places.
func pipeline(t testing.TB, c auth.Config) *filter.Pipeline {
	t.Helper()
	a, err := auth.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return filter.NewPipeline(filter.Config{Name: "test", Conceals: a.Conceals(), Steps: []filter.Step{
		{Stage: a.Authenticate(), Always: true},
		{Stage: a.Authorize(), Always: true},
	}})
}

// house is the policy of the conformance rows.
func house(t testing.TB) *filter.Pipeline {
	return pipeline(t, auth.Config{
		Realm:   "api",
		Methods: []auth.Method{newBearer(t, nil), newBasic(t, "anna", "right", "otto", "pass:with:colons")},
		Requirements: []auth.Requirement{
			{Match: under("/api/public"), Auth: auth.None},
			{Match: under("/basic/"), Methods: []string{"basic"}},
			{ID: "secret", Match: under("/api/projects/secret"), Roles: []string{"owner"}, Conceal: true},
			{ID: "users", Match: under("/api/admin/users"), Roles: []string{"admin", "root"}},
			{ID: "report", Match: under("/api/admin/report"), Scopes: []string{"report.read", "admin"}},
			{Match: under("/api/"), Methods: []string{"bearer"}},
		},
	})
}

// parse reads a request as it came over the wire.
func parse(t testing.TB, lines ...string) *http.Request {
	t.Helper()
	raw := strings.Join(lines, "\r\n") + "\r\n"
	if strings.Contains(lines[0], "HTTP/1.1") {
		raw += "Host: example.com\r\n"
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw + "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	return r.WithContext(t.Context())
}

// decide runs a request through a pipeline.
func decide(p *filter.Pipeline, hr *http.Request) (filter.Decision, *filter.Identity, error) {
	r := filter.NewRequest(hr, now)
	defer r.Release()
	d, err := p.Decide(r)
	return d, r.Identity, err
}

// serve answers a request: an upstream that has pages for all paths but those
// that are called nothing-here.
func serve(t testing.TB, p *filter.Pipeline, hr *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	d, _, err := decide(p, hr)
	switch {
	case err != nil:
		t.Errorf("stage error: %v", err)
	case d.Refuses():
		respond.Write(w, hr, d)
	case strings.Contains(hr.URL.Path, "nothing-here"):
		respond.NotFound(w, hr)
	default:
		w.WriteHeader(http.StatusOK)
	}
	return w
}

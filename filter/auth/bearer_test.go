package auth_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
)

// verify runs a token through a method at the time of the tests.
func verify(m auth.Method, credential string) (*filter.Identity, error) {
	r := filter.NewRequest(httptest.NewRequest("GET", "/", nil), now)
	defer r.Release()
	return m.Verify(r, credential)
}

func TestBearerTokens(t *testing.T) {
	k := keys()
	b := newBearer(t, nil)
	rs := map[string]any{"kid": "rsa"}
	good := func(header string) string {
		return handmade(t, header, goodPayload(t), hmacWith([]byte("x")))
	}
	for _, tt := range []struct {
		name  string
		token string
		want  string // the operator's detail; empty: the token holds
	}{
		{"RS256", token(t, nil), ""},
		{"RS512", sign(t, jwa.RS512(), k.rsa, rs, claims(nil)), ""},
		{"PS256", sign(t, jwa.PS256(), k.rsa, rs, claims(nil)), ""},
		{"ES256", sign(t, jwa.ES256(), k.p256, map[string]any{"kid": "p256"}, claims(nil)), ""},
		{"ES384", sign(t, jwa.ES384(), k.p384, map[string]any{"kid": "p384"}, claims(nil)), ""},
		{"ES512", sign(t, jwa.ES512(), k.p521, map[string]any{"kid": "p521"}, claims(nil)), ""},
		{"EdDSA", sign(t, jwa.EdDSA(), k.ed, map[string]any{"kid": "ed"}, claims(nil)), ""},
		{"Ed25519", sign(t, jwa.EdDSAEd25519(), k.ed, map[string]any{"kid": "ed"}, claims(nil)), ""},
		{"no key id, and one key for the algorithm", sign(t, jwa.ES256(), k.p256, nil, claims(nil)), ""},

		{"typ JWT", sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "rsa", "typ": "jwt"}, claims(nil)), ""},
		{"typ at+jwt", sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "rsa", "typ": "at+jwt"}, claims(nil)), ""},
		{"typ application/at+jwt", sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "rsa", "typ": "application/at+JWT"}, claims(nil)), ""},
		{"typ of a logout token", sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "rsa", "typ": "logout+jwt"}, claims(nil)), "typ is not that of an access token"},
		{"typ that is no string", good(`{"alg":"RS256","kid":"rsa","typ":7}`), "typ is not that of an access token"},

		{"empty", "", "not a JWT"},
		{"one part", "abc", "not a JWT"},
		{"two parts", "a.b", "not a JWT"},
		{"four parts", "a.b.c.d", "not a JWT"},
		{"no signature", "a.b.", "not a JWT"},
		{"no payload", "a..c", "not a JWT"},
		{"padding", "YQ==.YQ==.YQ==", "not a JWT"},
		{"standard alphabet", "a+.b/.c", "not a JWT"},
		{"JSON serialization", `{"payload":"e30"}`, "not a JWT"},
		{"five parts of a JWE", "a.b.c.d.e", "not a JWT"},
		{"header is no JSON", "YWJj.e30.AA", "JOSE header not valid"},
		{"header is null", "bnVsbA.e30.AA", "JOSE header not valid"},
		{"header of an impossible length", "a.e30.AA", "not a JWT"},
		{"header over 4 KiB", good(`{"alg":"RS256","kid":"rsa","x":"` + strings.Repeat("a", 4<<10) + `"}`), "JOSE header not valid"},
		{"16 KiB and a byte", strings.Repeat("a", 16<<10+1), "token too long"},

		{"alg none", good(`{"alg":"none","kid":"rsa"}`), "algorithm not allowed"},
		{"alg None", good(`{"alg":"None","kid":"rsa"}`), "algorithm not allowed"},
		{"no alg", good(`{"kid":"rsa"}`), "algorithm not allowed"},
		{"alg that is no string", good(`{"alg":["RS256"],"kid":"rsa"}`), "algorithm not allowed"},
		{"alg in other case", good(`{"alg":"rs256","kid":"rsa"}`), "algorithm not allowed"},
		{"member ALG", good(`{"ALG":"RS256","kid":"rsa"}`), "algorithm not allowed"},
		{"HS256 with the public key as PEM", handmade(t, `{"alg":"HS256","kid":"rsa"}`, goodPayload(t), hmacWith(publicPEM(t))), "algorithm not allowed"},
		{"HS256 with the modulus", handmade(t, `{"alg":"HS256","kid":"rsa"}`, goodPayload(t), hmacWith(k.rsa.N.Bytes())), "algorithm not allowed"},
		{"RS256 announced, HMAC inside", handmade(t, `{"alg":"RS256","kid":"rsa"}`, goodPayload(t), hmacWith(publicPEM(t))), "signature does not verify"},
		{"algorithm twice", handmade(t, `{"alg":"HS256","kid":"rsa","alg":"RS256"}`, goodPayload(t), hmacWith(publicPEM(t))), "signature does not verify"},
		{"algorithm of another type of key", good(`{"alg":"ES256","kid":"rsa"}`), "no key for key id and algorithm"},
		{"algorithm of another curve", sign(t, jwa.ES256(), k.p256, map[string]any{"kid": "p384"}, claims(nil)), "no key for key id and algorithm"},

		{"critical parameters", good(`{"alg":"RS256","kid":"rsa","crit":["exp"],"exp":1}`), "critical header parameters"},
		{"empty critical parameters", good(`{"alg":"RS256","kid":"rsa","crit":[]}`), "critical header parameters"},
		{"payload not encoded", good(`{"alg":"RS256","kid":"rsa","b64":false}`), "signature does not verify"},
		{"unknown key id", sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "no"}, claims(nil)), "no key for key id and algorithm"},
		{"key id that is no string", good(`{"alg":"RS256","kid":7}`), "JOSE header not valid"},
		{"empty key id", good(`{"alg":"RS256","kid":""}`), "JOSE header not valid"},
		{"key of its own in the header", sign(t, jwa.RS256(), k.otherRSA, map[string]any{"kid": "rsa", "jku": "https://evil.example/keys.json"}, claims(nil)), "signature does not verify"},
		{"signed by another key", sign(t, jwa.RS256(), k.otherRSA, rs, claims(nil)), "signature does not verify"},
		{"changed payload", func() string {
			parts := strings.Split(token(t, nil), ".")
			other := strings.Split(token(t, map[string]any{"sub": "root"}), ".")
			return parts[0] + "." + other[1] + "." + parts[2]
		}(), "signature does not verify"},

		{"payload is no object", handmadeRSA(t, `["a"]`), "claims not valid"},
		{"payload is null", handmadeRSA(t, `null`), "claims not valid"},
		{"payload is empty", handmadeRSA(t, ` `), "claims not valid"},
		{"no issuer", token(t, map[string]any{"iss": nil}), "wrong issuer"},
		{"other issuer", token(t, map[string]any{"iss": issuer + "/"}), "wrong issuer"},
		{"issuer list", token(t, map[string]any{"iss": []string{issuer}}), "wrong issuer"},
		{"no audience", token(t, map[string]any{"aud": nil}), "wrong audience"},
		{"other audience", token(t, map[string]any{"aud": "api2"}), "wrong audience"},
		{"audience list", token(t, map[string]any{"aud": []string{"x", audience}}), ""},
		{"audience list without ours", token(t, map[string]any{"aud": []any{"x", 7}}), "wrong audience"},
		{"audience in other case", token(t, map[string]any{"aud": "API"}), "wrong audience"},

		{"no expiry", token(t, map[string]any{"exp": nil}), "no expiry"},
		{"expiry as text", token(t, map[string]any{"exp": "2030"}), "claims not valid"},
		{"expired within the skew", token(t, map[string]any{"exp": now.Add(-59 * time.Second).Unix()}), ""},
		{"expired at the edge of the skew", token(t, map[string]any{"exp": now.Add(-60 * time.Second).Unix()}), "token expired"},
		{"expired by a fraction", token(t, map[string]any{"exp": float64(now.Unix()) - 60.001}), "token expired"},
		{"expired long ago", token(t, map[string]any{"exp": -1e300}), "token expired"},
		{"expires at the end of time", token(t, map[string]any{"exp": 1e300}), ""},
		{"not before, within the skew", token(t, map[string]any{"nbf": now.Add(60 * time.Second).Unix()}), ""},
		{"not before, over the skew", token(t, map[string]any{"nbf": now.Add(61 * time.Second).Unix()}), "token not valid yet"},
		{"not before as text", token(t, map[string]any{"nbf": "soon"}), "claims not valid"},
		{"issued within the skew", token(t, map[string]any{"iat": now.Add(60 * time.Second).Unix()}), ""},
		{"issued over the skew", token(t, map[string]any{"iat": now.Add(61 * time.Second).Unix()}), "token issued in the future"},
		{"issued as text", token(t, map[string]any{"iat": true}), "claims not valid"},
		{"never issued", token(t, map[string]any{"iat": nil}), ""},

		{"revoked", token(t, map[string]any{"jti": "revoked-1"}), "token revoked"},
		{"identifier that is no string", token(t, map[string]any{"jti": 1}), "claims not valid"},
		{"no identifier", token(t, map[string]any{"jti": nil}), ""},
		{"comment is no identifier", token(t, map[string]any{"jti": "# gone"}), ""},
		{"no subject", token(t, map[string]any{"sub": nil}), "no subject"},
		{"empty subject", token(t, map[string]any{"sub": ""}), "no subject"},
		{"client instead of a subject", token(t, map[string]any{"sub": nil, "client_id": "job"}), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			who, err := verify(b, tt.token)
			if tt.want == "" {
				if err != nil || who == nil || who.Subject == "" || who.Method != "bearer" {
					t.Fatalf("got %+v, %v; want an identity", who, err)
				}
				return
			}
			var rejected *auth.Rejection
			if who != nil || !errors.As(err, &rejected) || rejected.Detail != tt.want {
				t.Fatalf("got %+v, %v; want %q", who, err, tt.want)
			}
			if !regexp.MustCompile(`^[\x20-\x21\x23-\x5B\x5D-\x7E]+$`).MatchString(rejected.Description) {
				t.Errorf("description %q has other characters than error_description", rejected.Description)
			}
		})
	}
}

// handmadeRSA signs any payload with the RSA key.
func handmadeRSA(t testing.TB, payload string) string {
	t.Helper()
	return signBytes(t, jwa.RS256(), keys().rsa, map[string]any{"kid": "rsa"}, []byte(payload))
}

func TestBearerIdentity(t *testing.T) {
	b := newBearer(t, nil)
	who, err := verify(b, token(t, map[string]any{
		"scope":  "read  write",
		"scp":    []any{"admin", 7},
		"roles":  []any{"a", nil, "b"},
		"groups": "staff and more",
		"plan":   "pro",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"read", "write", "admin"}; !slices.Equal(who.Scopes, want) {
		t.Errorf("scopes %q, want %q", who.Scopes, want)
	}
	if want := []string{"a", "b", "staff and more"}; !slices.Equal(who.Roles, want) {
		t.Errorf("roles %q, want %q", who.Roles, want)
	}
	if who.Subject != "anna" || who.Method != "bearer" || who.Claims["plan"] != "pro" {
		t.Errorf("identity %+v", who)
	}
	if who, err = verify(b, token(t, map[string]any{"scp": "x y", "roles": map[string]any{"admin": true}})); err != nil || !slices.Equal(who.Scopes, []string{"x", "y"}) || len(who.Roles) != 0 {
		t.Errorf("identity %+v, %v", who, err)
	}
}

func TestBearerKeyChoice(t *testing.T) {
	k := keys()
	rsaKey := func(members map[string]any) map[string]any { return publicJWK(t, k.rsa, members) }
	other := func(members map[string]any) map[string]any { return publicJWK(t, k.otherRSA, members) }
	for _, tt := range []struct {
		name       string
		keys       []map[string]any
		algorithms []string
		alg        jwa.SignatureAlgorithm
		header     map[string]any
		want       string
	}{
		{"the key's algorithm", []map[string]any{rsaKey(map[string]any{"kid": "a", "alg": "RS256"})}, nil, jwa.RS256(), map[string]any{"kid": "a"}, ""},
		{"not the key's algorithm", []map[string]any{rsaKey(map[string]any{"kid": "a", "alg": "PS256"})}, nil, jwa.RS256(), map[string]any{"kid": "a"}, "no key for key id and algorithm"},
		{"not the policy's algorithm", []map[string]any{rsaKey(map[string]any{"kid": "a"})}, []string{"PS256"}, jwa.RS256(), map[string]any{"kid": "a"}, "algorithm not allowed"},
		{"rotation: both keys are taken", []map[string]any{other(map[string]any{"kid": "old"}), rsaKey(map[string]any{"kid": "new"})}, nil, jwa.RS256(), map[string]any{"kid": "new"}, ""},
		{"no key id, two keys", []map[string]any{other(map[string]any{"kid": "old"}), rsaKey(map[string]any{"kid": "new"})}, nil, jwa.RS256(), nil, "no key for key id and algorithm"},
		{"no key id, two keys of which one is for the algorithm", []map[string]any{other(map[string]any{"kid": "old", "alg": "PS256"}), rsaKey(map[string]any{"kid": "new"})}, nil, jwa.RS256(), nil, ""},
		{"key id, and a set without", []map[string]any{rsaKey(nil)}, nil, jwa.RS256(), map[string]any{"kid": "a"}, "no key for key id and algorithm"},
		{"neither has a key id", []map[string]any{rsaKey(nil)}, nil, jwa.RS256(), nil, ""},
		{"one key id for two types", []map[string]any{publicJWK(t, k.p256, map[string]any{"kid": "a"}), rsaKey(map[string]any{"kid": "a"})}, nil, jwa.RS256(), map[string]any{"kid": "a"}, ""},
		{"a key for encryption beside", []map[string]any{other(map[string]any{"kid": "a", "use": "enc"}), rsaKey(map[string]any{"kid": "a"})}, nil, jwa.RS256(), map[string]any{"kid": "a"}, ""},
		{"a key of a type to come beside", []map[string]any{{"kty": "AKP", "kid": "a", "alg": "ML-DSA-44", "pub": "AA"}, rsaKey(map[string]any{"kid": "a"})}, nil, jwa.RS256(), map[string]any{"kid": "a"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBearer(t, func(c *auth.BearerConfig) {
				c.Tokens.JWKS = jwks(t, tt.keys...)
				c.Tokens.Algorithms = tt.algorithms
			})
			_, err := verify(b, sign(t, tt.alg, k.rsa, tt.header, claims(nil)))
			if got := errorText(err); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestBearerSkew(t *testing.T) {
	late := token(t, map[string]any{"exp": now.Add(-time.Second).Unix()})
	for _, tt := range []struct {
		skew time.Duration
		want string
	}{{0, ""}, {2 * time.Second, ""}, {time.Second, "token expired"}, {-1, "token expired"}} {
		_, err := verify(newBearer(t, func(c *auth.BearerConfig) { c.Tokens.Skew = tt.skew }), late)
		if got := errorText(err); got != tt.want {
			t.Errorf("skew %v: got %q, want %q", tt.skew, got, tt.want)
		}
	}
}

func TestNoTimeNoVerification(t *testing.T) {
	r := filter.NewRequest(httptest.NewRequest("GET", "/", nil), time.Time{})
	defer r.Release()
	for _, m := range []struct {
		method     auth.Method
		credential string
	}{{newBearer(t, nil), token(t, nil)}, {newBasic(t, "anna", "right"), basicPair("anna:right")}} {
		who, err := m.method.Verify(r, m.credential)
		var rejected *auth.Rejection
		if who != nil || err == nil || errors.As(err, &rejected) {
			t.Errorf("%s: got %+v, %v; want an error of the stage", m.method.Name(), who, err)
		}
	}
}

func TestNewBearerRefuses(t *testing.T) {
	_, err := auth.NewBearer(auth.BearerConfig{Tokens: auth.TokenConfig{
		Algorithms: []string{"RS256", "none", "HS256", "ES256K"},
		Revoked:    auth.File{Name: "revoked.txt", Data: []byte("ok\na\x00b\n")},
	}})
	want := strings.Join([]string{
		"bearer: the issuer is empty: any issuer's tokens would be taken",
		"bearer: the audience is empty: tokens for other services would be taken",
		"bearer: algorithm none is not allowed: whoever can verify could sign",
		"bearer: algorithm HS256 is not allowed: whoever can verify could sign",
		`bearer: algorithm "ES256K" is not known; there are: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, Ed25519`,
		"revoked.txt:2:1: control characters or broken UTF-8 in a token identifier (write the jti claim of one token a line)",
	}, "\n")
	if errorText(err) != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func BenchmarkBearer(b *testing.B) {
	k := keys()
	m := newBearer(b, nil)
	for _, bb := range []struct {
		name  string
		token string
	}{
		{"RS256", token(b, nil)},
		{"ES256", sign(b, jwa.ES256(), k.p256, map[string]any{"kid": "p256"}, claims(nil))},
		{"EdDSA", sign(b, jwa.EdDSA(), k.ed, map[string]any{"kid": "ed"}, claims(nil))},
		{"hostile-unknown-key", sign(b, jwa.RS256(), k.rsa, map[string]any{"kid": "x"}, claims(nil))},
		{"hostile-16KiB", strings.Repeat("e30.", 4096)},
		{"hostile-deep-header", handmade(b, strings.Repeat("[", 9000), "{}", hmacWith(nil))},
	} {
		b.Run(bb.name, func(b *testing.B) {
			r := filter.NewRequest(&http.Request{URL: httptest.NewRequest("GET", "/", nil).URL}, now)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = m.Verify(r, bb.token)
			}
		})
	}
}

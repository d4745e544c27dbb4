package auth_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
)

// verifyAt runs a token through a method at a time.
func verifyAt(m auth.Method, token string, at time.Time) (*filter.Identity, error) {
	r := filter.NewRequest(httptest.NewRequest("GET", "/", nil), at)
	defer r.Release()
	return m.Verify(r, token)
}

// TestRememberedTokenExpires holds that a remembered token is held against the
// clock like one that comes for the first time.
func TestRememberedTokenExpires(t *testing.T) {
	issued := now.Add(10 * time.Second)
	good := token(t, map[string]any{"iat": issued.Unix(), "nbf": issued.Unix(), "exp": now.Add(time.Minute).Unix()})
	for _, tt := range []struct {
		after time.Duration
		want  string
	}{
		{0, ""},
		{2*time.Minute - time.Millisecond, ""},
		{2 * time.Minute, "token expired"},
		{time.Hour, "token expired"},
		{-49 * time.Second, ""}, // a clock that was set back
		{-51 * time.Second, "token not valid yet"},
	} {
		m := newBearer(t, nil)
		first, err := verifyAt(m, good, now)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := verifyAt(m, good, now); err != nil || again != first {
			t.Fatalf("not remembered: %p and %p, %v", first, again, err)
		}
		if _, err := verifyAt(m, good, now.Add(tt.after)); errorText(err) != tt.want {
			t.Errorf("after %v: got %q, want %q", tt.after, errorText(err), tt.want)
		}
	}
}

// TestMemoryIsNotPoisoned holds that tokens which differ in one character from one
// that is remembered stay refused, before and after it was seen.
func TestMemoryIsNotPoisoned(t *testing.T) {
	m := newBearer(t, nil)
	good := token(t, nil)
	check := func() {
		t.Helper()
		for i := range good {
			other := byte('A')
			if good[i] == 'A' {
				other = 'B'
			}
			if i == len(good)-1 {
				// The last character has bits that stand for nothing.
				continue
			}
			changed := good[:i] + string(other) + good[i+1:]
			if who, err := verify(m, changed); who != nil || err == nil {
				t.Fatalf("character %d changed: got %+v", i, who)
			}
		}
	}
	check()
	for range 2 {
		if _, err := verify(m, good); err != nil {
			t.Fatal(err)
		}
		check()
	}
}

// TestRevokedTokenIsNotRemembered holds that a revoked token never gets into the
// memory, and that a new list makes a new memory.
func TestRevokedTokenIsNotRemembered(t *testing.T) {
	m := newBearer(t, nil)
	for range 3 {
		if _, err := verify(m, token(t, map[string]any{"jti": "revoked-1"})); errorText(err) != "token revoked" {
			t.Fatalf("got %v", err)
		}
	}
	good := token(t, map[string]any{"jti": "id-2"})
	if _, err := verify(m, good); err != nil {
		t.Fatal(err)
	}
	after := newBearer(t, func(c *auth.BearerConfig) { c.Tokens.Revoked.Data = []byte("id-2\n") })
	if _, err := verify(after, good); errorText(err) != "token revoked" {
		t.Errorf("got %v", err)
	}
}

// TestAttacks is what is sent against verifiers of tokens.
func TestAttacks(t *testing.T) {
	k := keys()
	hs := func(header string) string { return handmade(t, header, goodPayload(t), hmacWith(publicPEM(t))) }
	raw := func(payload string) string { return handmadeRSA(t, payload) }
	exp := fmt.Sprint(now.Add(time.Hour).Unix())
	good := token(t, nil)
	parts := strings.Split(good, ".")
	for _, tt := range []struct{ name, token, want string }{
		{"key id that climbs", hs(`{"alg":"RS256","kid":"../../../../dev/null"}`), "no key for key id and algorithm"},
		{"key id that injects SQL", hs(`{"alg":"RS256","kid":"x' UNION SELECT 'secret'--"}`), "no key for key id and algorithm"},
		{"key id that injects a command", hs(`{"alg":"RS256","kid":"|/bin/true"}`), "no key for key id and algorithm"},
		{"key id with NUL", hs(`{"alg":"RS256","kid":"rsa\u0000"}`), "no key for key id and algorithm"},
		{"jku and x5u are not followed", sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "rsa", "jku": "https://evil.example/keys"}, claims(nil)), ""},
		{"x5u beside a foreign key", sign(t, jwa.RS256(), k.otherRSA, map[string]any{"kid": "rsa", "x5u": "https://evil.example/cert"}, claims(nil)), "signature does not verify"},
		{"a key in the header", hs(`{"alg":"RS256","kid":"rsa","jwk":{"kty":"oct","k":"c2VjcmV0"}}`), "signature does not verify"},
		{"alg nOnE", hs(`{"alg":"nOnE","kid":"rsa"}`), "algorithm not allowed"},
		{"no signature at all", parts[0] + "." + parts[1] + ".", "not a JWT"},
		{"signature of zeros", parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])), "signature does not verify"},
		{"signature cut short", good[:len(good)-4], "signature does not verify"},
		{"signature too long", good + "AAAA", "signature does not verify"},
		{"ES256 with r and s of 0", handmade(t, `{"alg":"ES256","kid":"p256"}`, goodPayload(t), func(string) []byte { return make([]byte, 64) }), "signature does not verify"},
		{"claims twice, the last one wrong", raw(`{"iss":"` + issuer + `","aud":"api","sub":"anna","exp":` + exp + `,"exp":1}`), "token expired"},
		{"issuer twice, the last one wrong", raw(`{"iss":"` + issuer + `","aud":"api","sub":"anna","exp":` + exp + `,"iss":"https://evil.example"}`), "wrong issuer"},
		{"claims in other case", raw(`{"ISS":"` + issuer + `","aud":"api","sub":"anna","exp":` + exp + `}`), "wrong issuer"},
		{"audience that begins like ours", token(t, map[string]any{"aud": []string{"api2", "api.example"}}), "wrong audience"},
		{"issuer in homoglyphs", token(t, map[string]any{"iss": "https://іssuer.example"}), "wrong issuer"},
		{"a name in broken UTF-8", raw("{\"iss\":\"" + issuer + "\",\"aud\":\"api\",\"sub\":\"a\xff\",\"exp\":" + exp + "}"), "claims not valid"},
		{"a name with half a character", raw(`{"iss":"` + issuer + `","aud":"api","sub":"a\ud800","exp":` + exp + `}`), "no subject"},
		{"expiry as a number too large", raw(`{"iss":"` + issuer + `","aud":"api","sub":"anna","exp":1e999}`), "claims not valid"},
		{"1 MB", strings.Repeat("a", 1<<20), "token too long"},
		{"15 KB payload that is not ours", handmade(t, `{"alg":"RS256","kid":"rsa"}`, `{"a":"`+strings.Repeat("b", 11<<10)+`"}`, hmacWith(nil)), "signature does not verify"},
		{"NUL behind", good + "\x00", "not a JWT"},
		{"line end inside", good[:20] + "\n" + good[20:], "not a JWT"},
		{"full-width dots", strings.ReplaceAll(good, ".", "．"), "not a JWT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newBearer(t, nil)
			for range 2 {
				if who, err := verify(m, tt.token); errorText(err) != tt.want || (who == nil) != (tt.want != "") {
					t.Errorf("got %+v, %v; want %q", who, err, tt.want)
				}
			}
		})
	}
}

// TestHomoglyphIsAnotherUser holds that names are compared as bytes.
func TestHomoglyphIsAnotherUser(t *testing.T) {
	who, err := verify(newBearer(t, nil), token(t, map[string]any{"sub": "аnna"}))
	if err != nil || who.Subject == "anna" {
		t.Errorf("got %+v, %v", who, err)
	}
	if _, err := verify(newBasic(t, "anna", "right"), basicPair("аnna:right")); err == nil {
		t.Error("a homoglyph logs in")
	}
}

func TestSeenTokenDoesNotAllocate(t *testing.T) {
	if testing.Short() {
		t.Skip()
	}
	p := house(t)
	r := request("GET", "/api/me", "Authorization", "Bearer "+token(t, nil))
	defer r.Release()
	if d, err := p.Decide(r); err != nil || d.Refuses() {
		t.Fatal(d, err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = p.Decide(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTokens(b *testing.B) {
	k := keys()
	good := token(b, nil)
	ed := sign(b, jwa.EdDSA(), k.ed, map[string]any{"kid": "ed"}, claims(nil))
	forged := func(header, payload string, n int) func(i int) string {
		h := base64.RawURLEncoding.EncodeToString([]byte(header))
		return func(i int) string {
			signature := make([]byte, n)
			signature[0], signature[1], signature[2] = byte(i), byte(i>>8), byte(i>>16)
			return h + "." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + "." + base64.RawURLEncoding.EncodeToString(signature)
		}
	}
	expired := `{"iss":"` + issuer + `","aud":"api","sub":"anna","exp":1}`
	for _, bb := range []struct {
		name   string
		tokens func(i int) string
		fresh  bool // every token is another one
	}{
		{"seen-RS256", func(int) string { return good }, false},
		{"seen-EdDSA", func(int) string { return ed }, false},
		{"verify-forged-RS256", forged(`{"alg":"RS256","kid":"rsa"}`, goodPayload(b), 256), true},
		{"verify-forged-EdDSA", forged(`{"alg":"EdDSA","kid":"ed"}`, goodPayload(b), 64), true},
		{"garbage-same-forged-RS256", func(int) string { return forged(`{"alg":"RS256","kid":"rsa"}`, goodPayload(b), 256)(0) }, false},
		{"garbage-expired", forged(`{"alg":"RS256","kid":"rsa"}`, expired, 256), true},
		{"garbage-short-signature", forged(`{"alg":"RS256","kid":"rsa"}`, goodPayload(b), 32), true},
		{"garbage-unknown-key", forged(`{"alg":"RS256","kid":"x"}`, goodPayload(b), 256), true},
		{"garbage-no-token", func(i int) string { return fmt.Sprint(i, "####") }, true},
		{"garbage-16KiB", func(i int) string { return strings.Repeat("a", 16<<10-8) + fmt.Sprintf("%07d", i%1e7) }, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			m := newBearer(b, nil)
			r := filter.NewRequest(&http.Request{URL: httptest.NewRequest("GET", "/", nil).URL}, now)
			tokens := []string{bb.tokens(0)}
			for i := 1; bb.fresh && i < 20_000; i++ {
				tokens = append(tokens, bb.tokens(i))
			}
			_, _ = m.Verify(r, tokens[0])
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				_, _ = m.Verify(r, tokens[i%len(tokens)])
				i++
			}
		})
	}
}

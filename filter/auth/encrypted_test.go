package auth_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwe"

	"github.com/moatwaf/moat/filter/auth"
)

var (
	sessionKey = []byte("0123456789abcdef0123456789abcdef")
	newerKey   = []byte("fedcba9876543210fedcba9876543210")
)

// sessionKeys is a key set: id, key, id, key ...
func sessionKeys(t testing.TB, pairs ...any) auth.File {
	t.Helper()
	var keys []map[string]any
	for i := 0; i < len(pairs); i += 2 {
		keys = append(keys, map[string]any{"kty": "oct", "kid": pairs[i], "k": base64.RawURLEncoding.EncodeToString(pairs[i+1].([]byte))})
	}
	raw, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return auth.File{Name: "session.keys", Data: raw}
}

// encrypt makes an encrypted token by the library that applications use.
func encrypt(t testing.TB, alg jwa.KeyEncryptionAlgorithm, enc jwa.ContentEncryptionAlgorithm, key any, header map[string]any, payload []byte, options ...jwe.EncryptOption) string {
	t.Helper()
	h := jwe.NewHeaders()
	for name, v := range header {
		if err := h.Set(name, v); err != nil {
			t.Fatal(err)
		}
	}
	options = append(options, jwe.WithKey(alg, key), jwe.WithContentEncryption(enc), jwe.WithProtectedHeaders(h))
	token, err := jwe.Encrypt(payload, options...)
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// handmadeJWE makes a token with any header, which holds if its header does.
func handmadeJWE(t testing.TB, header string, key []byte, nonce, payload string) string {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithNonceSize(block, len(nonce))
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	protected := b64([]byte(header))
	sealed := aead.Seal(nil, []byte(nonce), []byte(payload), []byte(protected))
	text, tag := sealed[:len(sealed)-16], sealed[len(sealed)-16:]
	return protected + ".." + b64([]byte(nonce)) + "." + b64(text) + "." + b64(tag)
}

func newEncrypted(t testing.TB, signed bool, keys auth.File) *auth.Session {
	t.Helper()
	c := auth.SessionConfig{Cookie: "sid", Encryption: keys, Tokens: auth.TokenConfig{
		Issuer: issuer, Audience: audience, Revoked: auth.File{Name: "revoked.txt", Data: []byte("revoked-1\n")},
	}}
	if signed {
		c.Tokens.JWKS = allKeys(t)
	}
	s, err := auth.NewSession(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func payload(t testing.TB, changes map[string]any) []byte {
	t.Helper()
	raw, err := json.Marshal(claims(changes))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestEncryptedSessions holds what encrypted cookies are taken, made by another
// implementation or by hand.
func TestEncryptedSessions(t *testing.T) {
	set := sessionKeys(t, "a", sessionKey)
	direct := func(header map[string]any, changes map[string]any, options ...jwe.EncryptOption) string {
		return encrypt(t, jwa.DIRECT(), jwa.A256GCM(), sessionKey, header, payload(t, changes), options...)
	}
	a := map[string]any{"kid": "a"}
	good := direct(a, nil)
	parts := strings.Split(good, ".")
	with := func(i int, s string) string {
		changed := append([]string(nil), parts...)
		changed[i] = s
		return strings.Join(changed, ".")
	}
	flip := func(s string) string {
		b := []byte(s)
		if b[0]++; b[0] > 'z' || b[0] > 'Z' && b[0] < 'a' || b[0] > '9' && b[0] < 'A' {
			b[0] = 'B'
		}
		return string(b)
	}
	const nonce = "twelve bytes"
	hand := func(header string) string { return handmadeJWE(t, header, sessionKey, nonce, goodPayload(t)) }
	k := keys().otherRSA
	for _, tt := range []struct {
		name, token, want string
		signed            bool // signed ones are taken too
	}{
		{"good", good, "", false},
		{"good, beside signed ones", good, "", true},
		{"signed, beside encrypted ones", token(t, nil), "", true},
		{"signed, where none are taken", token(t, nil), "not an encrypted JWT", false},
		{"without a key id, which leaves no choice", direct(nil, nil), "", false},
		{"typ JWT", direct(map[string]any{"kid": "a", "typ": "JWT"}, nil), "", false},
		{"typ of a logout token", direct(map[string]any{"kid": "a", "typ": "logout+jwt"}, nil), "typ is not that of an access token", false},
		{"by hand", hand(`{"alg":"dir","enc":"A256GCM","kid":"a"}`), "", false},
		{"signed inside", encrypt(t, jwa.DIRECT(), jwa.A256GCM(), sessionKey, map[string]any{"kid": "a", "cty": "JWT"}, []byte(token(t, nil))), "", true},
		{"signed inside by a foreign key", encrypt(t, jwa.DIRECT(), jwa.A256GCM(), sessionKey, map[string]any{"kid": "a", "cty": "JWT"}, []byte(sign(t, jwa.RS256(), k, map[string]any{"kid": "rsa"}, claims(nil)))), "signature does not verify", true},
		{"signed inside, and nobody could verify it", encrypt(t, jwa.DIRECT(), jwa.A256GCM(), sessionKey, map[string]any{"kid": "a", "cty": "JWT"}, []byte(token(t, nil))), "JOSE header not valid", false},
		{"an encrypted one inside", encrypt(t, jwa.DIRECT(), jwa.A256GCM(), sessionKey, map[string]any{"kid": "a", "cty": "JWT"}, []byte(good)), "not a JWT", true},
		{"other content", direct(map[string]any{"kid": "a", "cty": "text/plain"}, nil), "JOSE header not valid", false},

		{"expired", direct(a, map[string]any{"exp": now.Add(-time.Hour).Unix()}), "token expired", false},
		{"without expiry", direct(a, map[string]any{"exp": nil}), "no expiry", false},
		{"not valid yet", direct(a, map[string]any{"nbf": now.Add(time.Hour).Unix()}), "token not valid yet", false},
		{"revoked", direct(a, map[string]any{"jti": "revoked-1"}), "token revoked", false},
		{"wrong issuer", direct(a, map[string]any{"iss": "https://evil.example"}), "wrong issuer", false},
		{"wrong audience", direct(a, map[string]any{"aud": "other"}), "wrong audience", false},
		{"of nobody", direct(a, map[string]any{"sub": nil}), "no subject", false},
		{"no claims", handmadeJWE(t, `{"alg":"dir","enc":"A256GCM","kid":"a"}`, sessionKey, nonce, "[]"), "claims not valid", false},

		{"cookie of another key", encrypt(t, jwa.DIRECT(), jwa.A256GCM(), newerKey, a, payload(t, nil)), "does not decrypt", false},
		{"unknown key", direct(map[string]any{"kid": "b"}, nil), "no key for key id", false},
		{"key id that climbs", direct(map[string]any{"kid": "../a"}, nil), "no key for key id", false},
		{"compressed", direct(a, nil, jwe.WithCompress(jwa.Deflate())), "not dir with A256GCM", false},
		{"another content encryption of the same key", encrypt(t, jwa.DIRECT(), jwa.A128CBC_HS256(), sessionKey, a, payload(t, nil)), "not an encrypted JWT", false},
		{"a wrapped key", encrypt(t, jwa.A256KW(), jwa.A256GCM(), sessionKey, a, payload(t, nil)), "not an encrypted JWT", false},
		{"for the issuer's public key", encrypt(t, jwa.RSA_OAEP(), jwa.A256GCM(), k.Public(), a, payload(t, nil)), "not an encrypted JWT", false},
		{"from a password", encrypt(t, jwa.PBES2_HS256_A128KW(), jwa.A256GCM(), sessionKey, a, payload(t, nil)), "not an encrypted JWT", false},
		{"enc none", hand(`{"alg":"dir","enc":"none","kid":"a"}`), "not dir with A256GCM", false},
		{"alg none", hand(`{"alg":"none","enc":"A256GCM","kid":"a"}`), "not dir with A256GCM", false},
		{"critical parameters", hand(`{"alg":"dir","enc":"A256GCM","kid":"a","crit":["exp"]}`), "critical header parameters", false},
		{"a header that is a list", hand(`[]`), "JOSE header not valid", false},
		{"an empty key id", hand(`{"alg":"dir","enc":"A256GCM","kid":""}`), "JOSE header not valid", false},
		{"a long header", hand(`{"alg":"dir","enc":"A256GCM","kid":"` + strings.Repeat("a", 4000) + `"}`), "JOSE header not valid", false},
		{"a nonce of 16 bytes", handmadeJWE(t, `{"alg":"dir","enc":"A256GCM","kid":"a"}`, sessionKey, "sixteen bytes ..", goodPayload(t)), "not an encrypted JWT", false},

		{"header changed", with(0, flip(parts[0])), "JOSE header not valid", false},
		{"header in another writing", with(0, base64.RawURLEncoding.EncodeToString([]byte(`{"enc":"A256GCM","alg":"dir","kid":"a" }`))), "does not decrypt", false},
		{"a key where none belongs", with(1, "AAAA"), "not an encrypted JWT", false},
		{"nonce changed", with(2, flip(parts[2])), "does not decrypt", false},
		{"content changed", with(3, flip(parts[3])), "does not decrypt", false},
		{"no content", with(3, ""), "not an encrypted JWT", false},
		{"tag changed", with(4, flip(parts[4])), "does not decrypt", false},
		{"tag cut short", with(4, parts[4][:6]), "not an encrypted JWT", false},
		{"no tag", with(4, ""), "not an encrypted JWT", false},
		{"a line end", with(3, parts[3][:4]+"\n"+parts[3][4:]), "not an encrypted JWT", false},
		{"six parts", good + ".x", "not an encrypted JWT", false},
		{"17 KB", with(3, strings.Repeat("A", 17<<10)), "token too long", false},
		{"nothing but dots", "....", "not an encrypted JWT", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newEncrypted(t, tt.signed, set)
			for range 2 {
				if who, err := verify(s, tt.token); errorText(err) != tt.want || (who == nil) != (tt.want != "") || who != nil && (who.Subject != "anna" || who.Method != "session") {
					t.Errorf("got %+v, %v; want %q", who, err, tt.want)
				}
			}
		})
	}
}

// TestSessionKeyRotation holds that two keys are good side by side, and that none is
// without its file.
func TestSessionKeyRotation(t *testing.T) {
	byOld := encrypt(t, jwa.DIRECT(), jwa.A256GCM(), sessionKey, map[string]any{"kid": "old"}, payload(t, nil))
	byNew := encrypt(t, jwa.DIRECT(), jwa.A256GCM(), newerKey, map[string]any{"kid": "new"}, payload(t, nil))
	unnamed := encrypt(t, jwa.DIRECT(), jwa.A256GCM(), newerKey, nil, payload(t, nil))
	for _, tt := range []struct {
		name               string
		keys               auth.File
		old, fresh, nobody string
	}{
		{"before", sessionKeys(t, "old", sessionKey), "", "no key for key id", "does not decrypt"},
		{"both", sessionKeys(t, "old", sessionKey, "new", newerKey), "", "", "no key for key id"},
		{"after", sessionKeys(t, "new", newerKey), "no key for key id", "", ""},
		{"ids exchanged", sessionKeys(t, "new", sessionKey, "old", newerKey), "does not decrypt", "does not decrypt", "no key for key id"},
	} {
		s := newEncrypted(t, false, tt.keys)
		for token, want := range map[string]string{byOld: tt.old, byNew: tt.fresh, unnamed: tt.nobody} {
			if _, err := verify(s, token); errorText(err) != want {
				t.Errorf("%s: got %v, want %q", tt.name, err, want)
			}
		}
	}
}

// TestEncryptedSessionExpires holds that a remembered session ends in time.
func TestEncryptedSessionExpires(t *testing.T) {
	s := newEncrypted(t, false, sessionKeys(t, "a", sessionKey))
	token := encrypt(t, jwa.DIRECT(), jwa.A256GCM(), sessionKey, map[string]any{"kid": "a"}, payload(t, map[string]any{"exp": now.Add(time.Minute).Unix()}))
	for after, want := range map[time.Duration]string{0: "", 119 * time.Second: "", 2 * time.Minute: "token expired"} {
		if _, err := verifyAt(s, token, now); err != nil {
			t.Fatal(err)
		}
		if _, err := verifyAt(s, token, now.Add(after)); errorText(err) != want {
			t.Errorf("after %v: %v, want %q", after, err, want)
		}
	}
}

func TestNewEncryptedSessionRefuses(t *testing.T) {
	key := base64.RawURLEncoding.EncodeToString(sessionKey)
	for file, want := range map[string]string{
		`{"keys":[]}`: "no keys",
		`{`:           "not JSON",
		`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB"}]}`:                                                                                             "not a symmetric key",
		`{"keys":[{"kty":"oct","k":"` + key + `"}]}`:                                                                                                "a key without an id",
		`{"keys":[{"kty":"oct","kid":"a","k":"c2hvcnQ"}]}`:                                                                                          "not a key of 32 bytes",
		`{"keys":[{"kty":"oct","kid":"a","k":"` + strings.Repeat("A", 43) + `"}]}`:                                                                  "a key of one byte",
		`{"keys":[{"kty":"oct","kid":"a","use":"sig","k":"` + key + `"}]}`:                                                                          "a key for something else",
		`{"keys":[{"kty":"oct","kid":"a","alg":"HS256","k":"` + key + `"}]}`:                                                                        "a key for another algorithm",
		`{"keys":[{"kty":"oct","kid":"a","k":"` + key + `"},{"kty":"oct","kid":"b","k":"` + key + `"}]}`:                                            "the same key under another id",
		`{"keys":[{"kty":"oct","kid":"a","k":"` + key + `"},{"kty":"oct","kid":"a","k":"` + base64.RawURLEncoding.EncodeToString(newerKey) + `"}]}`: "a second key with the id",
		`{"keys":[{"kty":"oct","kid":7,"k":"` + key + `"}]}`:                                                                                        "member kid is a number",
	} {
		s, err := auth.NewSession(auth.SessionConfig{Cookie: "sid", Encryption: auth.File{Name: "k", Data: []byte(file)}, Tokens: auth.TokenConfig{Issuer: issuer, Audience: audience}})
		if s != nil || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), key) {
			t.Errorf("%s: got %v, want %s", file, err, want)
		}
	}
	if s, err := auth.NewSession(auth.SessionConfig{Cookie: "sid", Tokens: auth.TokenConfig{Issuer: issuer, Audience: audience}}); s != nil || err == nil {
		t.Error("a session without any keys")
	}
}

// FuzzEncryptedSession holds that one token passes, and no other text.
func FuzzEncryptedSession(f *testing.F) {
	s := newEncrypted(f, false, sessionKeys(f, "a", sessionKey))
	// The same in each of the fuzzer's processes.
	good := handmadeJWE(f, `{"alg":"dir","enc":"A256GCM","kid":"a"}`, sessionKey, "twelve bytes", goodPayload(f))
	for _, seed := range []string{good, good + "A", "....", "e30..AAAAAAAAAAAAAAAA.AA.AAAAAAAAAAAAAAAAAAAAAA", strings.ReplaceAll(good, ".", ".."), handmadeJWE(f, `{"alg":"dir","enc":"A256GCM","zip":"DEF"}`, sessionKey, "twelve bytes", "x")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if strings.Count(token, ".") != 4 {
			return
		}
		if who, err := verify(s, token); (who == nil) == (err == nil) || (who != nil) != (token == good) {
			t.Fatalf("%q: %+v, %v", token, who, err)
		}
	})
}

func BenchmarkEncryptedSession(b *testing.B) {
	for name, forged := range map[string]bool{"seen": false, "garbage-forged": true} {
		b.Run(name, func(b *testing.B) {
			s := newEncrypted(b, false, sessionKeys(b, "a", sessionKey))
			r := request("GET", "/")
			defer r.Release()
			good := encrypt(b, jwa.DIRECT(), jwa.A256GCM(), sessionKey, map[string]any{"kid": "a"}, payload(b, nil))
			tokens := []string{good}
			for i := 0; forged && i < 1000; i++ {
				tokens = append(tokens, good[:len(good)-22]+base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%016d", i)))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				_, _ = s.Verify(r, tokens[i%len(tokens)])
				i++
			}
		})
	}
}

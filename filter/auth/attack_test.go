package auth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lestrrat-go/jwx/v3/jwa"

	"github.com/moatwaf/moat/filter/auth"
)

// TestAttackTable sends what is sent against the whole stage, as it comes over the
// wire. Every row must be refused, and none may say why in more words than the
// challenge has. What is known of single methods stands in their tests.
func TestAttackTable(t *testing.T) {
	var fetched atomic.Int64
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		_, _ = w.Write(jwks(t, publicJWK(t, keys().otherRSA, map[string]any{"kid": "rsa"})).Data)
	}))
	defer evil.Close()
	sessions := newEncrypted(t, true, sessionKeys(t, "a", sessionKey))
	signed := newSignedURL(t)
	p := pipeline(t, auth.Config{
		Realm:   "api",
		Methods: []auth.Method{newBearer(t, nil), sessions, newBasic(t, "anna", "right"), signed, newMTLS(t, auth.MTLSConfig{Name: auth.CertificateCN})},
		Requirements: []auth.Requirement{
			{Match: under("/public/"), Auth: auth.None},
			{Match: under("/basic/"), Methods: []string{"basic"}},
			{},
		},
	})
	k := keys()
	good := token(t, nil)
	rsa := map[string]any{"kid": "rsa"}
	by := func(key any, header map[string]any, changes map[string]any) string {
		return sign(t, jwa.RS256(), key, header, claims(changes))
	}
	with := func(name, value string) map[string]any { return map[string]any{"kid": "rsa", name: value} }
	raw := func(header string) string { return handmade(t, header, goodPayload(t), hmacWith(publicPEM(t))) }
	get := func(lines ...string) []string { return append([]string{"GET /x HTTP/1.1"}, lines...) }
	bearer := func(token string) []string { return get("Authorization: Bearer " + token) }
	for _, tt := range []struct {
		name    string
		request []string
		status  int
	}{
		{"alg: none", bearer(handmade(t, `{"alg":"none","kid":"rsa"}`, goodPayload(t), func(string) []byte { return nil })), 401},
		{"alg: none with a signature", bearer(raw(`{"alg":"none","kid":"rsa"}`)), 401},
		{"alg: None", bearer(raw(`{"alg":"None","kid":"rsa"}`)), 401},
		{"no alg", bearer(raw(`{"kid":"rsa"}`)), 401},
		{"alg is a list", bearer(raw(`{"alg":["RS256","HS256"],"kid":"rsa"}`)), 401},
		{"RS/HS confusion, PEM as the secret", bearer(raw(`{"alg":"HS256","kid":"rsa"}`)), 401},
		{"RS/HS confusion, alg written twice", bearer(raw(`{"alg":"RS256","alg":"HS256","kid":"rsa"}`)), 401},
		{"RS/HS confusion, alg in another case too", bearer(raw(`{"alg":"RS256","ALG":"HS256","kid":"rsa"}`)), 401},
		{"kid that climbs to a path", bearer(raw(`{"alg":"RS256","kid":"../../../../../../dev/null"}`)), 401},
		{"kid with SQL", bearer(raw(`{"alg":"RS256","kid":"x' UNION SELECT 'AAAA';--"}`)), 401},
		{"kid that is an object", bearer(raw(`{"alg":"RS256","kid":{"$ne":""}}`)), 401},
		{"jku to a server with keys", bearer(by(k.otherRSA, with("jku", evil.URL), nil)), 401},
		{"x5u to a server with keys", bearer(by(k.otherRSA, with("x5u", evil.URL), nil)), 401},
		{"jku into the host", bearer(by(k.otherRSA, with("jku", "file:///etc/passwd"), nil)), 401},
		{"expired", bearer(by(k.rsa, rsa, map[string]any{"exp": now.Unix() - 3600})), 401},
		{"not valid yet", bearer(by(k.rsa, rsa, map[string]any{"nbf": now.Unix() + 3600})), 401},
		{"issued in the future", bearer(by(k.rsa, rsa, map[string]any{"iat": now.Unix() + 3600})), 401},
		{"wrong audience as a string", bearer(by(k.rsa, rsa, map[string]any{"aud": "other"})), 401},
		{"wrong audience as a list", bearer(by(k.rsa, rsa, map[string]any{"aud": []string{"other", "api2"}})), 401},
		{"audience as a list in a list", bearer(by(k.rsa, rsa, map[string]any{"aud": []any{[]string{"api"}}})), 401},
		{"audience as an empty list", bearer(by(k.rsa, rsa, map[string]any{"aud": []string{}})), 401},
		{"duplicate claims", bearer(handmadeRSA(t, strings.TrimSuffix(goodPayload(t), "}")+`,"aud":"other"}`)), 401},
		{"1 MB token", bearer(strings.Repeat("a", 1<<20)), 401},
		{"1 MB of dots", bearer(strings.Repeat(".", 1<<20)), 401},
		{"homoglyph user", get("Authorization: Basic " + basicPair("аnna:right")), 401},
		{"user in full width", get("Authorization: Basic " + basicPair("ａnna:right")), 401},
		{"user with a combining mark", get("Authorization: Basic " + basicPair("ann\u0061\u0301:right")), 401},
		{"user in capitals", get("Authorization: Basic " + basicPair("Anna:right")), 401},
		{"user with a NUL behind", get("Authorization: Basic " + basicPair("anna\x00:right")), 401},
		{"Authorization twice", get("Authorization: Bearer "+good, "Authorization: Bearer "+good), 400},
		{"Authorization twice, of two schemes", get("Authorization: Basic "+basicPair("anna:right"), "Authorization: Bearer "+good), 400},
		{"Authorization twice in one line", bearer(good + ", Bearer " + good), 401},
		{"Authorization folded", get("Authorization: Bearer", "X: "+good), 400},
		{"credentials in the URL's query", []string{"GET /x?access_token=" + good + " HTTP/1.1"}, 401},
		{"credentials in the URL's authority", []string{"GET http://anna:right@example.com/x HTTP/1.1"}, 401},
		{"credentials in a form", []string{"POST /x HTTP/1.1", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 0"}, 401},
		{"credentials for a proxy", get("Proxy-Authorization: Basic " + basicPair("anna:right")), 401},
		{"credentials in a field that looks like it", get("Authorization_: Bearer "+good, "X-Authorization: Bearer "+good), 401},
		{"cookie signed by another key", get("Cookie: sid=" + by(k.otherRSA, rsa, nil)), 401},
		{"cookie encrypted by another key", get("Cookie: sid=" + encrypt(t, jwa.DIRECT(), jwa.A256GCM(), newerKey, map[string]any{"kid": "a"}, payload(t, nil))), 401},
		{"cookie of another name", get("Cookie: sid2=" + good + "; SID=" + good), 401},
		{"cookie twice", get("Cookie: sid=" + good + "; sid=x"), 401},
		{"token in the cookie's place", get("Cookie: sid=Bearer " + good), 401},
		{"signed URL of another secret", []string{"GET " + strings.TrimPrefix(signSlowly("GET", "http://example.com/x", "one", in(3600e9), otherSecret), "http://example.com") + " HTTP/1.1"}, 403},
		{"identity in a field", get("X-Remote-User: anna", "X_Remote_User: anna", "X-Client-Cert: anna"), 401},
		{"a token where only a password counts", []string{"GET /basic/x HTTP/1.1", "Authorization: Bearer " + good}, 401},
		{"a token as a password", []string{"GET /basic/x HTTP/1.1", "Authorization: Basic " + basicPair("anna:"+good[:60])}, 401},
		{"out of a public folder", []string{"GET /public/%2e%2e/x HTTP/1.1"}, 401},
		{"out of a public folder, two ways to read", []string{"GET /public/..%2fx HTTP/1.1"}, 401},
		{"OPTIONS that is half a preflight", []string{"OPTIONS /x HTTP/1.1", "Access-Control-Request-Method: GET"}, 401},
		{"a method that overrides another", []string{"POST /x HTTP/1.1", "X-HTTP-Method-Override: OPTIONS", "Content-Length: 0"}, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // what is remembered of the first one changes nothing
				w := serve(t, p, parse(t, tt.request...))
				if w.Code != tt.status {
					t.Errorf("got %d %v", w.Code, w.Header())
				}
				for _, challenge := range w.Header()["Www-Authenticate"] {
					checkChallenge(t, challenge)
				}
				if text := w.Body.String() + strings.Join(w.Header()["Www-Authenticate"], ""); strings.Contains(text, "anna") || strings.Contains(text, good) || strings.Contains(text, "rsa") {
					t.Errorf("the answer repeats the request: %s", text)
				}
			}
		})
	}
	if n := fetched.Load(); n != 0 {
		t.Errorf("%d keys were fetched from where a token says", n)
	}
	if w := serve(t, p, parse(t, bearer(good)...)); w.Code != 200 {
		t.Errorf("the good token: %d", w.Code)
	}
}

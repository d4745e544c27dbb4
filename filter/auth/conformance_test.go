package auth_test

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
)

// dump writes an answer for comparison.
func dump(w *httptest.ResponseRecorder) string {
	var b strings.Builder
	fmt.Fprintln(&b, w.Code)
	_ = w.Header().Write(&b) // sorted by name
	return b.String() + w.Body.String()
}

// TestConformance are the rows of the status contract that concern this stage.
func TestConformance(t *testing.T) {
	p := house(t)
	k := keys()
	rsaHeader := map[string]any{"kid": "rsa"}
	var (
		ok         = token(t, nil)
		scope      = token(t, map[string]any{"scope": "report.read other admin"})
		noScope    = token(t, map[string]any{"scope": "other"})
		expired    = token(t, map[string]any{"exp": now.Add(-time.Hour).Unix()})
		badSig     = sign(t, jwa.RS256(), k.otherRSA, rsaHeader, claims(nil))
		wrongIss   = token(t, map[string]any{"iss": "https://evil.example"})
		wrongAud   = token(t, map[string]any{"aud": "other"})
		nbf        = token(t, map[string]any{"nbf": now.Add(time.Hour).Unix()})
		algNone    = handmade(t, `{"alg":"none","kid":"rsa"}`, goodPayload(t), func(string) []byte { return nil })
		hsConfused = handmade(t, `{"alg":"HS256","kid":"rsa"}`, goodPayload(t), hmacWith(publicPEM(t)))
		unknownKid = sign(t, jwa.RS256(), k.rsa, map[string]any{"kid": "other"}, claims(nil))
		revoked    = token(t, map[string]any{"jti": "revoked-1"})
	)
	const (
		bare     = `(?i)(^|, ?)bearer realm="[^"]*"`
		anyError = `(?i)\berror\s*=`
		badToken = `(?i)bearer .*error="invalid_token"`
		grammar  = `(?i)^[a-z0-9-]+ ([a-z_]+=("[^"\\]*"|[a-z0-9_-]+))(, ?[a-z_]+=("[^"\\]*"|[a-z0-9_-]+))*$`
	)
	get := func(path string, fields ...string) []string {
		return append([]string{"GET " + path + " HTTP/1.1"}, fields...)
	}
	for _, tt := range []struct {
		row       string
		request   []string
		status    int
		challenge string // a challenge must match; empty: there must be none
		never     string // no challenge may match
	}{
		{"AU-1", get("/api/me"), 401, bare, anyError},
		{"AU-2", get("/api/me", `Authorization: Digest username="a", realm="r", nonce="n", uri="/", response="0"`), 401, bare, anyError},
		{"AU-3", get("/api/me", "Authorization: Bearer "+expired), 401, badToken, ""},
		{"AU-4", get("/api/me", "Authorization: Bearer "+badSig), 401, badToken, ""},
		{"AU-5", get("/api/me", "Authorization: Bearer "+wrongIss), 401, badToken, ""},
		{"AU-6", get("/api/me", "Authorization: Bearer "+wrongAud), 401, badToken, ""},
		{"AU-7", get("/api/me", "Authorization: Bearer "+nbf), 401, badToken, ""},
		{"AU-8", get("/api/me", "Authorization: Bearer "+algNone), 401, badToken, ""},
		{"AU-9", get("/api/me", "Authorization: Bearer "+hsConfused), 401, badToken, ""},
		{"AU-10", get("/api/me", "Authorization: Bearer "+unknownKid), 401, badToken, ""},
		{"AU-11", get("/api/me", "Authorization: Bearer "+revoked), 401, badToken, ""},
		{"AU-12", get("/api/me", "Authorization: Bearer abc"), 401, badToken, ""},
		{"AU-13", get("/api/me", "Authorization: Bearer ####.....===="), 401, badToken, ""},
		{"AU-14", get("/api/me", "Authorization: Bearer "+strings.Repeat("a", 20000)), 401, badToken, ""},
		{"AU-15", get("/api/me", "Authorization: Bearer"), 400, `(?i)^bearer .*error="invalid_request"`, ""},
		{"AU-15 with a space", get("/api/me", "Authorization: Bearer "), 400, `(?i)^bearer .*error="invalid_request"`, ""},
		{"AU-16", get("/api/me", "Authorization: bEARER "+ok), 200, "", ""},
		{"AU-17", get("/api/me", "Authorization: Bearer "+expired, "Authorization: Bearer "+ok), 400, `error="invalid_request"`, ""},
		{"AU-17 the good one first", get("/api/me", "Authorization: Bearer "+ok, "Authorization: Bearer "+expired), 400, `error="invalid_request"`, ""},
		{"AU-17 beside another scheme", get("/api/me", "Authorization: Basic "+basicPair("anna:right"), "Authorization: Bearer "+ok), 400, `error="invalid_request"`, ""},
		{"AU-17 in one line", get("/api/me", "Authorization: Bearer "+ok+", Bearer "+ok), 401, badToken, ""},
		{"AU-18", get("/api/me?access_token=" + ok), 401, bare, anyError},
		{"AU-19", []string{"POST /api/me HTTP/1.1", "Authorization: Bearer " + ok, "Content-Type: application/x-www-form-urlencoded", "Content-Length: 0"}, 200, "", ""},
		{"AU-20", get("/api/me", "Authorization: Bearer "+ok), 200, "", ""},
		{"AU-21", get("/basic/me", "Authorization: Basic "+basicPair("anna:wrong")), 401, `(?i)basic realm="[^"]+"`, anyError},
		{"AU-22", get("/basic/me"), 401, `(?i)basic .*charset="UTF-8"`, ""},
		{"AU-23", get("/basic/me", "Authorization: Basic !!!!"), 401, "(?i)basic", ""},
		{"AU-24", get("/basic/me", "Authorization: Basic YWRtaW4="), 401, "(?i)basic", ""},
		{"AU-25", get("/basic/me", "Authorization: Basic "+basicPair("otto:pass:with:colons")), 200, "", ""},
		{"AU-26 a cookie is no credential here", get("/api/me", "Accept: application/json", "Cookie: sid=revoked"), 401, bare, anyError},
		{"AU-27", get("/api/me", "Cookie: sid=revoked", "Authorization: Bearer "+ok), 200, "", ""},
		{"AU-28", []string{"HEAD /api/me HTTP/1.1"}, 401, bare, anyError},
		{"AU-31", get("/api/me", "Authorization: Bearer "+expired), 401, grammar, `(?i)[ ,]error=.*[ ,]error=|realm=[^"]`},
		{"AU-32", get("/api/me", "Authorization: Bearer "+expired), 401, `error_description="The token has expired"`, `error_description="[^"]*[^"\x20-\x21\x23-\x5B\x5D-\x7E]`},
		{"AU-34", get("/api/nothing-here"), 401, bare, anyError},
		{"AU-35 passes on", []string{"OPTIONS /api/me HTTP/1.1", "Origin: https://app.example.com", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization"}, 200, "", ""},
		{"AU-35 on a path that conceals", []string{"OPTIONS /api/projects/secret HTTP/1.1", "Origin: https://app.example.com", "Access-Control-Request-Method: GET"}, 200, "", ""},
		{"AU-36", []string{"OPTIONS /api/me HTTP/1.1"}, 401, bare, ""},
		{"AU-36 with an origin only", []string{"OPTIONS /api/me HTTP/1.1", "Origin: https://app.example.com"}, 401, bare, ""},
		{"AU-36 a GET is no preflight", get("/api/me", "Origin: https://app.example.com", "Access-Control-Request-Method: GET"), 401, bare, ""},
		{"AU-39", []string{"POST /api/me HTTP/1.1", "Content-Type: application/json", "Expect: 100-continue", "Content-Length: 0"}, 401, bare, ""},
		{"AU-40", []string{"GET /api/me HTTP/1.0"}, 401, bare, ""},
		{"AU-41", get("/api/me", "X-Remote-User: admin", "X-Forwarded-User: admin", "X_Remote_User: admin"), 401, bare, ""},
		{"AU-42", get("/api//%6de"), 401, bare, ""},
		{"AU-42 out of the public folder", get("/api/public/../me"), 401, bare, ""},
		{"AU-42 out of it by an encoded slash", get("/api/public/..%2fme"), 401, bare, ""},
		{"AU-42 out of it by a backslash", get(`/api/public/..%5cme`), 401, bare, ""},
		{"AU-42 out of it by a parameter", get("/api/public/..;/me"), 401, bare, ""},
		{"AU-42 into it by an encoded slash", get("/api/me%2f..%2fpublic/x"), 401, bare, ""},

		{"AZ-1", get("/api/admin/report", "Authorization: Bearer "+noScope), 403, `(?i)bearer .*error="insufficient_scope"`, ""},
		{"AZ-2", get("/api/admin/report", "Authorization: Bearer "+noScope), 403, `scope="report.read admin"`, ""},
		{"AZ-1 one of two scopes", get("/api/admin/report", "Authorization: Bearer "+token(t, map[string]any{"scope": "admin"})), 403, `error="insufficient_scope"`, ""},
		{"AZ-3", get("/api/admin/users", "Authorization: Bearer "+noScope), 403, "", ""},
		{"AZ-3 by Basic", get("/api/admin/users", "Authorization: Basic "+basicPair("anna:right")), 403, "", ""},
		{"AZ-1 by Basic, which has no scopes", get("/api/admin/report", "Authorization: Basic "+basicPair("anna:right")), 403, "", ""},
		{"AZ-4", []string{"HEAD /api/admin/report HTTP/1.1", "Authorization: Bearer " + noScope}, 403, "insufficient_scope", ""},
		{"AZ-6", get("/api/projects/nothing-here", "Authorization: Bearer "+noScope), 404, "", ""},
		{"AZ-7", get("/api/projects/secret", "Authorization: Bearer "+noScope), 404, "", ""},
		{"AZ-7 with the role", get("/api/projects/secret", "Authorization: Bearer "+token(t, map[string]any{"roles": []string{"owner"}})), 200, "", ""},
		{"AZ-8", []string{"HEAD /api/projects/secret HTTP/1.1", "Authorization: Bearer " + noScope}, 404, "", ""},
		{"AZ-9", get("/api/admin/report", "Authorization: Bearer "+expired), 401, badToken, ""},
		{"AZ-10", get("/api/admin/report", "Authorization: Bearer "+scope), 200, "", ""},

		{"nothing is asked", get("/"), 200, "", ""},
		{"nothing is asked, and bad credentials do no harm", get("/api/public/x", "Authorization: Bearer abc"), 200, "", ""},
		{"good credentials of a method that the path does not take", get("/basic/me", "Authorization: Bearer "+ok), 401, "^Basic ", anyError},
		{"bad credentials of a method that the path does not take", get("/basic/me", "Authorization: Bearer abc"), 401, "^Basic ", anyError},
	} {
		t.Run(tt.row, func(t *testing.T) {
			w := serve(t, p, parse(t, tt.request...))
			got := w.Header()["Www-Authenticate"]
			if w.Code != tt.status {
				t.Errorf("got %d %q, want %d", w.Code, got, tt.status)
			}
			if tt.challenge == "" && len(got) > 0 {
				t.Errorf("challenges %q, want none", got)
			}
			if tt.challenge != "" && !slices.ContainsFunc(got, regexp.MustCompile(tt.challenge).MatchString) {
				t.Errorf("challenges %q, want one like %s", got, tt.challenge)
			}
			if tt.never != "" && slices.ContainsFunc(got, regexp.MustCompile(tt.never).MatchString) {
				t.Errorf("challenges %q, want none like %s", got, tt.never)
			}
			if strings.HasPrefix(tt.request[0], "HEAD") && w.Body.Len() > 0 {
				t.Errorf("HEAD with content %q", w.Body)
			}
		})
	}

	// Rows that say "the same as another row".
	same := func(row string, a, b []string) {
		t.Helper()
		if x, y := dump(serve(t, p, parse(t, a...))), dump(serve(t, p, parse(t, b...))); x != y {
			t.Errorf("%s: got\n%s\nwant\n%s", row, x, y)
		}
	}
	same("AU-34 as AU-1", get("/api/nothing-here"), get("/api/me"))
	same("AZ-7 as AZ-6", get("/api/projects/secret", "Authorization: Bearer "+noScope), get("/api/projects/nothing-here", "Authorization: Bearer "+noScope))
	same("AZ-7 as AZ-6, unknown caller", get("/api/projects/secret"), get("/api/projects/nothing-here"))
	same("AZ-7 as AZ-6, bad token", get("/api/projects/secret", "Authorization: Bearer "+expired), get("/api/projects/nothing-here", "Authorization: Bearer "+expired))
	same("AZ-7 as AZ-6, method that the neighbour does not take", get("/api/projects/secret", "Authorization: Basic "+basicPair("anna:right")), get("/api/projects/nothing-here", "Authorization: Basic "+basicPair("anna:right")))
	same("AZ-7 as AZ-6, malformed", get("/api/projects/secret", "Authorization: Bearer"), get("/api/projects/nothing-here", "Authorization: Bearer"))
}

package auth_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter/auth"
)

func newSession(t testing.TB) *auth.Session {
	t.Helper()
	s, err := auth.NewSession(auth.SessionConfig{Cookie: "sid", Tokens: auth.TokenConfig{
		Issuer: issuer, Audience: audience, JWKS: allKeys(t), Revoked: auth.File{Name: "revoked.txt", Data: []byte("revoked-1\n")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSessionCookies(t *testing.T) {
	p := pipeline(t, auth.Config{
		Realm:   "api",
		Methods: []auth.Method{newBearer(t, nil), newSession(t)},
		Requirements: []auth.Requirement{
			{ID: "users", Match: under("/users"), Roles: []string{"admin"}},
			{ID: "scoped", Match: under("/scoped"), Scopes: []string{"report.read"}},
			{},
		},
	})
	good := token(t, nil)
	admin := token(t, map[string]any{"roles": "admin"})
	revoked := token(t, map[string]any{"jti": "revoked-1"})
	foreign := handmade(t, `{"alg":"RS256","kid":"rsa"}`, goodPayload(t), hmacWith(nil))
	for _, tt := range []struct {
		name       string
		path       string
		fields     []string
		status     int
		challenges int
	}{
		{"good", "/", []string{"Cookie: sid=" + good}, 200, 0},
		{"among others", "/", []string{"Cookie: a=b; sid=" + good + "; c"}, 200, 0},
		{"in quotes", "/", []string{`Cookie: sid="` + good + `"`}, 200, 0},
		{"without space", "/", []string{"Cookie: a=b;sid=" + good}, 200, 0},
		{"in a second line, as HTTP/2 splits them", "/", []string{"Cookie: a=b", "Cookie: sid=" + good}, 200, 0},
		{"twice the same", "/", []string{"Cookie: sid=" + good + "; sid=" + good}, 200, 0},
		{"twice, not the same", "/", []string{"Cookie: sid=" + good + "; sid=" + admin}, 401, 2},
		{"twice, one of them empty", "/", []string{"Cookie: sid=; sid=" + good}, 200, 0},
		{"none", "/", nil, 401, 2},
		{"other name", "/", []string{"Cookie: SID=" + good + "; xsid=" + good}, 401, 2},
		{"empty", "/", []string{"Cookie: sid="}, 401, 2},
		{"AU-26 revoked", "/", []string{"Cookie: sid=" + revoked}, 401, 2},
		{"AU-27 revoked beside a good token", "/", []string{"Cookie: sid=" + revoked, "Authorization: Bearer " + good}, 200, 0},
		{"signed by another key", "/", []string{"Cookie: sid=" + foreign}, 401, 2},
		{"no token", "/", []string{"Cookie: sid=1"}, 401, 2},
		{"a semicolon's stand-in", "/", []string{"Cookie: sid=%3B"}, 401, 2},
		{"AZ-5 without the role", "/users", []string{"Cookie: sid=" + good}, 403, 0},
		{"with the role", "/users", []string{"Cookie: sid=" + admin}, 200, 0},
		{"without the scope: no challenge could help", "/scoped", []string{"Cookie: sid=" + good}, 403, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(t, p, parse(t, append([]string{"GET " + tt.path + " HTTP/1.1"}, tt.fields...)...))
			got := w.Header()["Www-Authenticate"]
			if w.Code != tt.status || len(got) != tt.challenges {
				t.Errorf("got %d %q, want %d with %d challenges", w.Code, got, tt.status, tt.challenges)
			}
			if w.Code == 401 && !slices.Contains(got, `Cookie realm="api"`) {
				t.Errorf("challenges %q", got)
			}
			if slices.ContainsFunc(got, func(c string) bool { return strings.Contains(c, "error=") }) {
				t.Errorf("%q speaks of a bearer token that did not come", got)
			}
		})
	}
}

func TestNewSessionRefuses(t *testing.T) {
	for _, cookie := range []string{"", "a b", "a;b", "a=b", `"sid"`, "sïd", "a\x00"} {
		_, err := auth.NewSession(auth.SessionConfig{Cookie: cookie, Tokens: auth.TokenConfig{Issuer: issuer, Audience: audience, JWKS: allKeys(t)}})
		if err == nil || !strings.Contains(err.Error(), "is no name of a cookie") {
			t.Errorf("%q: %v", cookie, err)
		}
	}
}

// FuzzCookie sends any Cookie lines (apart by LF): only the good token passes.
func FuzzCookie(f *testing.F) {
	good := token(f, nil)
	p := pipeline(f, auth.Config{Realm: "api", Methods: []auth.Method{newSession(f)}, Requirements: []auth.Requirement{{}}})
	for _, s := range []string{"", "sid=", "sid=a.b.c", "sid=" + good, "a=b; sid=" + good, "sid=" + good + ";sid=x", `sid="`, `sid=""`, "sid;sid=;", "sid=;\nsid=" + good, "sid=;;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		r := request("GET", "/")
		defer r.Release()
		r.HTTP.Header["Cookie"] = strings.Split(lines, "\n")
		d, err := p.Decide(r)
		if err != nil {
			t.Fatal(err)
		}
		if d.Refuses() != (r.Identity == nil) || !d.Refuses() && !strings.Contains(lines, good) {
			t.Fatalf("%q: %+v as %+v", lines, d, r.Identity)
		}
		if d.Refuses() && (d.StatusCode() != 401 || len(d.Challenges) != 1) {
			t.Fatalf("%q: %+v", lines, d)
		}
	})
}

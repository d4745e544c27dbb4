package auth_test

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
)

// challengeGrammar is a challenge of RFC 9110 section 11.3 with parameters, all
// quoted strings in printable ASCII.
var (
	challengeGrammar = regexp.MustCompile(`^([A-Za-z]+) ([a-z_]+="(?:[ !#-\[\]-~]|\\["\\])*"(?:, [a-z_]+="(?:[ !#-\[\]-~]|\\["\\])*")*)$`)
	challengeParam   = regexp.MustCompile(`([a-z_]+)="((?:[ !#-\[\]-~]|\\["\\])*)"`)
	unescape         = strings.NewReplacer(`\"`, `"`, `\\`, `\`)
)

// checkChallenge holds a challenge against the grammar, and returns its parameters.
func checkChallenge(t *testing.T, challenge string) map[string]string {
	t.Helper()
	if !challengeGrammar.MatchString(challenge) {
		t.Fatalf("challenge %q breaks the grammar", challenge)
	}
	params := make(map[string]string)
	for _, m := range challengeParam.FindAllStringSubmatch(challenge, -1) {
		if _, twice := params[m[1]]; twice {
			t.Fatalf("challenge %q has %s twice", challenge, m[1])
		}
		params[m[1]] = unescape.Replace(m[2])
	}
	return params
}

// FuzzAuthorization sends any Authorization lines (apart by LF) under any realm.
func FuzzAuthorization(f *testing.F) {
	good := token(f, nil)
	goodBasic := basicPair("anna:right")
	bearer, basic := newBearer(f, nil), newBasic(f, "anna", "right")
	for _, s := range []string{
		"", "Bearer", "Bearer ", "Bearer abc", "bearer  a.b.c", "Bearer\ta.b.c", "Basic", "Basic YTpi", "basic !!!!", "Basic YWRtaW4=",
		"Digest a=b", "Bearer " + good, "Bearer " + good + "x", "Basic " + goodBasic, "Basic " + goodBasic + "\nBearer " + good,
		"Bearer " + strings.TrimRight(good, "abcdefghijklmnopqrstuvwxyz"), "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer bnVsbA.e30.AA", "\x00\xff",
		"Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.e30.AA", "Basic Og==", "Bearer W10.W10.W10",
	} {
		f.Add(s, "api")
		f.Add(s, `a "quoted\" realm`)
	}
	f.Fuzz(func(t *testing.T, lines, realm string) {
		a, err := auth.New(auth.Config{Realm: realm, Methods: []auth.Method{bearer, basic}, Requirements: []auth.Requirement{{}}})
		if err != nil {
			return // a realm that cannot be sent
		}
		hr := httptest.NewRequest("GET", "/", nil)
		if lines != "" {
			hr.Header["Authorization"] = strings.Split(lines, "\n")
		}
		r := filter.NewRequest(hr, now)
		defer r.Release()
		d, err := a.Authenticate().Check(r)
		if err != nil {
			t.Fatalf("%q: %v", lines, err)
		}
		scheme, credential, _ := strings.Cut(strings.Trim(lines, " \t"), " ")
		credential = strings.TrimLeft(credential, " ")
		right := strings.EqualFold(scheme, "bearer") && credential == good || strings.EqualFold(scheme, "basic") && credential == goodBasic
		if passed := d.Verdict == filter.Continue; passed != right || passed != (r.Identity != nil) {
			t.Fatalf("%q: got %+v as %+v", lines, d, r.Identity)
		}
		if right {
			return
		}
		if d.Verdict != filter.Challenge || len(d.Challenges) != 2 {
			t.Fatalf("%q: got %+v, want two challenges", lines, d)
		}
		for i, scheme := range []string{"Bearer", "Basic"} {
			params := checkChallenge(t, d.Challenges[i])
			if !strings.HasPrefix(d.Challenges[i], scheme+" ") || params["realm"] != realm {
				t.Fatalf("%q: challenge %q for realm %q", lines, d.Challenges[i], realm)
			}
			presented := regexp.MustCompile(`(?im)^[ \t]*bearer([ ].*|[\t]*)?$`).MatchString(lines)
			if params["error"] != "" && (scheme != "Bearer" || !presented) {
				t.Fatalf("%q: challenge %q speaks of a token that did not come", lines, d.Challenges[i])
			}
		}
		want := map[filter.Reason]int{filter.ReasonNoCredentials: 401, filter.ReasonBadCredentials: 401, filter.ReasonMalformed: 400}[d.Reason]
		if want == 0 || d.StatusCode() != want {
			t.Fatalf("%q: status %d for %v", lines, d.StatusCode(), d.Reason)
		}
	})
}

// FuzzKeyFiles reads any bytes as each kind of file.
func FuzzKeyFiles(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte(`{"x":[],"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{}]} x`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AA","e":"AA"`))
	f.Add([]byte("anna:$2y$04$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234\n# x\r\n\xef\xbb\xbf:"))
	f.Add([]byte("keys:\n  - {id: a, sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08, claims: {a: [1, true, b]}, expires: 2027-01-01}\n"))
	f.Add([]byte("jti\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := auth.File{Name: "f", Data: data}
		if b, err := auth.NewBearer(auth.BearerConfig{Tokens: auth.TokenConfig{Issuer: "i", Audience: "a", JWKS: file, Revoked: file}}); (b == nil) == (err == nil) {
			t.Fatalf("%q: %v and %v", data, b, err)
		}
		if a, err := auth.NewAPIKey(auth.APIKeyConfig{Keys: file}); (a == nil) == (err == nil) {
			t.Fatalf("%q: %v and %v", data, a, err)
		}
		b, err := auth.NewBasic(auth.BasicConfig{Htpasswd: file})
		if (b == nil) == (err == nil) {
			t.Fatalf("%q: %v and %v", data, b, err)
		}
	})
}

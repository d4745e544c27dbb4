package auth_test

import (
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
)

// hasPlan is a condition on a claim of the caller.
type hasPlan string

func (p hasPlan) Match(r *filter.Request) (bool, error) {
	if r.Identity == nil {
		return false, errors.New("asked without a caller")
	}
	return r.Identity.Claims["plan"] == string(p), nil
}

func TestCondition(t *testing.T) {
	p := pipeline(t, auth.Config{Realm: "api", Methods: []auth.Method{newBearer(t, nil)}, Requirements: []auth.Requirement{
		{ID: "hidden", Match: under("/hidden"), If: hasPlan("pro"), Conceal: true},
		{ID: "pro", If: hasPlan("pro")},
	}})
	for _, tt := range []struct {
		name, path, token string
		status            int
	}{
		{"it holds", "/", token(t, map[string]any{"plan": "pro"}), 200},
		{"it does not", "/", token(t, map[string]any{"plan": "free"}), 403},
		{"no such claim", "/", token(t, nil), 403},
		{"no caller", "/", "", 401},
		{"concealed, it does not hold and the rest refuses", "/hidden", token(t, nil), 403},
		{"concealed, it holds", "/hidden", token(t, map[string]any{"plan": "pro"}), 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines := []string{"GET " + tt.path + " HTTP/1.1"}
			if tt.token != "" {
				lines = append(lines, "Authorization: Bearer "+tt.token)
			}
			w := serve(t, p, parse(t, lines...))
			if w.Code != tt.status || (w.Header().Get("WWW-Authenticate") != "") != (tt.status == 401) {
				t.Errorf("%d %v, want %d", w.Code, w.Header(), tt.status)
			}
		})
	}
}

func TestStepUp(t *testing.T) {
	p := pipeline(t, auth.Config{Realm: "api", Methods: []auth.Method{newBearer(t, nil), newBasic(t, "anna", "right")}, Requirements: []auth.Requirement{
		{Match: under("/strong"), ACR: []string{"urn:mfa", "urn:hardware"}},
		{Match: under("/fresh"), MaxAge: 5 * time.Minute},
		{Match: under("/scoped"), Scopes: []string{"pay"}, ACR: []string{"urn:mfa"}},
	}})
	ago := func(d time.Duration) map[string]any { return map[string]any{"auth_time": now.Add(-d).Unix()} }
	for _, tt := range []struct {
		name, path string
		claims     map[string]any
		status     int
		param      string
	}{
		{"strong enough", "/strong", map[string]any{"acr": "urn:hardware"}, 200, ""},
		{"too weak", "/strong", map[string]any{"acr": "urn:password"}, 401, `acr_values="urn:mfa urn:hardware"`},
		{"no context", "/strong", nil, 401, `acr_values="urn:mfa urn:hardware"`},
		{"fresh enough", "/fresh", ago(5 * time.Minute), 200, ""},
		{"too old", "/fresh", ago(5*time.Minute + time.Second), 401, `max_age="300"`},
		{"no time", "/fresh", nil, 401, `max_age="300"`},
		{"time as text", "/fresh", map[string]any{"auth_time": "now"}, 401, `max_age="300"`},
		{"time of the future", "/fresh", ago(-time.Hour), 401, `max_age="300"`},
		{"scope first", "/scoped", nil, 403, `error="insufficient_scope"`},
		{"then the proof", "/scoped", map[string]any{"scope": "pay"}, 401, `error="insufficient_user_authentication"`},
		{"both", "/scoped", map[string]any{"scope": "pay", "acr": "urn:mfa"}, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(t, p, parse(t, "GET "+tt.path+" HTTP/1.1", "Authorization: Bearer "+token(t, tt.claims)))
			got := w.Header()["Www-Authenticate"]
			if w.Code != tt.status || tt.param != "" && (len(got) == 0 || !strings.Contains(got[0], tt.param)) {
				t.Errorf("%d %q, want %d", w.Code, got, tt.status)
			}
			if w.Code == 401 && (!strings.Contains(got[0], `error="insufficient_user_authentication"`) || len(got) != 2) {
				t.Errorf("challenges %q", got)
			}
			for _, c := range got {
				checkChallenge(t, c)
			}
		})
	}
	if w := serve(t, p, parse(t, "GET /strong HTTP/1.1", "Authorization: Basic "+basicPair("anna:right"))); w.Code != 401 {
		t.Errorf("a password is proof enough: %d", w.Code)
	}
}

func TestResourceMetadata(t *testing.T) {
	const url = "https://api.example.com/.well-known/oauth-protected-resource"
	b := newBearer(t, func(c *auth.BearerConfig) { c.ResourceMetadata = url })
	for _, p := range []auth.Problem{{}, {Kind: auth.BadCredentials, Description: "no"}, {Kind: auth.MissingScope, Scopes: []string{"a"}}} {
		if got := checkChallenge(t, b.Challenge("api", p))["resource_metadata"]; got != url {
			t.Errorf("%+v: %q", p, got)
		}
	}
	for _, bad := range []string{"http://api.example.com/x", "api.example.com", "https://", "https://a.example/ü", "https://a.example/#x"} {
		c := auth.BearerConfig{ResourceMetadata: bad, Tokens: auth.TokenConfig{Issuer: issuer, Audience: audience, JWKS: allKeys(t)}}
		if _, err := auth.NewBearer(c); err == nil || !strings.Contains(err.Error(), "is no https URL") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestLogin(t *testing.T) {
	config := func(login string) auth.Config {
		return auth.Config{Realm: "api", Methods: []auth.Method{newBearer(t, nil), newBasic(t, "anna", "right")}, Requirements: []auth.Requirement{
			{Match: under("/basic"), Methods: []string{"basic"}, Login: login},
			{Login: login},
		}}
	}
	browser := []string{"Accept: text/html", "Sec-Fetch-Mode: navigate"}
	for _, tt := range []struct {
		name, login, request string
		fields               []string
		status               int
		location             string
		schemes              []string
	}{
		{"browser", "/login?next={uri}", "GET /a/b?c=d&e HTTP/1.1", browser, 302, "/login?next=%2Fa%2Fb%3Fc%3Dd%26e", nil},
		{"browser, other host", "https://login.example/?rd={uri}", "GET /a HTTP/1.1", browser, 302, "https://login.example/?rd=%2Fa", nil},
		{"browser, fixed", "/login", "GET /a HTTP/1.1", browser, 302, "/login", nil},
		{"no way to another host", "/login?next={uri}", "GET //evil.example/ HTTP/1.1", browser, 302, "/login?next=%2F", nil},
		{"no way to another host by a backslash", "/login?next={uri}", `GET /%5cevil.example/ HTTP/1.1`, browser, 302, "/login?next=%2F%255cevil.example%2F", nil},
		{"no header field", "/login?next={uri}", "GET /a%0d%0aSet-Cookie:x HTTP/1.1", browser, 400, "", nil},
		{"form", "/login?next={uri}", "POST /a HTTP/1.1", append([]string{"Content-Length: 0"}, browser...), 303, "/login?next=%2F", nil},
		{"on the login itself", "/login?next={uri}", "GET /login HTTP/1.1", browser, 401, "", []string{"Bearer"}},
		{"API client", "/login", "GET /a HTTP/1.1", []string{"Accept: application/json"}, 401, "", []string{"Bearer", "Basic"}},
		{"script in a browser: no window", "/login", "GET /a HTTP/1.1", []string{"Accept: */*", "Sec-Fetch-Mode: cors"}, 401, "", []string{"Bearer"}},
		{"script with a bad token", "/login", "GET /a HTTP/1.1", []string{"Sec-Fetch-Mode: cors", "Authorization: Bearer x"}, 401, "", []string{"Bearer"}},
		{"only Basic", "/login", "GET /basic HTTP/1.1", []string{"Sec-Fetch-Mode: cors"}, 401, "", []string{"Basic"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(t, pipeline(t, config(tt.login)), parse(t, append([]string{tt.request}, tt.fields...)...))
			if w.Code != tt.status || w.Header().Get("Location") != tt.location {
				t.Errorf("%d %q, want %d %q", w.Code, w.Header().Get("Location"), tt.status, tt.location)
			}
			var schemes []string
			for _, c := range w.Header()["Www-Authenticate"] {
				scheme, _, _ := strings.Cut(c, " ")
				schemes = append(schemes, scheme)
			}
			if !slices.Equal(schemes, tt.schemes) {
				t.Errorf("challenges of %q, want %q", schemes, tt.schemes)
			}
		})
	}
	for _, bad := range []string{"login", "//evil.example", "javascript:alert(1)", "https://", "/a b", "/a\r\nb", "https://u:p@a.example", "ftp://a.example"} {
		if _, err := auth.New(config(bad)); err == nil || !strings.Contains(err.Error(), "is neither an http or https URL nor a path") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestNewRefusesStepUp(t *testing.T) {
	for want, q := range map[string]auth.Requirement{
		"requirement require[0]: the age of a proof is counted in seconds":                                                        {MaxAge: time.Millisecond},
		`requirement require[0]: "a b" is no authentication context: printable ASCII without space, quotation mark and backslash`: {ACR: []string{"a b"}},
		"requirement require[0]: asks for nobody, and says what of a caller":                                                      {Auth: auth.None, Login: "/login"},
	} {
		_, err := auth.New(auth.Config{Realm: "api", Methods: []auth.Method{newBasic(t, "anna", "right")}, Requirements: []auth.Requirement{q}})
		if errorText(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestGroups holds the roles of users with passwords.
func TestGroups(t *testing.T) {
	b, err := auth.NewBasic(auth.BasicConfig{
		Htpasswd: htpasswd(t, "anna", "right", "otto", "right", "ida", "right"),
		Groups:   auth.File{Name: "groups", Data: []byte("admin: anna otto\nstaff: otto\nstaff: otto\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string][]string{"anna": {"admin"}, "otto": {"admin", "staff"}, "ida": nil} {
		for range 2 {
			who, err := verify(b, basicPair(user+":right"))
			if err != nil || !slices.Equal(who.Roles, want) {
				t.Errorf("%s: %+v, %v; want %q", user, who, err, want)
			}
		}
	}
}

// TestRealms holds that each requirement asks in its own realm, whatever is wrong.
func TestRealms(t *testing.T) {
	p := pipeline(t, auth.Config{Realm: "api", Methods: []auth.Method{newBearer(t, nil), newBasic(t, "anna", "right")}, Requirements: []auth.Requirement{
		{Match: under("/shop/scoped"), Realm: "shop", Scopes: []string{"buy"}},
		{Match: under("/shop/fresh"), Realm: "shop", MaxAge: time.Minute},
		{Match: under("/shop/"), Realm: `the "shop"`},
		{},
	}})
	for _, tt := range []struct{ path, authorization, want string }{
		{"/x", "", `Bearer realm="api"|Basic realm="api", charset="UTF-8"`},
		{"/shop/x", "", `Bearer realm="the \"shop\""|Basic realm="the \"shop\"", charset="UTF-8"`},
		{"/shop/x", "Bearer abc", `Bearer realm="the \"shop\"", error="invalid_token", error_description="The token is not valid"|Basic realm="the \"shop\"", charset="UTF-8"`},
		{"/shop/scoped", "Bearer " + token(t, nil), `Bearer realm="shop", error="insufficient_scope", scope="buy"`},
		{"/shop/fresh", "Bearer " + token(t, nil), `Bearer realm="shop", error="insufficient_user_authentication", error_description="A stronger or more recent authentication is needed", max_age="60"|Basic realm="shop", charset="UTF-8"`},
	} {
		r := httptest.NewRequest("GET", tt.path, nil)
		if tt.authorization != "" {
			r.Header.Set("Authorization", tt.authorization)
		}
		if got := strings.Join(serve(t, p, r).Header()["Www-Authenticate"], "|"); got != tt.want {
			t.Errorf("%s %.10s: got  %s\nwant %s", tt.path, tt.authorization, got, tt.want)
		}
	}
	for _, realm := range []string{"ä", "a\nb", strings.Repeat("r", 257)} {
		if a, err := auth.New(auth.Config{Realm: "api", Methods: []auth.Method{newBearer(t, nil)}, Requirements: []auth.Requirement{{ID: "x", Realm: realm}}}); a != nil || err == nil || !strings.HasPrefix(err.Error(), "requirement x: ") {
			t.Errorf("%q: %v", realm, err)
		}
	}
	if a, err := auth.New(auth.Config{Realm: "api", Requirements: []auth.Requirement{{Auth: auth.None, Realm: "x"}}}); a != nil || err == nil {
		t.Error("a realm where nobody is asked")
	}
}

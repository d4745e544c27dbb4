package auth_test

import (
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
)

// header is a method whose credential is a header field, as an API key is: it
// verifies the name of its user.
type header struct {
	name      string // of the method
	challenge string
	err       error // of Verify
	nobody    bool  // Verify forgets its answer
}

func (h header) Name() string { return h.name }

func (h header) Find(r *filter.Request) (string, auth.Found) {
	switch v := r.HTTP.Header["X-"+strings.ToUpper(h.name[:1])+h.name[1:]]; len(v) {
	case 0:
		return "", auth.Absent
	case 1:
		return v[0], auth.Present
	}
	return "", auth.Malformed
}

func (h header) Verify(_ *filter.Request, credential string) (*filter.Identity, error) {
	switch {
	case h.err != nil:
		return nil, h.err
	case h.nobody:
		return nil, nil
	case credential == "bad":
		return nil, &auth.Rejection{Detail: "bad key"}
	}
	name, roles, _ := strings.Cut(credential, "/")
	return &filter.Identity{Subject: name, Method: h.name, Roles: strings.Fields(roles)}, nil
}

func (h header) Challenge(_ string, p auth.Problem) string {
	if h.challenge == "" || p.Kind == auth.MissingScope {
		return ""
	}
	return h.challenge + [...]string{"", " malformed", " bad"}[p.Kind]
}

// broken is a condition that cannot be evaluated.
type broken struct{}

func (broken) Match(*filter.Request) (bool, error) { return true, errors.New("no such claim") }

func request(method, path string, fields ...string) *filter.Request {
	hr := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(fields); i += 2 {
		hr.Header.Add(fields[i], fields[i+1])
	}
	return filter.NewRequest(hr, now)
}

func TestDecisions(t *testing.T) {
	methods := []auth.Method{header{name: "key", challenge: "Key"}, header{name: "card", challenge: "Card"}, header{name: "silent"}}
	require := func(q ...auth.Requirement) []auth.Requirement { return q }
	type fields = []string
	for _, tt := range []struct {
		name         string
		requirements []auth.Requirement
		path         string
		fields       fields
		verdict      filter.Verdict
		reason       filter.Reason
		status       int
		rule         string
		challenges   []string
		who          string
	}{
		{"no requirements", nil, "/", fields{"X-Key", "anna"}, filter.Allow, filter.ReasonNone, 0, "", nil, ""},
		{"unnamed requirement", require(auth.Requirement{}), "/", nil, filter.Challenge, filter.ReasonNoCredentials, 401, "require[0]", []string{"Key", "Card"}, ""},
		{"good credentials", require(auth.Requirement{}), "/", fields{"X-Key", "anna"}, filter.Allow, filter.ReasonNone, 0, "", nil, "anna"},
		{"credentials of a method without challenge", require(auth.Requirement{}), "/", fields{"X-Silent", "anna"}, filter.Allow, filter.ReasonNone, 0, "", nil, "anna"},
		{"bad credentials", require(auth.Requirement{}), "/", fields{"X-Card", "bad"}, filter.Challenge, filter.ReasonBadCredentials, 401, "require[0]", []string{"Key", "Card bad"}, ""},
		{"bad credentials of a method without challenge", require(auth.Requirement{}), "/", fields{"X-Silent", "bad"}, filter.Challenge, filter.ReasonBadCredentials, 401, "require[0]", []string{"Key", "Card"}, ""},
		{"malformed credentials", require(auth.Requirement{}), "/", fields{"X-Key", "a", "X-Key", "b"}, filter.Challenge, filter.ReasonMalformed, 400, "require[0]", []string{"Key malformed", "Card"}, ""},
		{"the first method of the policy decides: good", require(auth.Requirement{}), "/", fields{"X-Card", "bad", "X-Key", "anna"}, filter.Allow, filter.ReasonNone, 0, "", nil, "anna"},
		{"the first method of the policy decides: bad", require(auth.Requirement{}), "/", fields{"X-Card", "anna", "X-Key", "bad"}, filter.Challenge, filter.ReasonBadCredentials, 401, "require[0]", []string{"Key bad", "Card"}, ""},
		{"only the methods of the path are looked at", require(auth.Requirement{Methods: []string{"card"}}), "/", fields{"X-Card", "anna", "X-Key", "bad"}, filter.Allow, filter.ReasonNone, 0, "", nil, "anna"},
		{"only the methods of the path are asked for", require(auth.Requirement{Methods: []string{"card"}}), "/", fields{"X-Key", "anna"}, filter.Challenge, filter.ReasonNoCredentials, 401, "require[0]", []string{"Card"}, ""},
		{"the first requirement that matches decides", require(auth.Requirement{Match: under("/a"), Auth: auth.None}, auth.Requirement{}), "/a", nil, filter.Allow, filter.ReasonNone, 0, "", nil, ""},
		{"nothing asked, no identity", require(auth.Requirement{Match: under("/a"), Auth: auth.None}, auth.Requirement{}), "/a", fields{"X-Key", "anna"}, filter.Allow, filter.ReasonNone, 0, "", nil, ""},
		{"one of the roles", require(auth.Requirement{Roles: []string{"a", "b"}}), "/", fields{"X-Key", "anna/b c"}, filter.Allow, filter.ReasonNone, 0, "", nil, "anna"},
		{"none of the roles", require(auth.Requirement{ID: "r", Roles: []string{"a", "b"}}), "/", fields{"X-Key", "anna/c"}, filter.Block, filter.ReasonForbidden, 403, "r", nil, "anna"},
		{"role and scope missing", require(auth.Requirement{ID: "r", Roles: []string{"a"}, Scopes: []string{"s"}}), "/", fields{"X-Key", "anna"}, filter.Block, filter.ReasonForbidden, 403, "r", nil, "anna"},

		// Ambiguous paths: each reading's requirement must hold.
		{"open in one reading only", require(auth.Requirement{Match: under("/open"), Auth: auth.None}, auth.Requirement{ID: "rest"}), "/open/..%2fx", nil, filter.Challenge, filter.ReasonNoCredentials, 401, "rest", []string{"Key", "Card"}, ""},
		{"open in one reading only, known caller", require(auth.Requirement{Match: under("/open"), Auth: auth.None}, auth.Requirement{}), "/open/..%2fx", fields{"X-Key", "anna"}, filter.Allow, filter.ReasonNone, 0, "", nil, "anna"},
		{"a role in one reading", require(auth.Requirement{ID: "a", Match: under("/a/"), Roles: []string{"a"}}, auth.Requirement{}), "/x/..%2fa/y", fields{"X-Key", "anna"}, filter.Block, filter.ReasonForbidden, 403, "a", nil, "anna"},
		{"a role in each reading, one missing", require(auth.Requirement{ID: "a", Match: under("/a/"), Roles: []string{"a"}}, auth.Requirement{ID: "b", Roles: []string{"b"}}), "/x/..%2fa/y", fields{"X-Key", "anna/a"}, filter.Block, filter.ReasonForbidden, 403, "b", nil, "anna"},
		{"a role in each reading, both there", require(auth.Requirement{ID: "a", Match: under("/a/"), Roles: []string{"a"}}, auth.Requirement{ID: "b", Roles: []string{"b"}}), "/x/..%2fa/y", fields{"X-Key", "anna/a b"}, filter.Allow, filter.ReasonNone, 0, "", nil, "anna"},
		{"readings with no method in common", require(auth.Requirement{ID: "a", Match: under("/a/"), Methods: []string{"key"}}, auth.Requirement{ID: "b", Methods: []string{"card"}}), "/x/..%2fa/y", fields{"X-Key", "anna", "X-Card", "anna"}, filter.Challenge, filter.ReasonNoCredentials, 401, "", nil, ""},

		// Concealment: for who may not, the requirement is not there.
		{"concealed, nothing else asked, unknown caller", require(auth.Requirement{ID: "c", Conceal: true}), "/", nil, filter.Block, filter.ReasonConcealed, 404, "c", nil, ""},
		{"concealed, nothing else asked, bad credentials", require(auth.Requirement{ID: "c", Conceal: true}), "/", fields{"X-Key", "bad"}, filter.Block, filter.ReasonConcealed, 404, "c", nil, ""},
		{"concealed, nothing else asked, malformed", require(auth.Requirement{ID: "c", Conceal: true}), "/", fields{"X-Key", "a", "X-Key", "b"}, filter.Block, filter.ReasonConcealed, 404, "c", nil, ""},
		{"concealed, nothing else asked, known caller", require(auth.Requirement{ID: "c", Conceal: true}), "/", fields{"X-Key", "anna"}, filter.Allow, filter.ReasonNone, 0, "", nil, "anna"},
		{"concealed, role missing", require(auth.Requirement{ID: "c", Roles: []string{"a"}, Conceal: true}), "/", fields{"X-Key", "anna"}, filter.Block, filter.ReasonConcealed, 404, "c", nil, "anna"},
		{"concealed in an open area", require(auth.Requirement{ID: "c", Conceal: true}, auth.Requirement{Auth: auth.None}), "/", nil, filter.Block, filter.ReasonConcealed, 404, "c", nil, ""},
		{"concealed in an asking area, unknown caller", require(auth.Requirement{ID: "c", Roles: []string{"a"}, Conceal: true}, auth.Requirement{ID: "rest"}), "/", nil, filter.Challenge, filter.ReasonNoCredentials, 401, "rest", []string{"Key", "Card"}, ""},
		{"concealed in an asking area, role missing", require(auth.Requirement{ID: "c", Roles: []string{"a"}, Conceal: true}, auth.Requirement{ID: "rest"}), "/", fields{"X-Key", "anna"}, filter.Block, filter.ReasonConcealed, 404, "c", nil, "anna"},
		{"concealed in an area with a role, both missing", require(auth.Requirement{ID: "c", Roles: []string{"a"}, Conceal: true}, auth.Requirement{ID: "rest", Roles: []string{"b"}}), "/", fields{"X-Key", "anna"}, filter.Block, filter.ReasonForbidden, 403, "rest", nil, "anna"},
		{"concealed, allowed, in an area whose role is missing", require(auth.Requirement{ID: "c", Roles: []string{"a"}, Conceal: true}, auth.Requirement{ID: "rest", Roles: []string{"b"}}), "/", fields{"X-Key", "anna/a"}, filter.Allow, filter.ReasonNone, 0, "", nil, "anna"},
		{"concealed twice, the second one lets in", require(auth.Requirement{ID: "c", Roles: []string{"a"}, Conceal: true}, auth.Requirement{ID: "d", Roles: []string{"b"}, Conceal: true}), "/", fields{"X-Key", "anna/b"}, filter.Allow, filter.ReasonNone, 0, "", nil, "anna"},
		{"concealed from a method that the area does not take", require(auth.Requirement{ID: "c", Roles: []string{"a"}, Conceal: true}, auth.Requirement{ID: "rest", Methods: []string{"card"}}), "/", fields{"X-Key", "anna"}, filter.Challenge, filter.ReasonNoCredentials, 401, "rest", []string{"Card"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pipeline(t, auth.Config{Realm: "api", Methods: methods, Requirements: tt.requirements})
			r := request("GET", tt.path, tt.fields...)
			defer r.Release()
			d, err := p.Decide(r)
			if err != nil {
				t.Fatal(err)
			}
			if d.Verdict != tt.verdict || d.Reason != tt.reason || d.StatusCode() != tt.status {
				t.Errorf("got %v %v %d, want %v %v %d", d.Verdict, d.Reason, d.StatusCode(), tt.verdict, tt.reason, tt.status)
			}
			if tt.rule != "" && d.Rule != tt.rule {
				t.Errorf("rule %q, want %q", d.Rule, tt.rule)
			}
			if tt.challenges != nil && !slices.Equal(d.Challenges, tt.challenges) {
				t.Errorf("challenges %q, want %q", d.Challenges, tt.challenges)
			}
			if d.Verdict == filter.Challenge && len(d.Challenges) == 0 {
				t.Error("a challenge that asks for nothing")
			}
			if d.Verdict == filter.Block && len(d.Challenges) > 0 {
				t.Errorf("challenges %q with a block", d.Challenges)
			}
			who := ""
			if r.Identity != nil {
				who = r.Identity.Subject
			}
			if who != tt.who {
				t.Errorf("identity %q, want %q", who, tt.who)
			}
			if d.Refuses() && d.Stage != "auth" {
				t.Errorf("stage %q", d.Stage)
			}
		})
	}
}

// TestCannotDecide holds that what cannot be told is an error of the stage, never
// a refusal or a pass.
func TestCannotDecide(t *testing.T) {
	failing := header{name: "key", challenge: "Key", err: errors.New("the store is away")}
	for _, tt := range []struct {
		name string
		c    auth.Config
		want string
	}{
		{"method fails", auth.Config{Methods: []auth.Method{failing}, Requirements: []auth.Requirement{{}}}, "auth stage: key: the store is away"},
		{"method verifies nobody", auth.Config{Methods: []auth.Method{header{name: "key", challenge: "Key", nobody: true}}, Requirements: []auth.Requirement{{}}}, "auth stage: key: verified nobody"},
		{"condition fails", auth.Config{Methods: []auth.Method{failing}, Requirements: []auth.Requirement{{ID: "x", Match: broken{}}}}, "auth stage: requirement x: no such claim"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Realm = "api"
			r := request("GET", "/", "X-Key", "anna")
			defer r.Release()
			d, err := pipeline(t, tt.c).Decide(r)
			if d.StatusCode() != 503 || errorText(err) != tt.want || r.Identity != nil {
				t.Errorf("got %d, %v, %v; want 503 and %s", d.StatusCode(), err, r.Identity, tt.want)
			}
		})
	}
	for _, stage := range []filter.Stage{new(auth.Auth).Authenticate(), new(auth.Auth).Authorize()} {
		r := request("GET", "/")
		if _, err := stage.Check(r); err == nil {
			t.Error("the stages of the zero Auth decide")
		}
		r.Release()
	}
}

func TestAuthorizeAloneLetsNobodyIn(t *testing.T) {
	a, err := auth.New(auth.Config{Realm: "api", Methods: []auth.Method{header{name: "key", challenge: "Key"}}, Requirements: []auth.Requirement{{}}})
	if err != nil {
		t.Fatal(err)
	}
	r := request("GET", "/", "X-Key", "anna")
	defer r.Release()
	if d, err := a.Authorize().Check(r); err != nil || d.Verdict != filter.Challenge {
		t.Errorf("got %+v, %v; want a challenge", d, err)
	}
}

func TestIdentityIsNotTakenOver(t *testing.T) {
	a, err := auth.New(auth.Config{Realm: "api", Methods: []auth.Method{header{name: "key", challenge: "Key"}}, Requirements: []auth.Requirement{{Match: under("/open"), Auth: auth.None}, {}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/open", "/"} {
		r := request("GET", path)
		r.Identity = &filter.Identity{Subject: "left over", Method: "key"}
		if _, err := a.Authenticate().Check(r); err != nil || r.Identity != nil {
			t.Errorf("%s: identity %+v, %v; want none", path, r.Identity, err)
		}
		r.Release()
	}
}

func TestNewRefuses(t *testing.T) {
	key := header{name: "key", challenge: "Key"}
	for _, tt := range []struct {
		name string
		c    auth.Config
		want string
	}{
		{"no realm", auth.Config{}, "the realm is empty: name what the credentials are for"},
		{"realm with a line end", auth.Config{Realm: "a\r\nb"}, `the realm "a\r\nb" holds a character that is not printable ASCII`},
		{"realm of 257 bytes", auth.Config{Realm: strings.Repeat("r", 257)}, "the realm has 257 bytes, 256 are allowed"},
		{"method twice", auth.Config{Realm: "api", Methods: []auth.Method{key, key}}, "method key is there twice"},
		{"65 methods", auth.Config{Realm: "api", Methods: make([]auth.Method, 65)}, "65 methods, 64 are allowed"},
		{"nobody can be asked", auth.Config{Realm: "api", Requirements: []auth.Requirement{{ID: "x"}}}, "requirement x: no method can fulfil it"},
		{"several faults", auth.Config{Realm: "api", Methods: []auth.Method{key}, Requirements: []auth.Requirement{
			{ID: "x", Methods: []string{"kee"}},
			{Scopes: []string{"a b", `"`, "ok"}, Roles: []string{""}},
			{Auth: auth.None, Roles: []string{"admin"}},
			{Auth: auth.None, Conceal: true},
			{Auth: 7},
		}}, strings.Join([]string{
			"requirement x: there is no method kee",
			`requirement require[1]: "a b" is no scope: printable ASCII without space, quotation mark and backslash`,
			`requirement require[1]: "\"" is no scope: printable ASCII without space, quotation mark and backslash`,
			"requirement require[1]: an empty role",
			"requirement require[2]: asks for nobody, and says what of a caller",
			"requirement require[3]: asks for nobody, and says what of a caller",
			"requirement require[4]: there is no demand 7",
		}, "\n")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := auth.New(tt.c)
			if a != nil || errorText(err) != tt.want {
				t.Errorf("got %v, %v\nwant %s", a, err, tt.want)
			}
		})
	}
}

func TestConceals(t *testing.T) {
	for _, conceal := range []bool{true, false} {
		a, err := auth.New(auth.Config{Realm: "api", Methods: []auth.Method{header{name: "key", challenge: "Key"}}, Requirements: []auth.Requirement{{Conceal: conceal}, {}}})
		if err != nil || a.Conceals() != conceal {
			t.Errorf("got %v, %v; want %v", a.Conceals(), err, conceal)
		}
	}
}

func BenchmarkStages(b *testing.B) {
	for _, bb := range []struct {
		name   string
		path   string
		fields []string
	}{
		{"nothing-asked", "/", nil},
		{"no-credentials", "/api/me", nil},
		{"basic-remembered", "/basic/me", []string{"Authorization", "Basic " + basicPair("anna:right")}},
		{"bearer-RS256", "/api/me", []string{"Authorization", "Bearer " + token(b, nil)}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p := house(b)
			r := request("GET", bb.path, bb.fields...)
			_, _ = p.Decide(r)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = p.Decide(r)
			}
		})
	}
}

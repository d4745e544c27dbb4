package auth_test

import (
	"bufio"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
)

func TestIdentityHeaders(t *testing.T) {
	h, err := auth.NewIdentityHeaders(map[string]string{
		"X-Remote-User": "subject", "x-remote-method": "method", "X-Remote-Roles": "roles", "X-Remote-Scopes": "scopes",
		"X-Plan": "claim:plan", "X-Seats": "claim:seats", "X-Beta": "claim:beta", "X-Regions": "claim:regions", "X-Object": "claim:object",
	})
	if err != nil {
		t.Fatal(err)
	}
	who := &filter.Identity{Subject: "anna", Method: "bearer", Roles: []string{"admin", "a,b", ""}, Scopes: []string{"read", "write"},
		Claims: map[string]any{"plan": "pro", "seats": 12.5, "beta": true, "regions": []any{"eu", "us", 1.0}, "object": map[string]any{"a": "b"}}}
	full := map[string]string{"X-Remote-User": "anna", "X-Remote-Method": "bearer", "X-Remote-Roles": "admin,a%2Cb", "X-Remote-Scopes": "read,write",
		"X-Plan": "pro", "X-Seats": "12.5", "X-Beta": "true", "X-Regions": "eu,us"}
	spoofed := http.Header{
		"X-Remote-User": {"root", "admin"}, "X_Remote_User": {"root"}, "x-remote-user": {"root"}, "X-REMOTE_USER": {"root"}, "X.Remote.User": {"root"},
		"X_plan": {"gold"}, "X-Object": {"x"}, "X-Remote-Username": {"kept"}, "Accept": {"kept"},
		"Connection": {"close, X-Remote-User", "x_plan"},
	}
	for _, tt := range []struct {
		name string
		who  *filter.Identity
		want map[string]string
	}{{"known", who, full}, {"nobody", nil, nil}, {"nothing but a name", &filter.Identity{Subject: "ida"}, map[string]string{"X-Remote-User": "ida"}}} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header = spoofed.Clone()
			r.Trailer = http.Header{"X_remote_user": nil, "X-Checksum": nil}
			h.Apply(r, tt.who)
			want := http.Header{"X-Remote-Username": {"kept"}, "Accept": {"kept"}, "Connection": {"close"}}
			for name, value := range tt.want {
				want[name] = []string{value}
			}
			if !maps.EqualFunc(r.Header, want, func(a, b []string) bool { return strings.Join(a, "|") == strings.Join(b, "|") }) {
				t.Errorf("got  %v\nwant %v", r.Header, want)
			}
			if _, ok := r.Trailer["X_remote_user"]; ok || len(r.Trailer) != 1 {
				t.Errorf("trailer %v", r.Trailer)
			}
		})
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Remote-User", "kept")
	(*auth.IdentityHeaders)(nil).Apply(r, who)
	if r.Header.Get("X-Remote-User") != "kept" {
		t.Error("a policy without fields takes them away")
	}
}

// TestIdentityValues holds how what an issuer has verified is written: a name may have
// a line end in it all the same.
func TestIdentityValues(t *testing.T) {
	who := &filter.Identity{
		Subject: "Änne Öz,50%\r\nX-Admin: 1 ",
		Method:  "bearer",
		Roles:   []string{"a", "", "b,admin"},
		Scopes:  []string{"api.read", "api.write"},
		Claims: map[string]any{"email": "a@b.example", "plan": []any{"x", 1, "y"}, "level": 3.0, "staff": true, "nested": map[string]any{},
			"id": int64(-7), "names": []string{"a", "b\nc"}, "line": "x\r\nSet-Cookie: a=b"},
		Upstream: http.Header{"X-Test": {"not asked for"}},
	}
	for what, want := range map[string]string{
		"subject":      "%C3%84nne %C3%96z,50%25%0D%0AX-Admin: 1%20",
		"method":       "bearer",
		"roles":        "a,b%2Cadmin",
		"scopes":       "api.read,api.write",
		"claim:email":  "a@b.example",
		"claim:plan":   "x,y",
		"claim:level":  "3",
		"claim:staff":  "true",
		"claim:nested": "",
		"claim:none":   "",
		"claim:id":     "-7",
		"claim:names":  "a,b%0Ac",
		"claim:line":   "x%0D%0ASet-Cookie: a=b",
	} {
		h, err := auth.NewIdentityHeaders(map[string]string{"X-Test": what})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/", nil)
		h.Apply(r, who)
		if got := r.Header.Get("X-Test"); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
}

// TestIdentityTrailers holds that no trailer names the caller, announced or not,
// whoever sets how many fields.
func TestIdentityTrailers(t *testing.T) {
	first, err := auth.NewIdentityHeaders(map[string]string{"X-Remote-User": "subject"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := auth.NewIdentityHeaders(nil, "X-Auth-User")
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Remote-User, X-Checksum\r\n\r\n" +
		"4\r\nbody\r\n0\r\nX-Remote-User: root\r\nX_remote_user: root\r\nx-auth-user: root\r\nX-Checksum: 1\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		first.Apply(r, nil)
		second.Apply(r, nil)
	}
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != "body" {
		t.Fatalf("%q, %v", body, err)
	}
	if len(r.Trailer) != 1 || r.Trailer.Get("X-Checksum") != "1" {
		t.Errorf("trailer %v", r.Trailer)
	}
}

func TestNewIdentityHeadersRefuses(t *testing.T) {
	for want, c := range map[string]map[string]string{
		`"X User" is no name of a header field`:                                          {"X User": "subject"},
		"Cookie has a meaning of its own":                                                {"cookie": "subject"},
		"X_forwarded_for has a meaning of its own":                                       {"x_forwarded_for": "subject"},
		`X-User holds "name": there are subject, method, roles, scopes and claim:NAME`:   {"X-User": "name"},
		`X-User holds "claim:": there are subject, method, roles, scopes and claim:NAME`: {"X-User": "claim:"},
		"X_user is there twice: some upstreams read both names as one":                   {"X-User": "subject", "X_User": "roles"},
	} {
		if h, err := auth.NewIdentityHeaders(c); h != nil || errorText(err) != want {
			t.Errorf("%v: got %v, want %s", c, err, want)
		}
	}
}

// FuzzIdentityHeader holds that a name reaches the upstream as it is verified, and
// is nothing but one field value.
func FuzzIdentityHeader(f *testing.F) {
	h, err := auth.NewIdentityHeaders(auth.DefaultIdentityHeaders())
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"anna", "a\r\nX-Admin: 1", "ü", "a%41", " a ", "\x00", "a b", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		r := httptest.NewRequest("GET", "/", nil)
		h.Apply(r, &filter.Identity{Subject: subject})
		got := r.Header.Get("X-Remote-User")
		if back, err := url.PathUnescape(got); err != nil || back != subject {
			t.Fatalf("%q became %q", subject, got)
		}
		if strings.ContainsFunc(got, func(c rune) bool { return c < ' ' || c > '~' }) || strings.TrimSpace(got) != got {
			t.Fatalf("%q became %q", subject, got)
		}
	})
}

func BenchmarkIdentityHeaders(b *testing.B) {
	h, err := auth.NewIdentityHeaders(auth.DefaultIdentityHeaders())
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	for _, name := range []string{"Accept", "Accept-Encoding", "Accept-Language", "Cookie", "User-Agent", "Connection", "Sec-Fetch-Mode", "Referer"} {
		r.Header.Set(name, "value")
	}
	b.ReportAllocs()
	for b.Loop() {
		h.Apply(r, &filter.Identity{Subject: "anna"})
	}
}

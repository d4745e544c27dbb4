package auth_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
)

func newAPIKey(t testing.TB, header, query string) *auth.APIKey {
	t.Helper()
	data, err := os.ReadFile("testdata/good/api-keys.yaml")
	if err != nil {
		t.Fatal(err)
	}
	a, err := auth.NewAPIKey(auth.APIKeyConfig{Header: header, Query: query, Keys: auth.File{Name: "api-keys.yaml", Data: data}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAPIKeys(t *testing.T) {
	p := pipeline(t, auth.Config{
		Realm:   "api",
		Methods: []auth.Method{newAPIKey(t, "X-Api-Token", "key"), newBearer(t, nil)},
		Requirements: []auth.Requirement{
			{ID: "write", Match: under("/write"), Scopes: []string{"api.write"}},
			{ID: "staff", Match: under("/staff"), Roles: []string{"staff"}},
			{},
		},
	})
	const billing, monitor = "X-Api-Token: billing-key-1", "x-api-token:  monitor-key-1 "
	for _, tt := range []struct {
		name       string
		path       string
		fields     []string
		status     int
		challenges int
	}{
		{"in the header", "/", []string{billing}, 200, 0},
		{"in the header, other case and spaces", "/", []string{monitor}, 200, 0},
		{"in the query", "/?a=b&key=billing-key-1", nil, 200, 0},
		{"in the query, escaped", "/?k%65y=billing%2dkey-1", nil, 200, 0},
		{"with the scope", "/write", []string{billing}, 200, 0},
		{"without the scope", "/write", []string{monitor}, 403, 0},
		{"with the role", "/staff", []string{billing}, 200, 0},
		{"without the role", "/staff", []string{monitor}, 403, 0},
		{"none", "/", nil, 401, 2},
		{"unknown", "/", []string{"X-Api-Token: billing-key-2"}, 401, 2},
		{"empty", "/", []string{"X-Api-Token:"}, 401, 2},
		{"too long", "/", []string{"X-Api-Token: " + strings.Repeat("k", 513)}, 401, 2},
		{"the hash instead of the key", "/", []string{"X-Api-Token: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}, 401, 2},
		{"other field", "/", []string{"X-API-Key: billing-key-1", "X_Api_Token: billing-key-1"}, 401, 2},
		{"twice", "/", []string{billing, billing}, 400, 2},
		{"in header and query", "/?key=billing-key-1", []string{billing}, 400, 2},
		{"twice in the query", "/?key=billing-key-1&key=x", nil, 400, 2},
		{"broken escape in the query", "/?key=%zz", nil, 400, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(t, p, parse(t, append([]string{"GET " + tt.path + " HTTP/1.1"}, tt.fields...)...))
			got := w.Header()["Www-Authenticate"]
			if w.Code != tt.status || len(got) != tt.challenges {
				t.Errorf("got %d %q, want %d with %d challenges", w.Code, got, tt.status, tt.challenges)
			}
			if tt.challenges > 0 && got[0] != `ApiKey realm="api", header="X-Api-Token"` {
				t.Errorf("challenges %q", got)
			}
		})
	}
}

func TestAPIKeyIdentity(t *testing.T) {
	a := newAPIKey(t, "", "")
	who, err := verify(a, "billing-key-1")
	if err != nil {
		t.Fatal(err)
	}
	if who.Subject != "billing" || who.Method != "api_key" || !slices.Equal(who.Roles, []string{"staff"}) || !slices.Equal(who.Scopes, []string{"api.read", "api.write"}) {
		t.Errorf("identity %+v", who)
	}
	if c := who.Claims; c["plan"] != "pro" || c["seats"] != 12.0 || c["beta"] != true || !slices.Equal(c["regions"].([]any), []any{"eu", "us"}) {
		t.Errorf("claims %v", c)
	}
	expiry := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for at, want := range map[time.Time]string{expiry.Add(-1): "", expiry: "key expired", expiry.Add(time.Hour): "key expired"} {
		if _, err := verifyAt(a, "billing-key-1", at); errorText(err) != want {
			t.Errorf("at %v: got %v, want %q", at, err, want)
		}
	}
	if _, err := verifyAt(a, "monitor-key-1", expiry.AddDate(100, 0, 0)); err != nil {
		t.Errorf("a key without expiry: %v", err)
	}
}

func TestAPIKeyDoesNotAllocate(t *testing.T) {
	a := newAPIKey(t, "", "")
	r := request("GET", "/", "X-API-Key", "billing-key-1")
	defer r.Release()
	if n := testing.AllocsPerRun(100, func() {
		key, _ := a.Find(r)
		if _, err := a.Verify(r, key); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNewAPIKeyRefuses(t *testing.T) {
	for header, want := range map[string]string{
		"X Key":         `api_key: "X Key" is no name of a header field`,
		"authorization": "api_key: the header field Authorization means something else; take one of its own such as X-API-Key",
	} {
		data, err := os.ReadFile("testdata/good/api-keys.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := auth.NewAPIKey(auth.APIKeyConfig{Header: header, Keys: auth.File{Data: data}}); errorText(err) != want {
			t.Errorf("%q: got %v, want %s", header, err, want)
		}
	}
}

// FuzzAPIKey sends any header value and query.
func FuzzAPIKey(f *testing.F) {
	a := newAPIKey(f, "X-API-Key", "key")
	for _, s := range []string{"", "billing-key-1", "x", " ", "\x00"} {
		f.Add(s, "")
		f.Add("", "key="+s)
		f.Add(s, "key="+s+"&key=%zz&;")
	}
	f.Fuzz(func(t *testing.T, header, query string) {
		hr := httptest.NewRequest(http.MethodGet, "/", nil)
		hr.URL.RawQuery = query
		if header != "" {
			hr.Header["X-Api-Key"] = []string{header}
		}
		r := filter.NewRequest(hr, now)
		defer r.Release()
		key, found := a.Find(r)
		if found != auth.Present {
			return
		}
		if who, err := a.Verify(r, key); (err == nil) != (key == "billing-key-1" || key == "monitor-key-1") || (who == nil) == (err == nil) {
			t.Fatalf("%q and %q: %+v, %v", header, query, who, err)
		}
	})
}

func BenchmarkAPIKey(b *testing.B) {
	a := newAPIKey(b, "", "")
	for name, key := range map[string]string{"good": "billing-key-1", "hostile-unknown": "x", "hostile-long": strings.Repeat("x", 512)} {
		b.Run(name, func(b *testing.B) {
			r := request("GET", "/")
			b.ReportAllocs()
			for b.Loop() {
				_, _ = a.Verify(r, key)
			}
		})
	}
}

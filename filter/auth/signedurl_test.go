package auth_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
)

var (
	urlSecret   = []byte("0123456789abcdef0123456789abcdef")
	otherSecret = []byte("fedcba9876543210fedcba9876543210")
	oldSecret   = []byte("an old secret of 32 bytes, or so")
)

func urlKeys() auth.File {
	b64 := base64.StdEncoding.EncodeToString
	return auth.File{Name: "url-keys.yaml", Data: fmt.Appendf(nil, `keys:
  - {id: one, secret: "%s", subject: cdn, roles: [download], claims: {plan: pro}}
  - {id: "2026.11_b-c", secret: "%s"}
  - {id: old, secret: "%s", expires: 2026-11-23T12:00:00Z}
`, b64(urlSecret), b64(otherSecret), b64(oldSecret))}
}

func newSignedURL(t testing.TB, query ...string) *auth.SignedURL {
	t.Helper()
	m, err := auth.NewSignedURL(auth.SignedURLConfig{Keys: urlKeys(), Query: query})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// signSlowly signs as the documentation says, apart from the code that verifies.
func signSlowly(method, base, key, expires string, secret []byte) string {
	u, err := url.Parse(base)
	if err != nil {
		panic(err)
	}
	text := strings.Join([]string{"moat-signed-url-1", method, strings.ToLower(u.Hostname()), u.EscapedPath(), key, expires, u.RawQuery}, "\n") + "\n"
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	sep := "?"
	if u.RawQuery != "" {
		sep = "&"
	}
	return base + sep + "moat_key=" + key + "&moat_expires=" + expires + "&moat_signature=" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func in(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }

// site takes signed URLs below /files, and Bearer beside them below /both.
func signedSite(t testing.TB, query ...string) *filter.Pipeline {
	return pipeline(t, auth.Config{Realm: "api", Methods: []auth.Method{newSignedURL(t, query...), newBearer(t, nil)}, Requirements: []auth.Requirement{
		{Match: under("/files/"), Methods: []string{"signed_url"}},
		{Match: under("/hidden/"), Methods: []string{"signed_url"}, Conceal: true},
		{Match: under("/both/")},
	}})
}

// TestSignedURLs is the table of what a signed URL can be.
func TestSignedURLs(t *testing.T) {
	p := signedSite(t)
	const base = "http://cdn.example.com/files/a%20b.pdf?version=3&raw"
	good := signSlowly("GET", base, "one", in(time.Hour), urlSecret)
	part := func(s, old, new string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("%s has no %s", s, old)
		}
		return strings.Replace(s, old, new, 1)
	}
	signature := good[strings.LastIndexByte(good, '=')+1:]
	for _, tt := range []struct {
		name, method, url string
		status            int
		challenge         string
		detail            string
	}{
		{"good", "GET", good, 200, "", ""},
		{"by another key", "GET", signSlowly("GET", base, "2026.11_b-c", in(time.Hour), otherSecret), 200, "", ""},
		{"without a query", "GET", signSlowly("GET", "http://cdn.example.com/files/x", "one", in(time.Hour), urlSecret), 200, "", ""},
		{"host in capitals, with a port", "GET", signSlowly("GET", "http://CDN.example.com:8080/files/x", "one", in(time.Hour), urlSecret), 200, "", ""},
		{"for a POST", "POST", signSlowly("POST", base, "one", in(time.Hour), urlSecret), 200, "", ""},
		{"in its last second", "GET", signSlowly("GET", base, "one", in(time.Second), urlSecret), 200, "", ""},
		{"of seven days", "GET", signSlowly("GET", base, "one", in(7*24*time.Hour), urlSecret), 200, "", ""},

		{"no signature", "GET", base, 403, "", ""},
		{"an empty signature", "GET", base + "&moat_signature=", 403, "", ""},
		{"a signature in another one's value", "GET", base + "&x=moat_signature=abc", 403, "", ""},
		{"key and expiry alone", "GET", base + "&moat_key=one&moat_expires=" + in(time.Hour), 403, "", ""},
		{"no signature, and Bearer is taken", "GET", "http://cdn.example.com/both/x", 401, "Bearer", ""},

		{"expired now", "GET", signSlowly("GET", base, "one", in(0), urlSecret), 403, "", "signed_url: URL expired"},
		{"expired", "GET", signSlowly("GET", base, "one", in(-time.Hour), urlSecret), 403, "", "signed_url: URL expired"},
		{"expired, and Bearer is taken", "GET", signSlowly("GET", "http://cdn.example.com/both/x", "one", in(-time.Hour), urlSecret), 403, "", "signed_url: URL expired"},
		{"expired, concealed", "GET", signSlowly("GET", "http://cdn.example.com/hidden/x", "one", in(-time.Hour), urlSecret), 404, "", "signed_url: URL expired"},
		{"of more than seven days", "GET", signSlowly("GET", base, "one", in(7*24*time.Hour+time.Second), urlSecret), 403, "", "signed_url: URL expires too far in the future"},
		{"expiry moved", "GET", part(good, "moat_expires="+in(time.Hour), "moat_expires="+in(2*time.Hour)), 403, "", "signed_url: signature does not verify"},
		{"expiry with a leading zero", "GET", signSlowly("GET", base, "one", "0"+in(time.Hour), urlSecret), 403, "", "signed_url: expiry not readable"},
		{"expiry with a sign", "GET", signSlowly("GET", base, "one", "+"+in(time.Hour), urlSecret), 403, "", "signed_url: expiry not readable"},
		{"expiry in words", "GET", signSlowly("GET", base, "one", "tomorrow", urlSecret), 403, "", "signed_url: expiry not readable"},
		{"expiry out of range", "GET", signSlowly("GET", base, "one", strings.Repeat("9", 30), urlSecret), 403, "", "signed_url: expiry not readable"},

		{"another method", "POST", good, 403, "", "signed_url: signature does not verify"},
		{"HEAD for a GET", "HEAD", good, 403, "", "signed_url: signature does not verify"},
		{"another path", "GET", part(good, "a%20b.pdf", "c.pdf"), 403, "", "signed_url: signature does not verify"},
		{"the path in another writing", "GET", part(good, "a%20b.pdf", "%61%20b.pdf"), 403, "", "signed_url: signature does not verify"},
		{"a dot segment", "GET", part(good, "/files/a", "/files/x/../a"), 403, "", "signed_url: signature does not verify"},
		{"another host", "GET", part(good, "cdn.example.com", "www.example.com"), 403, "", "signed_url: signature does not verify"},
		{"a parameter changed", "GET", part(good, "version=3", "version=4"), 403, "", "signed_url: signature does not verify"},
		{"a parameter added", "GET", good + "&admin=1", 403, "", "signed_url: signature does not verify"},
		{"a parameter added in front", "GET", part(good, "?", "?admin=1&"), 403, "", "signed_url: signature does not verify"},
		{"a parameter taken away", "GET", part(good, "&raw", ""), 403, "", "signed_url: signature does not verify"},
		{"parameters in another order", "GET", part(good, "version=3&raw", "raw&version=3"), 403, "", "signed_url: signature does not verify"},
		{"the key of another owner", "GET", part(good, "moat_key=one", "moat_key=2026.11_b-c"), 403, "", "signed_url: signature does not verify"},
		{"an unknown key", "GET", part(good, "moat_key=one", "moat_key=two"), 403, "", "signed_url: unknown key"},
		{"a key id that climbs", "GET", part(good, "moat_key=one", "moat_key=../one"), 403, "", "signed_url: unknown key"},
		{"a key that is expired", "GET", signSlowly("GET", base, "old", in(time.Hour), oldSecret), 403, "", "signed_url: key expired"},
		{"an empty secret", "GET", signSlowly("GET", base, "one", in(time.Hour), nil), 403, "", "signed_url: signature does not verify"},
		{"a signature cut short", "GET", good[:len(good)-1], 403, "", "signed_url: signature does not verify"},
		{"a signature too long", "GET", good + "A", 403, "", "signed_url: signature does not verify"},
		{"a signature with padding", "GET", good + "=", 403, "", "signed_url: signature does not verify"},
		{"a signature of nulls", "GET", part(good, signature, strings.Repeat("A", 43)), 403, "", "signed_url: signature does not verify"},
		{"a signature in hexadecimal", "GET", part(good, signature, strings.Repeat("0", 64)), 403, "", "signed_url: signature does not verify"},
		{"bits that stand for nothing", "GET", good[:len(good)-1] + "_", 403, "", "signed_url: signature does not verify"},

		{"signature twice", "GET", good + "&moat_signature=" + signature, 400, "", "signed_url: malformed credentials"},
		{"expiry twice", "GET", good + "&moat_expires=" + in(2*time.Hour), 400, "", "signed_url: malformed credentials"},
		{"key twice", "GET", part(good, "moat_key=one", "moat_key=one&moat_key=one"), 400, "", "signed_url: malformed credentials"},
		{"no key", "GET", part(good, "moat_key=one&", ""), 400, "", "signed_url: malformed credentials"},
		{"no expiry", "GET", part(good, "moat_expires="+in(time.Hour)+"&", ""), 400, "", "signed_url: malformed credentials"},
		{"9 KB of query", "GET", good + "&" + strings.Repeat("a", 9<<10), 400, "", "signed_url: malformed credentials"},
		{"malformed, and Bearer is taken", "GET", "http://cdn.example.com/both/x?moat_signature=x", 400, "Bearer", "signed_url: malformed credentials"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hr := httptest.NewRequest(tt.method, tt.url, nil)
			d, _, err := decide(p, hr)
			if err != nil {
				t.Fatal(err)
			}
			w := serve(t, p, hr)
			if w.Code != tt.status || d.Detail != tt.detail || !strings.HasPrefix(w.Header().Get("Www-Authenticate"), tt.challenge) || tt.challenge == "" && len(w.Header()["Www-Authenticate"]) > 0 {
				t.Errorf("got %d %v %q, want %d %q", w.Code, w.Header(), d.Detail, tt.status, tt.detail)
			}
		})
	}
}

// TestSignedURLCoversWhatIsListed holds what may be added to a URL where the policy
// lists parameters, and what may not.
func TestSignedURLCoversWhatIsListed(t *testing.T) {
	p := signedSite(t, "id", "size")
	base, err := url.Parse("http://cdn.example.com/files/x?size=1&utm=a&id=7")
	if err != nil {
		t.Fatal(err)
	}
	good := auth.SignURL(base, "GET", "one", urlSecret, now.Add(time.Hour), []string{"id", "size"}).String()
	for name, tt := range map[string]struct {
		url    string
		status int
	}{
		"as it is":                          {good, 200},
		"one that is not listed is added":   {good + "&x=y", 200},
		"one that is not listed is changed": {strings.Replace(good, "utm=a", "utm=b", 1), 200},
		"one that is not listed goes":       {strings.Replace(good, "&utm=a", "", 1), 200},
		"another order":                     {strings.Replace(good, "size=1&utm=a&id=7", "id=7&size=1", 1), 200},
		"changed":                           {strings.Replace(good, "id=7", "id=8", 1), 403},
		"added a second time":               {good + "&id=7", 403},
		"added in another writing":          {good + "&%69d=8", 403},
		"added behind a semicolon":          {good + "&x=y;id=8", 403},
		"a name that cannot be decoded":     {good + "&%zz=8", 403},
		"taken away":                        {strings.Replace(good, "&id=7", "", 1), 403},
	} {
		if w := serve(t, p, httptest.NewRequest("GET", tt.url, nil)); w.Code != tt.status {
			t.Errorf("%s: %d, want %d", name, w.Code, tt.status)
		}
	}
}

// TestSignURLAgainstASlowOne holds what signs against what the documentation says, on
// random URLs, and that a change of one byte is noticed.
func TestSignURLAgainstASlowOne(t *testing.T) {
	m := newSignedURL(t)
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(n int, letters string) string {
		b := make([]byte, random.IntN(n))
		for i := range b {
			b[i] = letters[random.IntN(len(letters))]
		}
		return string(b)
	}
	for range 2000 {
		base := "http://cdn.example.com/" + url.PathEscape(pick(8, "ab/ %.;~")) + "?" + pick(12, "a=&;+b")
		u, err := url.Parse(base)
		if err != nil {
			continue
		}
		at := now.Add(time.Duration(random.IntN(1000)+1) * time.Second)
		want := signSlowly("GET", u.String(), "one", fmt.Sprint(at.Unix()), urlSecret)
		got := auth.SignURL(u, "GET", "one", urlSecret, at, nil)
		if got.Query().Get("moat_signature") == "" || !strings.HasSuffix(want, "&moat_signature="+got.RawQuery[strings.LastIndexByte(got.RawQuery, '=')+1:]) {
			t.Fatalf("%s\ngot  %s\nwant %s", base, got, want)
		}
		if err := verifySigned(t, m, got.String()); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		s := []byte(got.RequestURI())
		i := 1 + random.IntN(len(s)-1)
		s[i] ^= byte(1 + random.IntN(3))
		if changed, err := url.ParseRequestURI(string(s)); err == nil && changed.RequestURI() != got.RequestURI() && changed.RawQuery != "" {
			if err := verifySigned(t, m, "http://cdn.example.com"+changed.RequestURI()); err == nil {
				t.Fatalf("%s passes for %s", changed, got)
			}
		}
	}
}

func verifySigned(t testing.TB, m *auth.SignedURL, target string) error {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	r := filter.NewRequest(&http.Request{Method: "GET", URL: u, Host: u.Host, Header: http.Header{}, RemoteAddr: "192.0.2.1:1"}, now)
	defer r.Release()
	credential, found := m.Find(r)
	if found != auth.Present {
		return fmt.Errorf("found %d", found)
	}
	_, err = m.Verify(r, credential)
	return err
}

func TestSignedURLIdentity(t *testing.T) {
	p := signedSite(t)
	_, who, err := decide(p, httptest.NewRequest("GET", signSlowly("GET", "http://a/files/x", "one", in(time.Hour), urlSecret), nil))
	if err != nil || who == nil || who.Subject != "cdn" || who.Method != "signed_url" || len(who.Roles) != 1 || who.Claims["plan"] != "pro" {
		t.Errorf("%+v, %v", who, err)
	}
	r := filter.NewRequest(httptest.NewRequest("GET", signSlowly("GET", "http://a/files/x", "one", in(time.Hour), urlSecret), nil), now)
	defer r.Release()
	m := newSignedURL(t)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := m.Verify(r, ""); err != nil {
			t.Fatal(err)
		}
	}); n != 0 && !testing.Short() {
		t.Errorf("%v allocations", n)
	}
}

func TestNewSignedURLRefuses(t *testing.T) {
	for want, c := range map[string]auth.SignedURLConfig{
		`signed_url: "moat_key" is no query parameter to list`: {Keys: urlKeys(), Query: []string{"moat_key"}},
		`signed_url: "" is no query parameter to list`:         {Keys: urlKeys(), Query: []string{""}},
		`signed_url: the query parameter "a" is there twice`:   {Keys: urlKeys(), Query: []string{"a", "a"}},
		"signed_url: a negative time":                          {Keys: urlKeys(), MaxLifetime: -1},
	} {
		if m, err := auth.NewSignedURL(c); m != nil || errorText(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// FuzzSignedURL holds that no query but a signed one lets pass.
func FuzzSignedURL(f *testing.F) {
	all, listed := newSignedURL(f), newSignedURL(f, "a", "b")
	good := signSlowly("GET", "http://x/files?a=1&b=2", "one", in(time.Hour), urlSecret)
	good = good[strings.IndexByte(good, '?')+1:]
	for _, s := range []string{good, good + "&a=1", "moat_signature=", "moat_key=one&moat_expires=1&moat_signature=AAAA", "a;b&%zz&\x00", strings.ReplaceAll(good, "moat_", "moat%5f")} {
		f.Add(s, "GET")
	}
	f.Fuzz(func(t *testing.T, query, method string) {
		r := filter.NewRequest(&http.Request{Method: method, URL: &url.URL{Path: "/files", RawQuery: query}, Host: "x", Header: http.Header{}, RemoteAddr: "192.0.2.1:1"}, now)
		defer r.Release()
		for _, m := range []*auth.SignedURL{all, listed} {
			credential, found := m.Find(r)
			if found != auth.Present {
				continue
			}
			who, err := m.Verify(r, credential)
			if (who == nil) == (err == nil) {
				t.Fatalf("%q: %+v and %v", query, who, err)
			}
			if who != nil && m == all && (method != "GET" || strings.ReplaceAll(strings.ReplaceAll(query, "moat_signature=&", ""), "&moat_signature=&", "&") != good) {
				t.Fatalf("%s %q passes", method, query)
			}
		}
	})
}

func BenchmarkSignedURL(b *testing.B) {
	m := newSignedURL(b)
	r := filter.NewRequest(httptest.NewRequest("GET", signSlowly("GET", "http://cdn.example.com/files/a%20b.pdf?version=3", "one", in(time.Hour), urlSecret), nil), now)
	defer r.Release()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Verify(r, ""); err != nil {
			b.Fatal(err)
		}
	}
}

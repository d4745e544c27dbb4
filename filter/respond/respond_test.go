package respond

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

var update = flag.Bool("update", false, "write the golden files anew")

// answerTo writes the refusal d to a request and returns status, fields and content.
func answerTo(d filter.Decision, method, accept string) *http.Response {
	r := httptest.NewRequest(method, "/secret?q=%3Cscript%3E", nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	Write(w, r, d)
	return w.Result()
}

// dump writes an answer as it goes over the wire, fields in alphabetical order.
func dump(t testing.TB, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s\n", res.StatusCode, http.StatusText(res.StatusCode))
	for _, name := range slices.Sorted(maps.Keys(res.Header)) {
		for _, v := range res.Header[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, v)
		}
	}
	return b.String() + "\n" + string(body)
}

var (
	tierLimit = &filter.Limit{Tier: "login", Quota: 100, Window: time.Minute, Reset: 29*time.Second + 1}
	bearer    = []string{`Bearer realm="api"`, `Basic realm="api", charset="UTF-8"`}
	noScope   = []string{`Bearer realm="api", error="insufficient_scope", scope="api.read"`}
)

func TestGolden(t *testing.T) {
	rule := filter.Decision{Reason: filter.ReasonRule, Stage: "access", Rule: "drop-942100", Detail: "coraza says <script>"}
	for _, tt := range []struct {
		name   string
		d      filter.Decision
		accept string
		method string
	}{
		{"rule-problem", rule, "application/problem+json, application/json;q=0.9", "GET"},
		{"rule-html", rule, "text/html", "GET"},
		{"rule-text", rule, "text/plain", "GET"},
		{"rule-head", rule, "text/html", "HEAD"},
		{"rule-no-accept", rule, "", "GET"},
		{"zero-decision", filter.Decision{}, "", "GET"},
		{"country-legal", filter.Decision{Reason: filter.ReasonRule, Status: 451}, "text/html", "GET"},
		{"tier", filter.Decision{Reason: filter.ReasonRateLimit, Limit: tierLimit}, "", "GET"},
		{"tier-429", filter.Decision{Reason: filter.ReasonRateLimit, Status: 429, Limit: tierLimit}, "text/html", "GET"},
		{"oversize", filter.Decision{Reason: filter.ReasonOversize}, "text/plain", "POST"},
		{"malformed", filter.Decision{Reason: filter.ReasonMalformed}, "", "GET"},
		{"unavailable", filter.Decision{Reason: filter.ReasonUnavailable}, "text/html", "GET"},
		{"no-credentials", filter.Decision{Verdict: filter.Challenge, Reason: filter.ReasonNoCredentials, Challenges: bearer}, "application/json", "GET"},
		{"malformed-credentials", filter.Decision{Verdict: filter.Challenge, Reason: filter.ReasonMalformed, Status: 400, Challenges: bearer}, "", "GET"},
		{"missing-scope", filter.Decision{Reason: filter.ReasonForbidden, Challenges: noScope}, "", "GET"},
		{"missing-role", filter.Decision{Reason: filter.ReasonForbidden}, "", "GET"},
		{"concealed", filter.Decision{Reason: filter.ReasonConcealed}, "text/html", "GET"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := dump(t, answerTo(tt.d, tt.method, tt.accept))
			file := filepath.Join("testdata", tt.name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestEveryRefusal holds what the contract says of every refusal against every
// reason, status and form.
func TestEveryRefusal(t *testing.T) {
	leaks := regexp.MustCompile(`(?i)<script>|\b9[0-9]{5}\b|coraza|modsecurity|owasp|anomaly|moat|drop-942100`)
	statuses := slices.Sorted(maps.Keys(details))
	for _, reason := range filter.Reasons() {
		for _, status := range append(statuses, 0, 200, 302, 405, 999, -1) {
			for _, accept := range []string{"", "text/html", "text/plain"} {
				d := filter.Decision{Reason: reason, Status: status, Rule: "drop-942100", Detail: "coraza: <script>", Challenges: bearer}
				get, head := answerTo(d, "GET", accept), answerTo(d, "HEAD", accept)
				body, _ := io.ReadAll(get.Body)
				where := fmt.Sprintf("%v, status %d, Accept %q", reason, status, accept)

				if get.StatusCode < 400 || get.StatusCode == 401 {
					t.Errorf("%s: answered with %d", where, get.StatusCode)
				}
				if get.Header.Get("Cache-Control") != "no-store" || get.Header.Get("Vary") != "Accept" || get.Header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%s: header fields %v", where, get.Header)
				}
				if get.Header.Get("Content-Length") != strconv.Itoa(len(body)) || len(bytes.TrimSpace(body)) == 0 || len(body) > 1536 {
					t.Errorf("%s: Content-Length %s of %d bytes", where, get.Header.Get("Content-Length"), len(body))
				}
				if leaks.Match(body) {
					t.Errorf("%s: the content says too much: %s", where, body)
				}
				if challenged := len(get.Header["Www-Authenticate"]) > 0; challenged != (reason == filter.ReasonForbidden && get.StatusCode == 403) {
					t.Errorf("%s: %d with challenges %q", where, get.StatusCode, get.Header["Www-Authenticate"])
				}
				if content, _ := io.ReadAll(head.Body); len(content) != 0 || head.StatusCode != get.StatusCode || !maps.EqualFunc(get.Header, head.Header, slices.Equal) {
					t.Errorf("%s: HEAD: %d %v with %d bytes; GET: %d %v", where, head.StatusCode, head.Header, len(content), get.StatusCode, get.Header)
				}
				if accept == "" {
					var doc struct {
						Type, Title, Detail string
						Status              int
					}
					if err := json.Unmarshal(body, &doc); err != nil || doc.Type != "about:blank" || doc.Status != get.StatusCode || doc.Title != http.StatusText(doc.Status) {
						t.Errorf("%s: problem document %s: %v", where, body, err)
					}
				}
			}
		}
	}
}

func TestChallengedOnlyWithAChallenge(t *testing.T) {
	for _, tt := range []struct {
		name       string
		d          filter.Decision
		status     int
		challenges int
	}{
		{"401 asks", filter.Decision{Verdict: filter.Challenge, Challenges: bearer}, 401, 2},
		{"401 that asks for nothing", filter.Decision{Verdict: filter.Challenge}, 403, 0},
		{"401 by a rule", filter.Decision{Verdict: filter.Block, Status: 401, Challenges: bearer}, 403, 0},
		{"400 of a credential", filter.Decision{Verdict: filter.Challenge, Status: 400, Challenges: bearer}, 400, 2},
		{"400 of a request", filter.Decision{Reason: filter.ReasonMalformed, Challenges: bearer}, 400, 0},
		{"concealed, whatever else it says", filter.Decision{Reason: filter.ReasonConcealed, Status: 403, Challenges: bearer, Limit: tierLimit}, 404, 0},
		{"not a refusal", filter.Allowed(), 503, 0},
		{"no opinion", filter.Next(), 503, 0},
		{"a verdict that there is not", filter.Decision{Verdict: 77}, 503, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := answerTo(tt.d, "GET", "")
			if got := res.Header["Www-Authenticate"]; res.StatusCode != tt.status || len(got) != tt.challenges {
				t.Errorf("got %d with %q, want %d with %d challenges", res.StatusCode, got, tt.status, tt.challenges)
			}
		})
	}
}

// TestConcealedIsNotFound is AZ-7: nothing tells a concealed resource from a
// missing one.
func TestConcealedIsNotFound(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "POST"} {
		for _, accept := range []string{"", "text/html", "text/plain", "application/json"} {
			r := httptest.NewRequest(method, "/", nil)
			r.Header.Set("Accept", accept)
			missing, concealed := httptest.NewRecorder(), httptest.NewRecorder()
			for _, w := range []*httptest.ResponseRecorder{missing, concealed} {
				w.Header().Set("Vary", "Origin")
				w.Header().Set("WWW-Authenticate", "Negotiate")
				w.Header().Set("ETag", `"upstream"`)
			}
			NotFound(missing, r)
			Write(concealed, r, filter.Decision{Reason: filter.ReasonConcealed, Rule: "internal", Challenges: noScope})
			a, b := dump(t, missing.Result()), dump(t, concealed.Result())
			if a != b {
				t.Errorf("%s, Accept %q: missing\n%s\nconcealed\n%s", method, accept, a, b)
			}
			if strings.Contains(a, "Www-Authenticate") || strings.Contains(a, "Etag") {
				t.Errorf("fields of another answer are left:\n%s", a)
			}
		}
	}
}

func TestVaryJoinsWhatIsThere(t *testing.T) {
	for _, tt := range []struct{ before, want []string }{
		{nil, []string{"Accept"}},
		{[]string{"Origin"}, []string{"Origin", "Accept"}},
		{[]string{"Origin, accept"}, []string{"Origin, accept"}},
		{[]string{"Accept-Encoding"}, []string{"Accept-Encoding", "Accept"}},
		{[]string{"*"}, []string{"*"}},
	} {
		h := http.Header{}
		if tt.before != nil {
			h["Vary"] = tt.before
		}
		if AddVary(h); !slices.Equal(h["Vary"], tt.want) {
			t.Errorf("%q: got %q, want %q", tt.before, h["Vary"], tt.want)
		}
	}
}

func TestLimitFields(t *testing.T) {
	for _, tt := range []struct {
		name               string
		limit              filter.Limit
		retry, rate, quota string
	}{
		{"whole seconds", filter.Limit{Tier: "tier", Quota: 100, Window: time.Minute, Reset: 30 * time.Second}, "30", `"tier";r=0;t=30`, `"tier";q=100;w=60`},
		{"rounded up", filter.Limit{Tier: "tier", Quota: 1, Window: 1500 * time.Millisecond, Reset: time.Second + 1}, "2", `"tier";r=0;t=2`, `"tier";q=1;w=2`},
		{"one second at least", filter.Limit{Tier: "tier", Quota: 1, Window: time.Millisecond, Reset: 0}, "1", `"tier";r=0;t=1`, `"tier";q=1;w=1`},
		{"negative values", filter.Limit{Tier: "tier", Quota: -1, Window: -1, Remaining: -5, Reset: -time.Hour}, "1", `"tier";r=0;t=1`, `"tier";q=0;w=1`},
		{"escapes", filter.Limit{Tier: `a"b\c`, Quota: 1, Window: time.Second, Reset: time.Second}, "1", `"a\"b\\c";r=0;t=1`, `"a\"b\\c";q=1;w=1`},
		{"bytes that a string item cannot hold", filter.Limit{Tier: "ü\r\n", Quota: 1, Window: time.Second, Reset: time.Second}, "1", `"????";r=0;t=1`, `"????";q=1;w=1`},
		{"no name", filter.Limit{Quota: 1, Window: time.Second, Reset: time.Second}, "1", `"default";r=0;t=1`, `"default";q=1;w=1`},
		{"longest time", filter.Limit{Tier: "t", Quota: 1, Window: 1<<63 - 1, Reset: 1<<63 - 1}, "9223372037", `"t";r=0;t=9223372037`, `"t";q=1;w=9223372037`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{}
			setLimit(h, &tt.limit)
			got := []string{h.Get("Retry-After"), h.Get("RateLimit"), h.Get("RateLimit-Policy")}
			if want := []string{tt.retry, tt.rate, tt.quota}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestOverTheWire holds what only a real server can break: the length of HEAD,
// and a final answer to a client that waits for 100 (Continue).
func TestOverTheWire(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Write(w, r, filter.Decision{Verdict: filter.Challenge, Challenges: bearer})
	}))
	defer srv.Close()

	res, err := srv.Client().Head(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 401 || res.ContentLength != int64(len(standard.bodies[401][ProblemJSON])) {
		t.Errorf("HEAD: %d with length %d", res.StatusCode, res.ContentLength)
	}

	req, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, strings.NewReader(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Expect", "100-continue")
	if res, err = srv.Client().Do(req); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != 401 || len(res.Header["Www-Authenticate"]) != 2 || len(body) == 0 {
		t.Errorf("Expect: %d %v %q %v", res.StatusCode, res.Header, body, err)
	}
}

func TestProfiles(t *testing.T) {
	for _, name := range []string{"", "default"} {
		if p, err := New(name); err != nil || p == nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if p, err := New("nginx"); err == nil || p != nil || err.Error() != `no response profile "nginx"; there is: default` {
		t.Errorf("got %v, %v", p, err)
	}
	for status, want := range map[int]bool{403: true, 404: true, 429: true, 451: true, 503: true, 401: false, 405: false, 407: false, 200: false, 0: false} {
		if got := Supports(status); got != want {
			t.Errorf("Supports(%d) = %v", status, got)
		}
	}
}

// TestSetHeader holds that a host which writes the content itself sends the fields
// that Write would send, but for those of the content.
func TestSetHeader(t *testing.T) {
	for name, d := range map[string]filter.Decision{
		"rule":          {Reason: filter.ReasonRule},
		"tier":          {Reason: filter.ReasonRateLimit, Limit: tierLimit, Status: 429},
		"challenge":     {Verdict: filter.Challenge, Challenges: bearer},
		"missing scope": {Reason: filter.ReasonForbidden, Challenges: bearer},
		"unavailable":   {Reason: filter.ReasonUnavailable},
	} {
		w := httptest.NewRecorder()
		Write(w, httptest.NewRequest("GET", "/", nil), d)
		h := http.Header{"Etag": {`"of a page"`}, "Www-Authenticate": {"of an outer layer"}}
		if status := SetHeader(h, d); status != w.Code {
			t.Errorf("%s: status %d, Write answers %d", name, status, w.Code)
		}
		want := w.Header()
		for _, field := range []string{"Vary", "X-Content-Type-Options", "Content-Type", "Content-Length"} {
			want.Del(field)
		}
		if !reflect.DeepEqual(h, want) {
			t.Errorf("%s: header %v, want %v", name, h, want)
		}
	}
}

func TestZeroResponderRefusesWithoutContent(t *testing.T) {
	w := httptest.NewRecorder()
	new(Responder).Write(w, httptest.NewRequest("GET", "/", nil), filter.Decision{})
	if w.Code != 403 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "0" {
		t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
	}
}

func BenchmarkWrite(b *testing.B) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	for _, bb := range []struct {
		name string
		d    filter.Decision
	}{
		{"rule", filter.Decision{Reason: filter.ReasonRule}},
		{"tier", filter.Decision{Reason: filter.ReasonRateLimit, Limit: tierLimit}},
		{"challenge", filter.Decision{Verdict: filter.Challenge, Challenges: bearer}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			w := &discard{header: http.Header{}}
			for b.Loop() {
				clear(w.header)
				Write(w, r, bb.d)
			}
		})
	}
}

// discard is a response writer that keeps nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

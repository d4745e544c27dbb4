package profile

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules"
)

var update = flag.Bool("update", false, "write the expected answers anew")

var (
	asks    = []string{`Bearer realm="api"`, `Basic realm="api", charset="UTF-8"`}
	badOnes = []string{`Bearer realm="api", error="invalid_token"`}
	scopes  = []string{`Bearer realm="api", error="insufficient_scope", scope="api.read"`}
	tier    = &filter.Limit{Tier: "login", Quota: 100, Window: time.Minute, Reset: 29*time.Second + 1}
)

// refusals has a decision for each cause.
var refusals = [causeCount]filter.Decision{
	NoCredentials:        {Verdict: filter.Challenge, Reason: filter.ReasonNoCredentials, Challenges: asks},
	BadCredentials:       {Verdict: filter.Challenge, Reason: filter.ReasonBadCredentials, Challenges: badOnes},
	MalformedCredentials: {Verdict: filter.Challenge, Reason: filter.ReasonMalformed, Status: 400, Challenges: badOnes},
	Forbidden:            {Reason: filter.ReasonForbidden},
	InsufficientScope:    {Reason: filter.ReasonForbidden, Challenges: scopes},
	Concealed:            {Reason: filter.ReasonConcealed},
	Rule:                 {Reason: filter.ReasonRule, Rule: "drop-942100", Detail: "coraza"},
	Payload:              {Reason: filter.ReasonPayload, Rule: "942100", Detail: "coraza: <script>"},
	RateLimit:            {Reason: filter.ReasonRateLimit, Limit: tier},
	Oversize:             {Reason: filter.ReasonOversize},
	Malformed:            {Reason: filter.ReasonMalformed},
	Unavailable:          {Reason: filter.ReasonUnavailable},
}

func ask(p *Profile, d filter.Decision, method, accept string) *http.Response {
	r := httptest.NewRequest(method, "/secret?q=%3Cscript%3E", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	w.Header().Set("RateLimit", `"other";r=1`)
	p.Write(w, r, d)
	return w.Result()
}

// volatile are the numbers of an answer that are new each time.
var volatile = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|[0-9A-Za-z+/]{75}=|\b(req_)?([0-9a-f]{16}|[0-9A-F]{16})\b|\b1[0-9]{9}\b`)

func dump(t *testing.T, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, res.StatusCode)
	for _, name := range slices.Sorted(maps.Keys(res.Header)) {
		for _, v := range res.Header[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, v)
		}
	}
	return volatile.ReplaceAllString(b.String()+"\n"+string(body), "ID")
}

func byName(t testing.TB, name string) *Profile {
	t.Helper()
	p, ok := ByName(name)
	if !ok {
		data, err := files.ReadFile("profiles/" + name + ".yaml")
		_, readErr := Read(name, data)
		t.Fatal(name, err, readErr)
	}
	return p
}

// TestGolden holds every answer of every profile against testdata/NAME.golden.
func TestGolden(t *testing.T) {
	if want := []string{"aws-waf", "cloudflare", "express", "express-jwt", "github", "oauth2-jwt-bearer", "s3", "stripe"}; !slices.Equal(Names(), want) {
		t.Fatalf("profiles %q, want %q", Names(), want)
	}
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			p := byName(t, name)
			var got strings.Builder
			for c, d := range refusals {
				fmt.Fprintf(&got, "=== %s\n%s\n", causeNames[c], dump(t, ask(p, d, "GET", "application/json")))
			}
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
		})
	}
}

// TestEveryAnswer holds what no profile can change.
func TestEveryAnswer(t *testing.T) {
	leaks := regexp.MustCompile(`(?i)<script>|\b9[0-9]{5}\b|coraza|modsecurity|owasp|anomaly|moat|drop-942100`)
	for _, name := range Names() {
		for _, strict := range []bool{false, true} {
			p := byName(t, name)
			if strict {
				p = p.Strict()
			}
			for c, d := range refusals {
				for _, accept := range []string{"text/html", "application/json", ""} {
					where := fmt.Sprintf("%s, strict %v, %s, Accept %q", name, strict, causeNames[c], accept)
					get, head := ask(p, d, "GET", accept), ask(p, d, "HEAD", accept)
					body, _ := io.ReadAll(get.Body)
					none, _ := io.ReadAll(head.Body)
					challenges := get.Header["Www-Authenticate"]
					if get.StatusCode < 400 || get.Header.Get("Cache-Control") != "no-store" || get.Header.Get("Content-Length") != fmt.Sprint(len(body)) || len(body) == 0 {
						t.Errorf("%s: %d %v", where, get.StatusCode, get.Header)
					}
					if head.StatusCode != get.StatusCode || len(none) != 0 || head.Header.Get("Content-Length") != get.Header.Get("Content-Length") {
						t.Errorf("%s: HEAD %d %v with %d bytes", where, head.StatusCode, head.Header, len(none))
					}
					if leaks.Match(body) {
						t.Errorf("%s: says too much: %s", where, body)
					}
					if strict && (d.Verdict == filter.Challenge || Cause(c) == InsufficientScope) && (get.StatusCode != d.StatusCode() || !slices.Equal(challenges, d.Challenges)) {
						t.Errorf("%s: %d with %q", where, get.StatusCode, challenges)
					}
					if d.Verdict != filter.Challenge && Cause(c) != InsufficientScope && len(challenges) > 0 {
						t.Errorf("%s: challenges %q", where, challenges)
					}
					if (get.Header.Get("Retry-After") != "") != (Cause(c) == RateLimit) {
						t.Errorf("%s: Retry-After %q", where, get.Header.Get("Retry-After"))
					}
					switch media := get.Header.Get("Content-Type"); {
					case strings.HasPrefix(media, "application/json"):
						if !json.Valid(body) {
							t.Errorf("%s: no JSON: %s", where, body)
						}
					case strings.HasPrefix(media, "application/xml"):
						if err := xml.Unmarshal(body, new(struct{ Code string })); err != nil {
							t.Errorf("%s: %v: %s", where, err, body)
						}
					}
				}
			}
		}
	}
}

// TestTable holds the cells of the table of other systems that give a whole answer.
func TestTable(t *testing.T) {
	for _, tt := range []struct {
		profile string
		cause   Cause
		status  int
		field   string // name: value
		body    string
	}{
		{"github", NoCredentials, 401, "", `{"message":"Requires authentication","documentation_url":"https://docs.github.com/rest","status":"401"}`},
		{"github", BadCredentials, 401, "", `{"message":"Bad credentials","documentation_url":"https://docs.github.com/rest","status":"401"}`},
		{"github", RateLimit, 403, "X-Ratelimit-Remaining: 0", ""},
		{"github", RateLimit, 403, "X-Ratelimit-Limit: 100", ""},
		{"stripe", NoCredentials, 401, `Www-Authenticate: Basic realm="Stripe"`, ""},
		{"stripe", RateLimit, 429, "Stripe-Rate-Limited-Reason: global-rate", ""},
		{"s3", NoCredentials, 403, "Content-Type: application/xml", ""},
		{"s3", RateLimit, 503, "Retry-After: 30", ""},
		{"express", NoCredentials, 401, `Www-Authenticate: Bearer realm="api"`, "Unauthorized"},
		{"express", InsufficientScope, 403, `Www-Authenticate: Bearer realm="api", error="insufficient_scope", scope="api.read"`, "Forbidden"},
		{"express", RateLimit, 429, "X-Ratelimit-Remaining: 0", "Too many requests, please try again later."},
		{"express-jwt", NoCredentials, 401, "Content-Type: text/html; charset=utf-8", ""},
		{"oauth2-jwt-bearer", NoCredentials, 401, `Www-Authenticate: Bearer realm="api"`, ""},
		{"oauth2-jwt-bearer", BadCredentials, 401, `Www-Authenticate: Bearer realm="api", error="invalid_token"`, ""},
		{"oauth2-jwt-bearer", MalformedCredentials, 400, "", ""},
		{"oauth2-jwt-bearer", InsufficientScope, 403, `Www-Authenticate: Bearer realm="api", error="insufficient_scope", scope="api.read"`, ""},
		{"cloudflare", Rule, 403, "Server: cloudflare", "error code: 1020"},
		{"cloudflare", RateLimit, 429, "Retry-After: 30", "error code: 1015"},
		{"aws-waf", NoCredentials, 403, "X-Amzn-Errortype: MissingAuthenticationTokenException", `{"message":"Missing Authentication Token"}`},
		{"aws-waf", BadCredentials, 401, "", `{"message":"Unauthorized"}`},
		{"aws-waf", Payload, 403, "X-Amzn-Errortype: ForbiddenException", `{"message":"Forbidden"}`},
	} {
		res := ask(byName(t, tt.profile), refusals[tt.cause], "GET", "application/json")
		body, _ := io.ReadAll(res.Body)
		name, value, _ := strings.Cut(tt.field, ": ")
		if res.StatusCode != tt.status || tt.body != "" && string(body) != tt.body || name != "" && !slices.Contains(res.Header[name], value) {
			t.Errorf("%s, %s: %d %v %s", tt.profile, causeNames[tt.cause], res.StatusCode, res.Header, body)
		}
	}
	for cause, want := range map[Cause]string{NoCredentials: "UnauthorizedError: No authorization token was found", BadCredentials: "UnauthorizedError: invalid token"} {
		res := ask(byName(t, "express-jwt"), refusals[cause], "GET", "application/json")
		if body, _ := io.ReadAll(res.Body); !strings.Contains(string(body), want) || len(res.Header["Www-Authenticate"]) > 0 {
			t.Errorf("express-jwt: %v %s", res.Header, body)
		}
	}
	if html := ask(byName(t, "cloudflare"), refusals[Payload], "GET", "text/html"); html.Header.Get("Vary") != "Accept" || !strings.HasPrefix(html.Header.Get("Content-Type"), "text/html") {
		t.Errorf("%v", html.Header)
	}
}

// TestConcealedIsNotFound holds that a missing path and a hidden one are told apart
// by nothing but their numbers.
func TestConcealedIsNotFound(t *testing.T) {
	for _, name := range Names() {
		p := byName(t, name)
		r := httptest.NewRequest("GET", "/", nil)
		w := httptest.NewRecorder()
		w.Header().Set("RateLimit", `"other";r=1`)
		p.NotFound(w, r)
		if a, b := dump(t, w.Result()), dump(t, ask(p, refusals[Concealed], "GET", "")); a != b || w.Code != 404 {
			t.Errorf("%s: missing\n%s\nconcealed\n%s", name, a, b)
		}
	}
}

// TestNobodyCanBeAsked holds that a refusal for missing or bad credentials of a kind
// without a challenge is told as such, and is no 401 where that would have to ask.
func TestNobodyCanBeAsked(t *testing.T) {
	for cause, reason := range map[Cause]filter.Reason{NoCredentials: filter.ReasonNoCredentials, BadCredentials: filter.ReasonBadCredentials} {
		d := filter.Decision{Verdict: filter.Block, Reason: reason}
		for _, name := range Names() {
			p := byName(t, name)
			own, strict := ask(p, d, "GET", ""), ask(p.Strict(), d, "GET", "")
			if want := ask(p, refusals[cause], "GET", ""); own.StatusCode != want.StatusCode && own.StatusCode != 403 || own.Header.Get("Content-Length") != want.Header.Get("Content-Length") {
				t.Errorf("%s, %s: %d %v, want %d %v", name, causeNames[cause], own.StatusCode, own.Header, want.StatusCode, want.Header)
			}
			if strict.StatusCode != 403 || len(strict.Header["Www-Authenticate"]) > 0 {
				t.Errorf("%s, %s, strict: %d %v", name, causeNames[cause], strict.StatusCode, strict.Header)
			}
		}
	}
}

func TestLoginAndMistakes(t *testing.T) {
	p := byName(t, "github")
	d := refusals[NoCredentials]
	d.Login = "/login"
	if res := ask(p, d, "GET", "text/html"); res.StatusCode != 302 || res.Header.Get("Location") != "/login" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if res := ask(p, filter.Allowed(), "GET", ""); res.StatusCode != 503 {
		t.Errorf("not a refusal: %d", res.StatusCode)
	}
	if res := ask(new(Profile), refusals[Rule], "GET", ""); res.StatusCode != 403 {
		t.Errorf("zero profile: %d", res.StatusCode)
	}
}

func TestOwnProfile(t *testing.T) {
	data, err := os.ReadFile("testdata/good/own.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Read("own.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cause  Cause
		accept string
		status int
		body   string
	}{
		{NoCredentials, "", 401, `{"code":"login"}`},
		{NoCredentials, "text/html", 401, "<p>Please log in"},
		{Rule, "", 403, `{"code":403,"price":"5 $"}`},
		{Oversize, "", 413, `{"code":413,"price":"5 $"}`},
		{RateLimit, "", 429, `{"wait":30}`},
	} {
		res := ask(p, refusals[tt.cause], "GET", tt.accept)
		if body, _ := io.ReadAll(res.Body); res.StatusCode != tt.status || string(body) != tt.body || res.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %d %v %s", causeNames[tt.cause], res.StatusCode, res.Header, body)
		}
	}
	if _, ok := ByName("nginx"); ok {
		t.Error("there is a profile nginx")
	}
}

func TestBadProfiles(t *testing.T) {
	names, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Read(filepath.Base(name), data)
		var faults rules.Errors
		if p != nil || !errors.As(err, &faults) {
			t.Fatalf("%s: %v", name, err)
		}
		want := strings.TrimSuffix(name, ".yaml") + ".want"
		if *update {
			if err := os.WriteFile(want, []byte(err.Error()+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		message, readErr := os.ReadFile(want)
		if readErr != nil || string(message) != err.Error()+"\n" {
			t.Errorf("%s: got\n%s\nwant\n%s", name, err, message)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range Names() {
		data, err := files.ReadFile("profiles/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("default: {body: '${', status: 401}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Read("p.yaml", data)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v and %v", p, err)
		}
		if p == nil {
			return
		}
		for _, d := range refusals {
			res := ask(p, d, "GET", "text/html")
			if res.StatusCode < 400 || bytes.ContainsAny([]byte(fmt.Sprint(res.Header)), "\r\n") {
				t.Fatalf("%d %v", res.StatusCode, res.Header)
			}
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	for _, name := range Names() {
		p := byName(b, name)
		r := httptest.NewRequest("GET", "/", nil)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Write(httptest.NewRecorder(), r, refusals[Rule])
			}
		})
	}
}

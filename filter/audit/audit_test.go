package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/moatwaf/moat/filter"
)

var update = flag.Bool("update", false, "write testdata/lines.golden.jsonl anew")

var testTime = time.Date(2025, 3, 4, 5, 6, 7, 89, time.FixedZone("CET", 3600))

// locator knows one place for every address.
type locator filter.Location

func (l locator) Locate(netip.Addr) filter.Location { return filter.Location(l) }

// request returns a request as it is after a decision, with the location that
// its client has.
func request(t testing.TB, method, target string, place filter.Location) *filter.Request {
	t.Helper()
	hr := httptest.NewRequest(method, target, nil)
	hr.RemoteAddr = "[::ffff:198.51.100.7]:4711"
	hr.Header.Set("User-Agent", "agent/1 \x1b[31m")
	hr.Header.Set("Authorization", "Bearer secret-token")
	r := filter.NewRequest(hr, testTime)
	t.Cleanup(r.Release)
	filter.NewPipeline(filter.Config{Locator: locator(place)}).Decide(r)
	return r
}

func TestLinesAreGolden(t *testing.T) {
	germany := filter.Location{Country: "DE", ASN: 64500}
	type line struct {
		name     string
		r        *filter.Request
		d        filter.Decision
		err      error
		encoder  lineEncoder
		detected bool
	}
	viaProxy := request(t, "GET", "http://Example.com:8080/admin/panel?token=secret", germany)
	viaProxy.Client = netip.MustParseAddr("2001:db8::1")
	lines := []line{
		{name: "access rule behind a proxy", r: viaProxy,
			d: filter.Decision{Stage: "access", Rule: "embargo", Reason: filter.ReasonRule, Status: 451}},
		{name: "tier", r: request(t, "POST", "/login", filter.Location{}),
			d: filter.Decision{Stage: "tier", Rule: "login", Reason: filter.ReasonRateLimit, Limit: &filter.Limit{Tier: "login", Quota: 5}}},
		{name: "payload", r: request(t, "GET", "/search?q=%3Cscript%3E", germany),
			d: filter.Decision{Stage: "payload", Reason: filter.ReasonPayload, Payload: &filter.Payload{Score: 15, Threshold: 5, Rules: []int{941100, 941110}}}},
		{name: "query and agent on request", r: request(t, "GET", "/search?q=%3Cscript%3E", filter.Location{}), encoder: lineEncoder{query: true, userAgent: true},
			d: filter.Decision{Stage: "payload", Reason: filter.ReasonPayload, Payload: &filter.Payload{Score: 5, Threshold: 5}}},
		{name: "challenge", r: request(t, "GET", "/api/me", filter.Location{}),
			d: filter.Decision{Verdict: filter.Challenge, Stage: "auth", Reason: filter.ReasonBadCredentials, Detail: "token expired", Challenges: []string{`Bearer realm="api"`}}},
		{name: "detected rule", r: request(t, "GET", "/", germany), detected: true,
			d: filter.Decision{Stage: "access", Rule: "no-agent", Reason: filter.ReasonRule}},
		{name: "stage error", r: request(t, "GET", "/", filter.Location{}),
			d:   filter.Decision{Stage: "auth", Reason: filter.ReasonUnavailable},
			err: errors.Join(errors.Join(nil, &filter.StageError{Stage: "access", Err: errors.New("expression: no such key")}), &filter.StageError{Stage: "auth", Err: &filter.PanicError{Value: "Bearer secret-token"}})},
		{name: "control characters", r: request(t, "GET", "/a%0Ab%1B%5B31m%22%5C%7F%E2%80%A8%C2%85%FF", filter.Location{}),
			d: filter.Decision{Stage: "access", Rule: "odd", Reason: filter.ReasonRule}},
		{name: "zero decision", r: request(t, "GET", "/", filter.Location{})},
	}
	var got []byte
	for _, l := range lines {
		written := l.encoder.append(nil, l.r, &l.d, l.err, "policy.yaml", 1234567*time.Nanosecond, l.detected)
		got = append(got, bytes.Replace(written, []byte(l.r.ID()), bytes.Repeat([]byte("0"), 32), 1)...)
	}
	got = appendDropped(got, testTime, 17)
	if bytes.Contains(got, []byte("secret")) {
		t.Errorf("a line holds a secret:\n%s", got)
	}
	golden := filepath.Join("testdata", "lines.golden.jsonl")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.SplitAfter(string(got), "\n"), strings.SplitAfter(string(want), "\n")
	if len(gotLines) != len(wantLines) {
		t.Fatalf("%d lines, want %d", len(gotLines), len(wantLines))
	}
	for i := range gotLines {
		if gotLines[i] != wantLines[i] {
			t.Errorf("line %d\n got %swant %s", i+1, gotLines[i], wantLines[i])
		}
	}
}

func TestLongValuesAreCutAndSaidToBe(t *testing.T) {
	r := request(t, "GET", "/"+strings.Repeat("é", 2000), filter.Location{})
	r.Host = strings.Repeat("h", 5000)
	d := filter.Decision{Detail: strings.Repeat("d", 5000), Payload: &filter.Payload{Rules: make([]int, 1000)}}
	line := lineEncoder{}.append(nil, r, &d, errors.New(strings.Repeat("e", 5000)), "", 0, false)
	if len(line) > 4096 {
		t.Errorf("line of %d bytes", len(line))
	}
	var v struct {
		Path, Host, Detail, Error string
		Rules                     []int
		Truncated                 bool
	}
	if err := json.Unmarshal(line, &v); err != nil {
		t.Fatal(err)
	}
	if !v.Truncated || len(v.Path) > maxPath || len(v.Host) != maxHost || len(v.Detail) != maxDetail || len(v.Error) != maxError || len(v.Rules) != maxRules {
		t.Errorf("path %d, host %d, detail %d, error %d, rules %d, truncated %v",
			len(v.Path), len(v.Host), len(v.Detail), len(v.Error), len(v.Rules), v.Truncated)
	}
	if strings.Contains(v.Path, "\ufffd") {
		t.Errorf("a character was cut in two: %q", v.Path[len(v.Path)-8:])
	}
}

func TestLetThroughIsNoLine(t *testing.T) {
	l := New(LineFunc(func([]byte) error { return nil }), Options{})
	l.Observe(request(t, "GET", "/", filter.Location{}), filter.Allowed(), nil)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Written != 0 || s.Dropped != 0 {
		t.Errorf("%+v, want nothing", s)
	}
}

// FuzzLine holds the encoder against encoding/json: any path, host, method and
// query give one line that decodes to what went in.
func FuzzLine(f *testing.F) {
	f.Add("GET", "example.com", "/", "a=b")
	f.Add("G\x00T", "h\nost", "/\xff\xfe\u2028", "\"}\\")
	f.Add("é", "\xed\xa0\x80", "/\x7f\u0085", "\U0010ffff")
	f.Fuzz(func(t *testing.T, method, host, path, query string) {
		hr := httptest.NewRequest("GET", "/", nil)
		hr.Method, hr.URL.RawQuery = method, query
		r := filter.NewRequest(hr, testTime)
		defer r.Release()
		r.Host, r.Path = host, path
		line := lineEncoder{query: true, userAgent: true}.append(nil, r, &filter.Decision{Detail: path}, errors.New(host), host, 0, false)
		if bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("not one line: %q", line)
		}
		if !utf8.Valid(line) {
			t.Fatalf("not UTF-8: %q", line)
		}
		for _, c := range string(line[:len(line)-1]) {
			if c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u2028' {
				t.Fatalf("control character %U in %q", c, line)
			}
		}
		var v map[string]any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if v["truncated"] == true {
			return
		}
		if path == "" {
			path = "/"
		}
		for key, s := range map[string]string{"method": method, "host": host, "path": path} {
			// The conversion replaces each byte that is no UTF-8, as the encoder does.
			if want := string([]rune(s)); v[key] != want {
				t.Errorf("%s: %q, want %q", key, v[key], want)
			}
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	cases := map[string]filter.Decision{
		"access":  {Stage: "access", Rule: "embargo", Reason: filter.ReasonRule},
		"payload": {Stage: "payload", Reason: filter.ReasonPayload, Payload: &filter.Payload{Score: 15, Threshold: 5, Rules: []int{941100, 941110, 941160, 941390}}},
	}
	for name, d := range cases {
		b.Run(name, func(b *testing.B) {
			l := New(LineFunc(func([]byte) error { return nil }), Options{Policy: func() string { return "policy.yaml" }})
			defer func() { _ = l.Close(b.Context()) }()
			r := request(b, "GET", "/some/ordinary/path/of/a/site", filter.Location{Country: "DE", ASN: 64500})
			r.ID()
			b.ReportAllocs()
			for b.Loop() {
				l.Observe(r, d, nil)
			}
		})
	}
	b.Run("new request each", func(b *testing.B) {
		l := New(LineFunc(func([]byte) error { return nil }), Options{})
		defer func() { _ = l.Close(b.Context()) }()
		hr, _ := http.NewRequest("GET", "http://example.com/some/ordinary/path", nil)
		b.ReportAllocs()
		for b.Loop() {
			r := filter.NewRequest(hr, testTime)
			l.Observe(r, filter.Decision{}, nil)
			r.Release()
		}
	})
	b.Run("queue full", func(b *testing.B) {
		release := make(chan struct{})
		l := New(LineFunc(func([]byte) error { <-release; return nil }), Options{MaxLines: 1})
		r := request(b, "GET", "/", filter.Location{})
		b.ReportAllocs()
		for b.Loop() {
			l.Observe(r, filter.Decision{}, nil)
		}
		close(release)
		_ = l.Close(b.Context())
	})
}

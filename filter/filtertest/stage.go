package filtertest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

// reporter is the part of testing.TB that the checks use, so that the suite can
// be held against stages with faults.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// Stage holds s against what every stage promises (see filter.Stage), on
// requests of many kinds and on more that the caller gives:
//
//   - its name is constant and not empty
//   - it does not panic, on requests without content neither
//   - its decisions are well formed, and refuse or let pass on purpose
//   - it does not change the HTTP request, except that ReadBody replaces the body
//   - the upstream gets the body byte for byte, or its error, and closes the original
//   - Check may be called by many goroutines (run the test with -race)
//   - no goroutine is left behind
//
// It says nothing about what the stage decides. The tests of one package that
// call it must not run in parallel with others, for it counts goroutines.
func Stage(t *testing.T, s filter.Stage, more ...Case) {
	t.Helper()
	cases := append(Cases(), more...)

	// What the stage starts once and keeps is no leak.
	checkCase(t, s, cases[0])
	before := runtime.NumGoroutine()

	t.Run("name", func(t *testing.T) { checkName(t, s) })
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { checkCase(t, s, c) })
	}
	t.Run("without content", func(t *testing.T) { checkEmpty(t, s) })
	t.Run("concurrent", func(t *testing.T) { checkConcurrent(t, s, cases) })
	t.Run("goroutines", func(t *testing.T) { checkGoroutines(t, before, 3*time.Second) })
}

func checkName(t reporter, s filter.Stage) {
	t.Helper()
	if name := s.Name(); name == "" || name != s.Name() {
		t.Errorf("the name %q is empty or not constant", name)
	}
}

// checkCase runs one request through the stage, and then plays the upstream.
func checkCase(t reporter, s filter.Stage, c Case) {
	t.Helper()
	r, body := c.build()
	defer r.Release()
	before := capture(r)

	d, err, ok := check(t, s, r)
	if !ok {
		return
	}
	if err == nil {
		checkDecision(t, s, d)
	}
	for _, e := range r.Detected {
		checkDetected(t, e)
	}
	for _, change := range before.changes(r) {
		t.Errorf("%s: the stage has changed %s", c.Name, change)
	}
	if body != nil {
		body.checkReplay(t, r.HTTP, c.Name)
	}
}

// check calls Check and turns a panic into a fault of the test.
func check(t reporter, s filter.Stage, r *filter.Request) (d filter.Decision, err error, ok bool) {
	t.Helper()
	defer func() {
		if v := recover(); v != nil {
			t.Errorf("Check panics: %v\n%s", v, debug.Stack())
		}
	}()
	d, err = s.Check(r)
	return d, err, true
}

// checkDecision finds a decision that says two things at once, or less than it must.
func checkDecision(t reporter, s filter.Stage, d filter.Decision) {
	t.Helper()
	if d.Stage != "" && d.Stage != s.Name() {
		t.Errorf("the decision names the stage %q, not %q", d.Stage, s.Name())
	}
	switch d.Verdict {
	case filter.Continue, filter.Allow:
		if d.Reason != filter.ReasonNone || d.Status != 0 || d.Challenges != nil {
			t.Errorf("a decision that refuses nothing has a reason, a status or a challenge: %+v", d)
		}
	case filter.Block:
		if d.Reason == filter.ReasonNone {
			t.Errorf("a refusal has no reason: %+v", d)
		}
		if code := d.StatusCode(); code < 400 || code > 599 || code == http.StatusUnauthorized {
			t.Errorf("a refusal has the status %d", code)
		}
	case filter.Challenge:
		if len(d.Challenges) == 0 || d.StatusCode() != http.StatusUnauthorized {
			t.Errorf("a challenge must be 401 with WWW-Authenticate (RFC 9110 section 15.5.2): %+v", d)
		}
	default:
		t.Errorf("the verdict %d is none", d.Verdict)
	}
}

func checkDetected(t reporter, d filter.Decision) {
	t.Helper()
	if d.Stage == "" && d.Rule == "" {
		t.Errorf("a report of detect mode names neither stage nor rule: %+v", d)
	}
}

// checkEmpty gives the stage requests that no host makes, but a fault might.
func checkEmpty(t reporter, s filter.Stage) {
	t.Helper()
	for _, r := range []*filter.Request{new(filter.Request), {HTTP: new(http.Request)}} {
		d, err, ok := check(t, s, r)
		if ok && err == nil {
			checkDecision(t, s, d)
		}
		if ok && err == nil && r.HTTP == nil && d.Verdict == filter.Allow {
			t.Errorf("a request without HTTP is allowed")
		}
	}
}

// checkConcurrent runs every request in many goroutines at once.
func checkConcurrent(t reporter, s filter.Stage, cases []Case) {
	t.Helper()
	const workers = 8
	shared := &lockedReporter{to: t}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range cases {
				checkCase(shared, s, cases[(i+w)%len(cases)])
			}
		})
	}
	wg.Wait()
}

// lockedReporter lets goroutines share a reporter that is not made for it.
type lockedReporter struct {
	mu sync.Mutex
	to reporter
}

func (*lockedReporter) Helper() {}

func (l *lockedReporter) Errorf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to.Errorf(format, args...)
}

// checkGoroutines waits for the number of goroutines to fall to what it was.
func checkGoroutines(t reporter, before int, patience time.Duration) {
	t.Helper()
	// The subtest that asks is one more.
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > before+1 {
		if time.Now().After(deadline) {
			stacks := make([]byte, 64<<10)
			stacks = stacks[:runtime.Stack(stacks, true)]
			t.Errorf("%d goroutines, %d before the test:\n%s", runtime.NumGoroutine(), before+1, stacks)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Case is a kind of request.
type Case struct {
	// Name tells what is special about it.
	Name string
	// New makes a fresh request. It may be called by many goroutines.
	New func() *filter.Request
	// Body is what the client sends; nil for none.
	Body []byte
	// BodyErr is the error in which the body ends; nil for its regular end.
	BodyErr error
}

// build makes the request and puts a watched body into it.
func (c Case) build() (*filter.Request, *watchedBody) {
	r := c.New()
	if c.Body == nil && c.BodyErr == nil {
		return r, nil
	}
	b := &watchedBody{content: c.Body, end: c.BodyErr}
	r.HTTP.Body = b
	return r, b
}

var errBroken = errors.New("the client has gone")

// Cases returns the requests that every stage is held against.
func Cases() []Case {
	get := func(target string, opts ...Option) func() *filter.Request {
		return func() *filter.Request { return Get(target, opts...) }
	}
	post := func(contentType string, length int64, opts ...Option) func() *filter.Request {
		opts = append([]Option{Header("Content-Type", contentType), func(b *build) { b.http.ContentLength = length }}, opts...)
		return func() *filter.Request { return New(http.MethodPost, "/submit?a=1", nil, opts...) }
	}
	text := func(s string) []byte { return []byte(s) }
	large := make([]byte, 2<<20)
	for i := range large {
		large[i] = "0123456789abcdef"[i%16]
	}
	form := text("user=ann&text=hello+world")
	cancelled := func() *filter.Request {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return Get("/", func(b *build) { b.http = b.http.WithContext(ctx) })
	}
	return []Case{
		{Name: "get", New: get("/index.html?q=1", Header("User-Agent", "Mozilla/5.0"), Header("Accept", "*/*"))},
		{Name: "head", New: func() *filter.Request { return New(http.MethodHead, "/", nil) }},
		{Name: "options asterisk", New: func() *filter.Request { return New(http.MethodOptions, "*", nil) }},
		{Name: "unknown method", New: func() *filter.Request { return New("BREW", "/pot", nil) }},
		{Name: "ambiguous path", New: get(`/public/..;/%2e%2e%2fadmin%5c..//x`)},
		{Name: "IPv6 client with place", New: get("/", From("2001:db8::1"), In("DE", 64500), Host("[2001:db8::2]:8443"))},
		{Name: "client without address", New: func() *filter.Request {
			return Get("/", func(b *build) { b.http.RemoteAddr = "@" })
		}},
		{Name: "no host, no header", New: get("/", Host(""), func(b *build) { b.http.Header = nil })},
		{Name: "known caller", New: get("/", As(&filter.Identity{Subject: "ann", Method: "bearer", Claims: map[string]any{"plan": "pro"}}))},
		{Name: "wrong credentials", New: get("/", Header("Authorization", "Bearer x.y.z"), Header("Cookie", "sid=1; =; \xff"))},
		{Name: "repeated and strange header", New: get("/", Header("X-A", "1"), Header("X-A", "2"), Header("Accept", ";;;,,"), Header("Content-Length", "9"))},
		{Name: "websocket", New: get("/ws", Header("Connection", "Upgrade"), Header("Upgrade", "websocket"))},
		{Name: "preflight", New: func() *filter.Request {
			return New(http.MethodOptions, "/api", nil, Header("Origin", "https://app.example.com"), Header("Access-Control-Request-Method", "PUT"))
		}},
		{Name: "cancelled", New: cancelled},
		{Name: "form", New: post("application/x-www-form-urlencoded", int64(len(form))), Body: form},
		{Name: "form, chunked", New: post("application/x-www-form-urlencoded", -1, Chunked()), Body: form},
		{Name: "JSON", New: post("application/json", 13), Body: text(`{"a":[1,"b"]}`)},
		{Name: "broken JSON", New: post("application/json; charset=utf-8", 7), Body: text(`{"a":[1`)},
		{Name: "broken multipart", New: post("multipart/form-data; boundary=b", -1, Chunked()), Body: text("--b\r\nContent-Disposition: form-data; name=\"a\r\n\r\n1\r\n--b")},
		{Name: "XML", New: post("text/xml", 19), Body: text(`<a><b>1</b></a><!--`)},
		{Name: "binary without type", New: post("", 5), Body: []byte{0, 0xFF, '\r', '\n', 0x1A}},
		{Name: "empty body, chunked", New: post("text/plain", -1, Chunked()), Body: []byte{}},
		{Name: "large body", New: post("application/x-www-form-urlencoded", int64(len(large))), Body: large},
		{Name: "large body, chunked", New: post("application/octet-stream", -1, Chunked()), Body: large},
		{Name: "body that breaks off", New: post("application/json", 100), Body: text(`{"a":`), BodyErr: errBroken},
		{Name: "body that breaks at once", New: post("application/x-www-form-urlencoded", 100), BodyErr: errBroken},
		{Name: "body of more than was announced", New: post("text/plain", 3), Body: text("0123456789")},
		{Name: "long query", New: get("/?" + fmt.Sprintf("%0*d", 6000, 1))},
	}
}

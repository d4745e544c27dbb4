package waf

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

// testTime is the time of every request in tests.
var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// mustNew returns a stage that the test closes.
func mustNew(tb testing.TB, c Config) *Stage {
	tb.Helper()
	s, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// ready is the stage of the ready policy, loaded once.
var ready = sync.OnceValues(func() (*Stage, error) { return New(Config{}) })

func readyStage(tb testing.TB) *Stage {
	tb.Helper()
	s, err := ready()
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// newHTTP returns a request as a browser sends it, with what net/http's server
// would set. header is "Name: value" pairs.
func newHTTP(method, target, body string, header ...string) *http.Request {
	var src io.Reader
	if body != "" {
		src = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, src)
	r.Host = "shop.example.com"
	r.RemoteAddr = "198.51.100.7:40000"
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36")
	r.Header.Set("Accept", "*/*")
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// check runs one request through a stage. A body that was read must still be
// there whole afterwards.
func check(tb testing.TB, s *Stage, hr *http.Request) filter.Decision {
	tb.Helper()
	r := filter.NewRequest(hr, testTime)
	defer r.Release()
	d, err := s.Check(r)
	if err != nil {
		tb.Fatalf("%s %s: %v", hr.Method, hr.URL, err)
	}
	return d
}

// spyBody is a body that tells whether anybody read it.
type spyBody struct {
	io.Reader
	reads int
}

func (b *spyBody) Read(p []byte) (int, error) {
	b.reads++
	return b.Reader.Read(p)
}

func (b *spyBody) Close() error { return nil }

func spy(content []byte) *spyBody { return &spyBody{Reader: bytes.NewReader(content)} }

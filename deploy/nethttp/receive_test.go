package nethttp

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

// answers sends bytes on a connection and returns the status lines that come back
// until the server closes it or is silent for a while.
func answers(t *testing.T, s *httptest.Server, sent string, patience time.Duration) (lines []string, closed bool) {
	t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { _, _ = io.WriteString(c, sent) }() // the server may not take all of it
	in := bufio.NewReader(c)
	for {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			timeout, ok := err.(net.Error)
			return lines, !ok || !timeout.Timeout()
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Logf("reading an answer: %v", err)
		}
		lines = append(lines, res.Status)
	}
}

// TestRestOfABodyIsNoRequest sends bodies that consist of requests to an upstream
// that answers early and closes the body, as a reverse proxy does.
func TestRestOfABodyIsNoRequest(t *testing.T) {
	var reached atomic.Int64
	s := server(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/smuggled" {
			reached.Add(1)
			return
		}
		_, _ = io.CopyN(io.Discard, r.Body, 38*100) // a whole number of them
		_ = r.Body.Close()
		_, _ = io.WriteString(w, "early")
	})
	smuggled := strings.Repeat("GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n", 30_000)
	for _, path := range []string{"/read", "/unread", "/blocked"} {
		for name, message := range map[string]string{
			"with a length": fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(smuggled), smuggled),
			"in chunks":     fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled),
		} {
			lines, closed := answers(t, s, "POST "+path+" HTTP/1.1\r\nHost: x\r\n"+message, 5*time.Second)
			if len(lines) != 1 || !closed {
				t.Errorf("%s %s: %d answers, closed %v; want one, and the end", path, name, len(lines), closed)
			}
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("%d requests came out of bodies", n)
	}
}

func TestConnectionGoesOnBehindASmallBody(t *testing.T) {
	s := server(t, false, func(w http.ResponseWriter, r *http.Request) { _ = r.Body.Close() })
	for _, path := range []string{"/read", "/unread", "/blocked"} {
		sent := "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n" +
			"POST " + path + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nX-T: 1\r\n\r\n" +
			"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		if lines, closed := answers(t, s, sent, 5*time.Second); len(lines) != 3 || !closed {
			t.Errorf("%s: answers %q, closed %v; want three, and the end", path, lines, closed)
		}
	}
}

func TestRefusalDoesNotAskForTheBody(t *testing.T) {
	s := server(t, false, func(w http.ResponseWriter, r *http.Request) { _ = r.Body.Close() })
	for _, path := range []string{"/blocked", "/login", "/unread"} {
		sent := "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
		lines, _ := answers(t, s, sent, 2*time.Second)
		if len(lines) != 1 || strings.HasPrefix(lines[0], "100") {
			t.Errorf("%s: answers %q, want one final answer", path, lines)
		}
	}
	sent := "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello" +
		"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	if lines, _ := answers(t, s, sent, 2*time.Second); len(lines) != 3 || !strings.HasPrefix(lines[0], "100") {
		t.Errorf("a body that is read: answers %q, want 100 and two final ones", lines)
	}
}

func TestSlowBodyIsCutOff(t *testing.T) {
	grace := bodyGrace
	bodyGrace = 300 * time.Millisecond
	defer func() { bodyGrace = grace }()
	s := server(t, false, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Errorf("the upstream could not read: %v", err)
		}
	})
	for _, announced := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		began := time.Now()
		lines, closed := answers(t, s, "POST /read HTTP/1.1\r\nHost: x\r\n"+announced+"\r\n\r\n5", 5*time.Second)
		if len(lines) != 1 || !closed || time.Since(began) > 3*time.Second {
			t.Errorf("%s: answers %q, closed %v after %v", announced, lines, closed, time.Since(began))
		}
	}

	// What streams past the filter may take its time.
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n0123456789ab"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * bodyGrace)
	if _, err := io.WriteString(c, "01234567"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("a stream behind the filter's part: %v, %v", res, err)
	}
}

// TestNoBodyIsNone sends requests through a handler that puts something around every
// body, as Caddy does: where the server says that there is none, filter and upstream
// get none, and the handlers in front get their own back.
func TestNoBodyIsNone(t *testing.T) {
	type wrapped struct{ io.ReadCloser }
	for _, tt := range []struct {
		name   string
		length int64
		proto  int
		none   bool
	}{
		{"no body", 0, 1, true},
		{"no body, HTTP/2", 0, 2, true},
		{"HTTP/3 does not tell", 0, 3, false},
		{"chunked", -1, 1, false},
		{"four bytes", 4, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hr := httptest.NewRequest(http.MethodGet, "/", nil)
			hr.ProtoMajor, hr.ContentLength = tt.proto, tt.length
			original := wrapped{io.NopCloser(strings.NewReader("odd!"))}
			hr.Body = original
			_, decided, done := Receive(httptest.NewRecorder(), hr)
			if none := hr.Body == http.NoBody; none != tt.none {
				t.Errorf("no body: %v, want %v", none, tt.none)
			}
			decided()
			done()
			if hr.Body != original {
				t.Errorf("the body is %T behind it, want what it was", hr.Body)
			}
		})
	}
}

func TestUpgradeToHTTPIsNotPassedOn(t *testing.T) {
	for _, tt := range []struct{ upgrade, want string }{
		{"h2c", ""},
		{"H2C", ""},
		{"HTTP/2.0", ""},
		{"websocket", "websocket"},
		{"websocket, h2c", "websocket"},
		{"h2c,SPDY/3.1", "SPDY/3.1"},
		{"TLS/1.0, HTTP/1.1", "TLS/1.0"},
	} {
		hr := httptest.NewRequest(http.MethodGet, "/", nil)
		hr.Header["Upgrade"] = []string{tt.upgrade}
		hr.Header.Set("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")
		got := "none"
		var e filter.Engine
		e.Swap(filter.NewPipeline(filter.Config{}))
		Handler(&e, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got = strings.Join(r.Header["Upgrade"], "|") + r.Header.Get("HTTP2-Settings")
		})).ServeHTTP(httptest.NewRecorder(), hr)
		if got != tt.want {
			t.Errorf("Upgrade: %s: passed on as %q, want %q", tt.upgrade, got, tt.want)
		}
	}
}

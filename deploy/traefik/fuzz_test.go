package traefik

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// scripted is a connection to a daemon that says the same whatever it is asked.
type scripted struct {
	net.Conn // nil: nothing else of it is used
	answer   io.Reader
	asked    strings.Builder
}

func (c *scripted) Read(p []byte) (int, error) { return c.answer.Read(p) }
func (c *scripted) Write(p []byte) (int, error) {
	if c.asked.Len() > 1<<24 {
		return 0, errors.New("too much is sent")
	}
	return c.asked.Write(p)
}
func (c *scripted) SetDeadline(time.Time) error { return nil }
func (c *scripted) Close() error                { return nil }

// FuzzAnswer: whatever a daemon says, the client gets a well-formed answer or the
// request goes on, and the daemon gets no more of a body than it asked for.
func FuzzAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nMoat-Verdict: pass\r\nContent-Length: 0\r\n\r\n")
	f.Add(nothing)
	f.Add(nothing + nothing)
	f.Add("HTTP/1.1 200 OK\r\nMoat-Verdict: pass\r\nMoat-Remove: X-A\r\nMoat-Set: X-A: b\r\nMoat-Answer: Vary: Origin\r\nMoat-Cors: A: b\r\nContent-Length: 0\r\n\r\n")
	f.Add("HTTP/1.1 200 OK\r\nMoat-Verdict: answer\r\nMoat-Status: 403\r\nContent-Length: 14\r\n\r\nA: b\r\n\r\nrefused")
	f.Add("HTTP/1.1 200 OK\r\nMoat-Verdict: answer\r\nMoat-Status: 99999\r\nContent-Length: 3\r\n\r\n: \n")
	f.Add("HTTP/1.1 100 Continue\r\nMoat-Want: 3\r\n\r\nHTTP/1.1 100 Continue\r\nMoat-Want: -3\r\n\r\nHTTP/1.1 200 OK\r\nMoat-Verdict: pass\r\nMoat-Conceal: 404\r\nContent-Length: 2\r\n\r\n\r\n")
	f.Add("HTTP/1.1 200 OK\r\nMoat-Verdict: pass\r\nMoat-Report: status\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
	f.Add("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
	f.Fuzz(func(t *testing.T, answer string) {
		for _, body := range []string{"", "the body"} {
			fuzzAnswer(t, answer, body)
		}
	})
}

func fuzzAnswer(t *testing.T, answer, body string) {
	conn := &scripted{answer: strings.NewReader(answer)}
	d := &daemon{path: "/nowhere", told: time.Now()}
	d.put(newLink(conn))
	passed := false
	m := &Moat{daemon: d, idle: &d.idle, timeout: time.Second, next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passed = true
		b, err := io.ReadAll(r.Body)
		if err != nil || string(b) != body {
			t.Errorf("the upstream got %q, %v", b, err)
		}
		w.WriteHeader(http.StatusNotFound)
	})}
	rec := httptest.NewRecorder()
	m.ServeHTTP(rec, httptest.NewRequest("POST", "/", strings.NewReader(body)))
	if code := rec.Code; code < 200 || code > 599 {
		t.Errorf("status %d", code)
	}
	if verdict := strings.ToLower(answer); passed && (!strings.Contains(verdict, "moat-verdict") || !strings.Contains(verdict, "pass")) {
		t.Error("passed without a verdict")
	}
}

package decide

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// host is a connection of a host that writes what it likes.
type host struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func serve(t *testing.T, h *Handler) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, release, err := ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(h, "unix", nil, nil)
	go func() { _ = s.Serve(Listen(s, l)) }()
	t.Cleanup(func() { release(); _ = s.Close() })
	return path
}

func connect(t *testing.T, path string) *host {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return &host{t, conn, bufio.NewReader(conn)}
}

// ask sends a head: with hasBody as the first chunk of a question.
func (h *host) ask(head string, hasBody bool) {
	h.t.Helper()
	framing := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(head), head)
	if hasBody {
		framing = fmt.Sprintf("Transfer-Encoding: chunked\r\nTrailer: Moat-Body\r\n\r\n%x\r\n%s\r\n", len(head), head)
	}
	h.send(fmt.Sprintf("POST /v1/decide HTTP/1.1\r\nHost: moat\r\nMoat-Protocol: 1\r\nMoat-Head: %d\r\n%s", len(head), framing))
}

func (h *host) send(text string) {
	h.t.Helper()
	if _, err := io.WriteString(h.conn, text); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) answer() *http.Response {
	h.t.Helper()
	res, err := http.ReadResponse(h.r, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		h.t.Fatal(err)
	}
	return res
}

// wants reads that the daemon asks for n bytes.
func (h *host) wants(n string) {
	h.t.Helper()
	res := h.answer()
	if res.StatusCode != http.StatusContinue || res.Header.Get("Moat-Want") != n {
		h.t.Fatalf("%s %v, want 100 for %s bytes", res.Status, res.Header, n)
	}
}

func (h *host) verdict(want string) *http.Response {
	h.t.Helper()
	res := h.answer()
	if got := res.Header.Get("Moat-Verdict") + " " + res.Header.Get("Moat-Status"); res.StatusCode != 200 && res.StatusCode != 204 || got != want {
		h.t.Fatalf("%s %q, want %q", res.Status, got, want)
	}
	return res
}

// TestBodyIsAskedFor: the daemon asks for what is read, to the byte, and the
// connection goes on after every way in which an exchange can end.
func TestBodyIsAskedFor(t *testing.T) {
	handler, s := newHandler(t, Options{})
	h := connect(t, serve(t, handler))
	text := "Content-Type: text/plain\n"
	for range 2 {
		h.ask(question("POST", "/", "4", "wait", text), true)
		h.wants("101") // one more than the limit tells that there is no more
		h.send("4\r\nbody\r\n0\r\n\r\n")
		h.verdict("pass ")
		if !strings.Contains(*s.seen.Load(), " 4 body ") {
			t.Errorf("judged %s", *s.seen.Load())
		}

		// A body of unknown length, of which the stage reads 100 bytes.
		h.ask(question("POST", "/", "?", "wait chunked", text), true)
		h.wants("101")
		h.send("65\r\n" + strings.Repeat("x", 101) + "\r\n")
		h.verdict("pass ")
		h.send("0\r\n\r\n")

		// Nobody reads it.
		h.ask(question("POST", "/", "4000000000", "wait", "Content-Type: image/png\n"), true)
		h.verdict("pass ")
		h.send("0\r\n\r\n")

		// Refused before it is read.
		h.ask(question("POST", "/blocked", "4", "wait", ""), true)
		h.verdict("answer 403")
		h.send("0\r\n\r\n")

		for _, fault := range []string{"broken", "too-large"} {
			h.ask(question("POST", "/", "4", "wait", text), true)
			h.wants("101")
			h.send("2\r\nbo\r\n0\r\nMoat-Body: " + fault + "\r\n\r\n")
			h.verdict("answer 400")
		}
		h.ask(question("GET", "/", "-", "wait", ""), false)
		h.verdict("pass ")
	}
}

func TestHostGoesInTheMiddle(t *testing.T) {
	handler, s := newHandler(t, Options{})
	path := serve(t, handler)
	h := connect(t, path)
	h.ask(question("POST", "/status", "4", "wait report", "Content-Type: text/plain\n"), true)
	h.wants("101")
	_ = h.conn.Close()

	other := connect(t, path)
	other.ask(question("GET", "/counted", "-", "report", ""), false)
	if got := other.verdict("pass ").Header.Get("Moat-Report"); got != "end" {
		t.Errorf("report %q", got)
	}
	_ = other.conn.Close()
	if status := s.wait(t); status != 0 {
		t.Errorf("status %d", status)
	}
}

func TestReport(t *testing.T) {
	handler, s := newHandler(t, Options{})
	path := serve(t, handler)
	h := connect(t, path)
	report := func(status string) *http.Response {
		h.send("POST /v1/report HTTP/1.1\r\nHost: moat\r\nMoat-Protocol: 1\r\nMoat-Status: " + status + "\r\nContent-Length: 0\r\n\r\n")
		return h.answer()
	}
	for status, want := range map[string]int{"404": 404, "0": 0, "101": 101} {
		h.ask(question("GET", "/status", "-", "report", ""), false)
		if got := h.verdict("pass ").Header.Get("Moat-Report"); got != "status" {
			t.Errorf("report %q", got)
		}
		select {
		case <-s.finished:
			t.Error("the request ended before it was reported")
		default:
		}
		if res := report(status); res.StatusCode != http.StatusNoContent {
			t.Errorf("%s", res.Status)
		}
		if got := s.wait(t); got != want {
			t.Errorf("%s became %d", status, got)
		}
	}
	if res := report("200"); res.StatusCode != http.StatusNoContent {
		t.Errorf("a report of nothing: %s", res.Status)
	}

	// A host that cannot report is not asked to, and the request ends at once; so does
	// one that asks again instead of reporting.
	h.ask(question("GET", "/status", "-", "", ""), false)
	if got := h.verdict("pass ").Header.Get("Moat-Report"); got != "" {
		t.Errorf("report %q", got)
	}
	s.wait(t)
	h.ask(question("GET", "/status", "-", "report", ""), false)
	h.verdict("pass ")
	h.ask(question("GET", "/", "-", "report", ""), false)
	h.verdict("pass ")
	s.wait(t)
}

func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, release, err := ListenUnix(path, 0o620)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o620 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, _, err := ListenUnix(path, 0o600); err == nil || !strings.Contains(err.Error(), "another process does") {
		t.Errorf("twice: %v", err)
	}

	// It ends without taking its file away, as one that was killed.
	_ = l.Close()
	second, releaseSecond, err := ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	release() // of the first, late: the file is not its own
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the second one's file is gone: %v", err)
	}
	_ = conn.Close()
	releaseSecond()
	_ = second.Close()
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ListenUnix(path, 0o600); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("over a file: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file was replaced")
	}
	if _, _, err := ListenUnix(filepath.Join(dir, strings.Repeat("long", 40)), 0o600); err == nil {
		t.Error("a path that is too long for a socket")
	}
}

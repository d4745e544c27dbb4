package decide

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBriefIsLikeHTTP holds brief questions against the same ones in HTTP.
func TestBriefIsLikeHTTP(t *testing.T) {
	h, s := newHandler(t, Options{})
	go func() {
		for range s.finished { // of requests that are counted
		}
	}()
	t.Cleanup(func() { close(s.finished) })
	c := connect(t, serve(t, h))
	read := func() string {
		t.Helper()
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		_ = res.Header.Write(&b)
		return fmt.Sprintf("%s %d\n%s\n%s", res.Status, res.ContentLength, &b, content)
	}
	for _, head := range []string{
		question("GET", "/", "-", "", ""),
		question("GET", "/a?b", "-", "tls host=traefik report wait", "Accept: */*\nX-Real-Ip: 203.0.113.7\n"),
		question("GET", "/blocked", "-", "", "Accept: text/html\n"),
		question("HEAD", "/blocked", "-", "", ""),
		question("GET", "/login", "-", "", ""),
		question("GET", "/limited", "-", "", ""),
		question("GET", "/known", "-", "", "X_remote-user: admin\n"),
		question("OPTIONS", "/x", "-", "", "Origin: https://app.example.com\nAccess-Control-Request-Method: GET\n"),
		question("GET", "/status", "-", "report", ""),
		question("GET", "/%zz", "-", "", ""),
		question("", "/", "-", "", ""),
		question("GET", "", "-", "", ""),
		question("GET", "/", "-", "", "X-Long: "+strings.Repeat("x", 6000)+"\n"),
		question("GET", "/", "-", "", "X-Longer: "+strings.Repeat("x", 600_000)+"\n"),
	} {
		c.send(briefBegin + head)
		brief := read()
		c.ask(head, false)
		if long := read(); brief != long {
			t.Errorf("%.60q:\n%q\nin HTTP:\n%q", head, brief, long)
		}
	}
}

// TestBriefInPieces: a brief question is complete when its end has come, wherever it was
// cut, and the next one may be in HTTP.
func TestBriefInPieces(t *testing.T) {
	h, _ := newHandler(t, Options{})
	c := connect(t, serve(t, h))
	head := question("GET", "/", "-", "", "Accept: */*\nX-Other: a\n")
	text := briefBegin + head
	for i := 1; i < len(text); i++ {
		c.send(text[:i])
		time.Sleep(100 * time.Microsecond) // likely two reads; the answer is the same if they are one
		c.send(text[i:])
		if i%10 == 0 {
			if res, err := http.ReadResponse(c.r, nil); err != nil || res.Header.Get("Moat-Verdict") != "pass" {
				t.Fatalf("in two pieces at %d: %v, %v", i, res, err)
			}
			c.ask(head, false)
		}
		if res, err := http.ReadResponse(c.r, nil); err != nil || res.Header.Get("Moat-Verdict") != "pass" {
			t.Fatalf("in two pieces at %d: %v, %v", i, res, err)
		}
	}
}

// TestBriefFaults: what is no brief question is answered with 400 and the end of the
// connection, and nothing is decided.
func TestBriefFaults(t *testing.T) {
	h, s := newHandler(t, Options{})
	path := serve(t, h)
	for name, text := range map[string]string{
		"another version":    "MOAT/2\n" + question("GET", "/", "-", "", ""),
		"no lines":           briefBegin + "\r\n",
		"six lines":          briefBegin + "GET\n/\nHTTP/1.1\na\n\n-\n\r\n",
		"a body":             briefBegin + question("POST", "/", "4", "", ""),
		"a withheld body":    briefBegin + question("POST", "/", "4", "withheld", ""),
		"two questions":      briefBegin + question("GET", "/", "-", "", "") + briefBegin + question("GET", "/", "-", "", ""),
		"no field":           briefBegin + question("GET", "/", "-", "", "no field\n"),
		"too long":           briefBegin + question("GET", "/", "-", "", "A: "+strings.Repeat("x", maxHead)+"\n"),
		"too long, no end":   briefBegin + strings.Repeat("x", len(briefBegin)+maxHead+1),
		"no version of HTTP": briefBegin + "GET\n/\nHTTP/9\na\n\n-\n\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, path)
			go func() { _, _ = io.WriteString(c.conn, text) }() // the daemon may close before it has taken all
			res, err := http.ReadResponse(c.r, nil)
			if err != nil || res.StatusCode != http.StatusBadRequest || !res.Close {
				t.Errorf("%v, %v", res, err)
			}
			if s.seen.Load() != nil {
				t.Error("the request was decided about")
			}
		})
	}
}

// FuzzBrief: a brief question is answered as the same head in HTTP is, and what is
// no head is not decided about.
func FuzzBrief(f *testing.F) {
	f.Add(question("GET", "/", "-", "", ""))
	f.Add(question("GET", "/blocked", "-", "tls host=traefik report wait", "Accept: */*\nX-Real-Ip: 203.0.113.7\n"))
	f.Add(question("GET", "/%zz", "-", "", ""))
	f.Add(question("POST", "/", "4", "", ""))
	f.Add("GET\n/\nHTTP/1.1\n\n\n-\n\n\r\n\r\n")
	f.Add("\n\r\n")
	h := New(Options{Engine: passing()})
	f.Fuzz(func(t *testing.T, head string) {
		if !briefEnds([]byte(head)) {
			return
		}
		conn := new(answers)
		c := &plainConn{io: conn, handler: h, session: new(session)}
		c.brief([]byte(briefBegin + head))
		brief, err := http.ReadResponse(bufio.NewReader(&conn.Buffer), nil)
		if err != nil {
			t.Fatal(err)
		}
		q, err := parseHead(head)
		if err == nil && q.hasBody {
			return
		}
		long := post(h, "/v1/decide", head, "", nil)
		if brief.StatusCode != long.Code || brief.Header.Get("Moat-Verdict") != long.Header().Get("Moat-Verdict") || brief.Header.Get("Moat-Status") != long.Header().Get("Moat-Status") {
			t.Errorf("%s %v\nin HTTP: %d %v", brief.Status, brief.Header, long.Code, long.Header())
		}
	})
}

// answers keeps what is written.
type answers struct{ bytes.Buffer }

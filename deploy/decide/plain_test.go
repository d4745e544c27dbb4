package decide

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// askedTwice returns what the connection answers to a head in the short way, and what
// the server answers to the same head in a question that is written in another way.
func askedTwice(t *testing.T, h *host, head string) (plain, other string) {
	t.Helper()
	for i, field := range []string{"", "X-Other: way\r\n"} {
		h.send(fmt.Sprintf("POST /v1/decide HTTP/1.1\r\nHost: moat\r\nMoat-Protocol: 1\r\nMoat-Head: %d\r\nContent-Length: %d\r\n%s\r\n%s", len(head), len(head), field, head))
		res, err := http.ReadResponse(h.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		_ = res.Header.Write(&b)
		answer := fmt.Sprintf("%s %d\n%s\n%s", res.Status, res.ContentLength, &b, content)
		if i == 0 {
			plain = answer
		} else {
			other = answer
		}
	}
	return plain, other
}

// TestPlainIsLikeServer holds the short way against net/http.
func TestPlainIsLikeServer(t *testing.T) {
	h, s := newHandler(t, Options{})
	go func() {
		for range s.finished { // of requests that are counted
		}
	}()
	t.Cleanup(func() { close(s.finished) })
	c := connect(t, serve(t, h))
	for _, head := range []string{
		question("GET", "/", "-", "", ""),
		question("GET", "/a?b", "-", "tls host=traefik report wait", "Accept: */*\nX-Real-Ip: 203.0.113.7\n"),
		question("GET", "/blocked", "-", "", "Accept: text/html\n"),
		question("HEAD", "/blocked", "-", "", ""),
		question("GET", "/login", "-", "", ""),
		question("GET", "/limited", "-", "", ""),
		question("GET", "/known", "-", "", "X_remote-user: admin\n"),
		question("GET", "/", "-", "", "Origin: https://app.example.com\n"),
		question("OPTIONS", "/x", "-", "", "Origin: https://app.example.com\nAccess-Control-Request-Method: GET\n"),
		question("GET", "/counted", "-", "report", ""),
		question("GET", "/status", "-", "report", ""),
		question("GET", "/%zz", "-", "", ""),
		question("POST", "/", "4", "withheld", ""),
		question("GET", "/", "-", "", "X-Long: "+strings.Repeat("x", 6000)+"\n"),
	} {
		if plain, other := askedTwice(t, c, head); plain != other {
			t.Errorf("%.60q:\n%q\nthe server:\n%q", head, plain, other)
		}
	}
}

// TestPlainInPieces: a question that does not come in one piece is answered by the
// server, and the next one is not mistaken for a part of it.
func TestPlainInPieces(t *testing.T) {
	h, _ := newHandler(t, Options{})
	c := connect(t, serve(t, h))
	head := question("GET", "/", "-", "", "")
	text := fmt.Sprintf("%s%d%s%d\r\n\r\n%s", plainBegin, len(head), plainLength, len(head), head)
	for i := 0; i < len(text); i += 7 {
		if i > 0 {
			c.send(text[:i])
			time.Sleep(time.Millisecond) // likely two reads; the answer is the same if they are one
		}
		c.send(text[i:])
		res, err := http.ReadResponse(c.r, nil)
		if err != nil || res.Header.Get("Moat-Verdict") != "pass" {
			t.Fatalf("in two pieces at %d: %v, %v", i, res, err)
		}
	}
}

// TestPlainFaultEndsConnection: a question that cannot be read is answered by the
// server, which says what is wrong and closes.
func TestPlainFaultEndsConnection(t *testing.T) {
	h, _ := newHandler(t, Options{})
	c := connect(t, serve(t, h))
	c.ask("GET\n/\nHTTP/9\n\n\n-\n\n\r\n", false)
	res, err := http.ReadResponse(c.r, nil)
	if err != nil || res.StatusCode != http.StatusBadRequest || !res.Close {
		t.Errorf("%v, %v", res, err)
	}
}

// TestShutdownEndsPlainConnections: a server that ends closes the connections that
// have had plain questions only.
func TestShutdownEndsPlainConnections(t *testing.T) {
	h, _ := newHandler(t, Options{})
	path := t.TempDir() + "/s"
	l, release, err := ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(h, "unix", nil, nil)
	served := make(chan error, 1)
	go func() { served <- s.Serve(Listen(s, l)) }()
	used, fresh := connect(t, path), connect(t, path)
	used.ask(question("GET", "/", "-", "", ""), false)
	if res, err := http.ReadResponse(used.r, nil); err != nil || res.Header.Get("Moat-Verdict") != "pass" {
		t.Fatalf("%v, %v", res, err)
	}
	release()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
	for _, c := range []*host{used, fresh} {
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
	}
}

// FuzzPlain: what is cut out of a question is what net/http reads in it.
func FuzzPlain(f *testing.F) {
	f.Add(plainBegin + "3" + plainLength + "3\r\n\r\nabc")
	f.Add(plainBegin + "3" + plainLength + "3\r\n\r\nabcd")
	f.Add(plainBegin + "03" + plainLength + "03\r\n\r\nabc")
	f.Add(plainBegin + "3\r\nX: y" + plainLength + "3\r\nX: y\r\n\r\nabc")
	f.Add(plainBegin + plainLength + "\r\n\r\n")
	f.Add(plainBegin + "99999999999" + plainLength + "99999999999\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		head, ok := cutPlain([]byte(text))
		if !ok {
			return
		}
		r := bufio.NewReader(strings.NewReader(text))
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil || !bytes.Equal(body, head) || r.Buffered() > 0 || req.Method != http.MethodPost || req.URL.Path != "/v1/decide" || req.Header.Get("Moat-Protocol") != Version {
			t.Errorf("%q, %v: %+v", body, err, req)
		}
	})
}

// BenchmarkPlain is one question and its answer over a Unix socket.
func BenchmarkPlain(b *testing.B) {
	for _, way := range []string{"short", "server"} {
		b.Run(way, func(b *testing.B) {
			path := b.TempDir() + "/s"
			l, err := net.Listen("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			h := New(Options{Engine: passing()})
			s := NewServer(h, "unix", nil, nil)
			if way == "short" {
				l = Listen(s, l)
			}
			go func() { _ = s.Serve(l) }()
			defer func() { _ = s.Close() }()
			conn, err := net.Dial("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			head := question("GET", "/articles/2026/10?page=2", "-", "host=traefik report wait", "Accept: */*\nUser-Agent: curl/8.14.1\nX-Real-Ip: 203.0.113.7\n")
			text := []byte(fmt.Sprintf("%s%d%s%d\r\n\r\n%s", plainBegin, len(head), plainLength, len(head), head))
			answer := make([]byte, len(passes))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Write(text); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(conn, answer); err != nil || !bytes.Equal(answer, passes) {
					b.Fatalf("%q, %v", answer, err)
				}
			}
		})
	}
}

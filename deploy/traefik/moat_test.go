package traefik

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Upstream", "yes")
	b, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if r.URL.Path == "/missing" {
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "the upstream's words")
		return
	}
	_, _ = fmt.Fprintf(w, "%s %s %d %s", r.Method, r.RequestURI, len(b), strings.Join(slices.Sorted(maps.Keys(r.Header)), " "))
}

func TestVerdicts(t *testing.T) {
	w := newWorld(t, false)
	url := traefik(t, w.plugin(t, echo, nil))
	for _, c := range []struct {
		name, method, path, body, contentType string
		status                                int
		upstream                              bool
	}{
		{name: "an allowed request", method: "GET", path: "/", status: 200, upstream: true},
		{name: "a refused one", method: "GET", path: "/blocked", status: 403},
		{name: "a refused HEAD", method: "HEAD", path: "/blocked", status: 403},
		{name: "a challenge", method: "GET", path: "/login", status: 401},
		{name: "a hidden path", method: "GET", path: "/hidden", status: 404},
		{name: "an attack in a body", method: "POST", path: "/", body: "an attack", contentType: "text/plain", status: 403},
		{name: "a body", method: "POST", path: "/", body: "harmless", contentType: "text/plain", status: 200, upstream: true},
		{name: "a body that nobody reads", method: "POST", path: "/", body: "an attack", contentType: "image/png", status: 200, upstream: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 3 { // over the same connections
				res, body := do(t, c.method, url+c.path, strings.NewReader(c.body), http.Header{"Content-Type": {c.contentType}})
				if res.StatusCode != c.status || (res.Header.Get("X-Upstream") != "") != c.upstream {
					t.Fatalf("%d, %v, %q", res.StatusCode, res.Header, body)
				}
				if c.upstream {
					continue
				}
				if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Vary") == "" || res.Header.Get("Content-Length") == "" {
					t.Errorf("fields of the refusal: %v", res.Header)
				}
				if (body == "") != (c.method == "HEAD") || strings.Contains(body, "secret-rule-name") {
					t.Errorf("content %q", body)
				}
				want := 0
				if c.status == 401 {
					want = 2
				}
				if got := len(res.Header["Www-Authenticate"]); got != want {
					t.Errorf("%d challenges, want %d", got, want)
				}
				for name := range res.Header {
					if strings.HasPrefix(name, "Moat-") {
						t.Errorf("%s reaches the client", name)
					}
				}
			}
		})
	}
	// One for each processor at most, and now and then another: the race detector drops
	// a quarter of what is kept.
	if n, most := w.accepted.Load(), w.stage.decided.Load()/2+int64(runtime.GOMAXPROCS(0)); n > most {
		t.Errorf("%d connections were used for %d requests one after the other", n, w.stage.decided.Load())
	}
}

// TestWhatIsJudged: the stage sees what the client has sent, and nothing that
// Traefik has put there.
func TestWhatIsJudged(t *testing.T) {
	w := newWorld(t, false)
	url := traefik(t, w.plugin(t, echo, nil))
	do(t, "PUT", url+"/a%2Fb?x=1;y", strings.NewReader("1234"), http.Header{
		"X-Twice": {"one", "two"}, "Moat-Verdict": {"pass"}, "Moat-Protocol": {"9"}, "Moat-Head": {"1"}, "X-Empty": {""}, "X-Utf8": {"é"},
		"User-Agent": {"test"}, "Content-Type": {"image/png"},
	})
	got := w.stage.seen.Load()
	want := http.Header{
		"X-Twice": {"one", "two"}, "Moat-Verdict": {"pass"}, "Moat-Protocol": {"9"}, "Moat-Head": {"1"}, "X-Empty": {""}, "X-Utf8": {"é"},
		"User-Agent": {"test"}, "Content-Type": {"image/png"}, "Content-Length": {"4"}, "Accept-Encoding": {"gzip"},
	}
	if !maps.EqualFunc(got.Header, want, slices.Equal) {
		t.Errorf("judged %v\nwant %v", got.Header, want)
	}
	if got.Method != "PUT" || got.RequestURI != "/a%2Fb?x=1;y" || got.Proto != "HTTP/1.1" || "http://"+got.Host != url || got.ContentLength != 4 || got.TLS != nil {
		t.Errorf("judged %+v", got)
	}
	if *w.stage.client.Load() != "127.0.0.1" {
		t.Errorf("client %s", *w.stage.client.Load())
	}

	do(t, "POST", url+"/", io.MultiReader(strings.NewReader("of no known length")), http.Header{"X-Forwarded-For": {"203.0.113.9, 192.0.2.1"}, "X-Real-Ip": {"203.0.113.9"}})
	got = w.stage.seen.Load()
	if got.ContentLength != -1 || !slices.Equal(got.TransferEncoding, []string{"chunked"}) {
		t.Errorf("length %d, coding %v", got.ContentLength, got.TransferEncoding)
	}
	if *w.stage.client.Load() != "192.0.2.1" || got.Header.Get("X-Forwarded-For") != "203.0.113.9" {
		t.Errorf("Traefik trusts the peer: client %s, left %s", *w.stage.client.Load(), got.Header)
	}
}

func TestIdentityHeaders(t *testing.T) {
	w := newWorld(t, false)
	var got http.Header
	url := traefik(t, w.plugin(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }, nil))
	claims := http.Header{"X-Remote-User": {"admin"}, "X_remote_user": {"admin"}, "X-Remote.user": {"admin"}, "Connection": {"X-Remote-User, close"}, "X-Other": {"stays"}}
	for path, want := range map[string][]string{"/": nil, "/known": {"anna"}} {
		do(t, "GET", url+path, nil, claims)
		if !slices.Equal(got["X-Remote-User"], want) || got["X_remote_user"] != nil || got["X-Remote.user"] != nil || got.Get("X-Other") != "stays" || got.Get("X-Real-Ip") == "" {
			t.Errorf("%s: upstream got %v", path, got)
		}
		if strings.Contains(strings.ToLower(got.Get("Connection")), "remote") {
			t.Errorf("Connection: %v", got["Connection"])
		}
	}
}

func TestAnswersOfTheUpstream(t *testing.T) {
	w := newWorld(t, true)
	url := traefik(t, w.plugin(t, echo, nil))

	t.Run("a missing path is as a hidden one", func(t *testing.T) {
		hidden, hiddenBody := do(t, "GET", url+"/hidden", nil, nil)
		missing, missingBody := do(t, "GET", url+"/missing", nil, nil)
		for _, res := range []*http.Response{hidden, missing} {
			res.Header.Del("Date")
		}
		if missing.StatusCode != 404 || missingBody != hiddenBody || !maps.EqualFunc(missing.Header, hidden.Header, slices.Equal) {
			t.Errorf("missing: %v %q\nhidden: %v %q", missing.Header, missingBody, hidden.Header, hiddenBody)
		}
	})
	t.Run("another origin may read", func(t *testing.T) {
		res, _ := do(t, "GET", url+"/", nil, http.Header{"Origin": {"https://app.example.com"}})
		if res.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || res.Header.Get("Access-Control-Expose-Headers") != "X-Total" || !slices.Equal(res.Header["Vary"], []string{"Origin"}) {
			t.Errorf("%v", res.Header)
		}
		res, _ = do(t, "GET", url+"/", nil, http.Header{"Origin": {"https://evil.example"}})
		if res.Header.Get("Access-Control-Allow-Origin") != "" || !slices.Equal(res.Header["Vary"], []string{"Origin"}) {
			t.Errorf("%v", res.Header)
		}
	})
	t.Run("a preflight is answered", func(t *testing.T) {
		res, _ := do(t, "OPTIONS", url+"/", nil, http.Header{"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"GET"}})
		if res.StatusCode != 204 || res.Header.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
	})
	t.Run("the limit is told", func(t *testing.T) {
		res, _ := do(t, "GET", url+"/limited", nil, nil)
		if res.Header.Get("RateLimit") != `"t";r=9` {
			t.Errorf("%v", res.Header)
		}
	})
}

func TestUpstreamsOwnCORSStands(t *testing.T) {
	w := newWorld(t, false)
	url := traefik(t, w.plugin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.WriteHeader(http.StatusOK)
	}, nil))
	res, _ := do(t, "GET", url+"/", nil, http.Header{"Origin": {"https://app.example.com"}})
	if got := res.Header["Access-Control-Allow-Origin"]; !slices.Equal(got, []string{"*"}) {
		t.Errorf("%v", got)
	}
}

// TestReports: a tier that waits for the end of a request learns it, with the
// status where it asked for that.
func TestReports(t *testing.T) {
	w := newWorld(t, false)
	release := make(chan struct{})
	url := traefik(t, w.plugin(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/counted" {
			<-release
		}
		if r.URL.RawQuery == "abort" {
			panic(http.ErrAbortHandler)
		}
		rw.WriteHeader(http.StatusTeapot)
	}, nil))

	done := make(chan int)
	go func() {
		res, err := http.Get(url + "/counted")
		if err != nil {
			done <- 0
			return
		}
		_ = res.Body.Close()
		done <- res.StatusCode
	}()
	for w.stage.decided.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	do(t, "GET", url+"/", nil, nil)
	if w.stage.ended.Load() != 0 {
		t.Error("the request has ended while it was under way")
	}
	close(release)
	if status := <-done; status != http.StatusTeapot {
		t.Errorf("status %d", status)
	}
	<-w.stage.finished

	do(t, "GET", url+"/status", nil, nil)
	<-w.stage.finished
	if got := w.stage.status.Load(); got != http.StatusTeapot {
		t.Errorf("reported %d", got)
	}
	if res, err := http.Get(url + "/counted?abort"); err == nil {
		_ = res.Body.Close()
		t.Error("the upstream's end was no end")
	}
	<-w.stage.finished
}

// TestStreams: what comes through a writer that watches the answer is not held back.
func TestStreams(t *testing.T) {
	for _, watched := range []bool{false, true} {
		t.Run(fmt.Sprint("watched ", watched), func(t *testing.T) {
			w := newWorld(t, watched)
			got := make(chan struct{})
			url := traefik(t, w.plugin(t, func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", "text/event-stream")
				rw.WriteHeader(http.StatusOK)
				_, _ = io.WriteString(rw, "data: 1\n\n")
				if f, ok := rw.(http.Flusher); ok {
					f.Flush()
				}
				<-got
				_, _ = io.WriteString(rw, "data: 2\n\n")
			}, nil))
			res, err := http.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b := make([]byte, 9)
			if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != "data: 1\n\n" {
				t.Fatalf("%q, %v", b, err)
			}
			close(got)
			if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "data: 2\n\n" {
				t.Errorf("%q, %v", rest, err)
			}
		})
	}
}

func TestWebSocketIsTakenOver(t *testing.T) {
	for _, conceals := range []bool{false, true} {
		w := newWorld(t, conceals)
		url := traefik(t, w.plugin(t, func(rw http.ResponseWriter, _ *http.Request) {
			conn, _, err := rw.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe")
		}, nil))
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		b, err := io.ReadAll(conn)
		if err != nil || !bytes.HasSuffix(b, []byte("\r\n\r\nframe")) {
			t.Errorf("conceals %v: %q, %v", conceals, b, err)
		}
	}
}

// TestBodies holds what the upstream gets against what the client has sent, for
// bodies around every bound.
func TestBodies(t *testing.T) {
	w := newWorld(t, false)
	var got []byte
	next := func(rw http.ResponseWriter, r *http.Request) {
		var err error
		if got, err = io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
	}
	url := traefik(t, w.plugin(t, next, nil))
	bounded := traefik(t, w.plugin(t, next, func(c *Config) { c.MaxBodySize = 100 }))
	for _, size := range []int{0, 1, 99, 100, 101, bodyLimit - 1, bodyLimit, bodyLimit + 1, 32 << 10, 1 << 20} {
		body := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
		for _, contentType := range []string{"text/plain", "image/png"} {
			for _, known := range []bool{true, false} {
				var r io.Reader = bytes.NewReader(body)
				if !known {
					r = struct{ io.Reader }{r}
				}
				got = nil
				res, _ := do(t, "POST", url, r, http.Header{"Content-Type": {contentType}})
				if res.StatusCode != 200 || !bytes.Equal(got, body) {
					t.Errorf("%s of %d bytes, length told %v: status %d, %d bytes", contentType, size, known, res.StatusCode, len(got))
				}
				r = bytes.NewReader(body)
				if !known {
					r = struct{ io.Reader }{r}
				}
				want := 200
				if size > 100 && contentType == "text/plain" {
					want = 413
				}
				if res, _ := do(t, "POST", bounded, r, http.Header{"Content-Type": {contentType}}); res.StatusCode != want {
					t.Errorf("%s of %d bytes, at most 100: %d, want %d", contentType, size, res.StatusCode, want)
				}
			}
		}
	}
}

// TestBodyOnItsWay: nothing is read of a body that no rule reads before the
// upstream reads it, and an answer comes although the body does not.
func TestBodyOnItsWay(t *testing.T) {
	w := newWorld(t, false)
	url := traefik(t, w.plugin(t, func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).EnableFullDuplex()
		_, _ = io.WriteString(rw, "first\n")
		_ = http.NewResponseController(rw).Flush()
		_, _ = io.Copy(rw, r.Body)
	}, nil))
	pr, pw := io.Pipe()
	req, err := http.NewRequest("POST", url, pr)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	br := bufio.NewReader(res.Body)
	if line, err := br.ReadString('\n'); err != nil || line != "first\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, _ = io.WriteString(pw, "second\n")
	_ = pw.Close()
	if line, err := br.ReadString('\n'); err != nil || line != "second\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestBrokenBodyIsRefused(t *testing.T) {
	w := newWorld(t, false)
	url := traefik(t, w.plugin(t, echo, nil))
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", res.StatusCode)
	}
}

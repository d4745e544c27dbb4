package nethttp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

// verdictStage decides by path: /blocked, /hidden, /login; the rest passes.
type verdictStage struct{}

func (verdictStage) Name() string { return "access" }

func (verdictStage) Check(r *filter.Request) (filter.Decision, error) {
	switch r.Path {
	case "/blocked":
		return filter.Decision{Verdict: filter.Block, Reason: filter.ReasonRule, Rule: "secret-rule-name"}, nil
	case "/hidden":
		return filter.Decision{Verdict: filter.Block, Reason: filter.ReasonConcealed}, nil
	case "/login":
		return filter.Decision{Verdict: filter.Challenge, Reason: filter.ReasonNoCredentials, Challenges: []string{`Bearer realm="test"`}}, nil
	case "/read":
		if _, _, err := r.ReadBody(10); err != nil {
			return filter.Decision{}, err
		}
	}
	return filter.Next(), nil
}

func server(t *testing.T, conceals bool, upstream http.HandlerFunc) *httptest.Server {
	t.Helper()
	var e filter.Engine
	e.Swap(filter.NewPipeline(filter.Config{Steps: []filter.Step{{Stage: verdictStage{}}}, Conceals: conceals}))
	s := httptest.NewServer(Handler(&e, upstream))
	t.Cleanup(s.Close)
	return s
}

func ask(t *testing.T, method, url string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func TestServe(t *testing.T) {
	reached := 0
	s := server(t, false, func(w http.ResponseWriter, r *http.Request) {
		reached++
		w.Header().Set("X-Upstream", "yes")
		http.NotFound(w, r)
	})
	tests := []struct {
		path      string
		status    int
		challenge string
		upstream  int
	}{
		{"/blocked", 403, "", 0},
		{"/login", 401, `Bearer realm="test"`, 0},
		{"/anything", 404, "", 1},
	}
	for _, tt := range tests {
		reached = 0
		res, body := ask(t, http.MethodGet, s.URL+tt.path, nil)
		if res.StatusCode != tt.status || res.Header.Get("WWW-Authenticate") != tt.challenge || reached != tt.upstream {
			t.Errorf("%s: %d, challenge %q, upstream reached %d times", tt.path, res.StatusCode, res.Header.Get("WWW-Authenticate"), reached)
		}
		if strings.Contains(body, "secret-rule-name") {
			t.Errorf("%s: the answer names the rule: %s", tt.path, body)
		}
	}
	if res, _ := ask(t, http.MethodGet, s.URL+"/anything", nil); res.Header.Get("X-Upstream") != "yes" {
		t.Error("an upstream's 404 was touched although nothing is concealed")
	}
}

func TestNoPolicyIsUnavailable(t *testing.T) {
	s := httptest.NewServer(Handler(new(filter.Engine), http.NotFoundHandler()))
	defer s.Close()
	if res, _ := ask(t, http.MethodGet, s.URL+"/", nil); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", res.StatusCode)
	}
}

func TestBodyReachesTheUpstreamByteForByte(t *testing.T) {
	var got []byte
	s := server(t, false, func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
	})
	for _, size := range []int{0, 5, 10, 11, 100_000} {
		sent := bytes.Repeat([]byte("\x00\xffmoat"), size/6+1)[:size]
		for name, body := range map[string]io.Reader{
			"with a length": bytes.NewReader(sent),
			"in chunks":     struct{ io.Reader }{bytes.NewReader(sent)},
		} {
			got = nil
			if res, _ := ask(t, http.MethodPost, s.URL+"/read", body); res.StatusCode != 200 {
				t.Fatalf("status %d", res.StatusCode)
			}
			if !bytes.Equal(got, sent) {
				t.Errorf("%d bytes %s: the upstream got %d", size, name, len(got))
			}
		}
	}
}

// dump is an answer in every byte but the date.
func dump(res *http.Response, body string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", res.Status)
	header := res.Header.Clone()
	header.Del("Date")
	_ = header.Write(&b)
	return b.String() + body
}

func TestHiddenIsMissingByteForByte(t *testing.T) {
	upstreams := map[string]http.HandlerFunc{
		"net/http's own": http.NotFound,
		"with a cookie and a long page": func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "sid", Value: "1"})
			w.Header().Set("X-Powered-By", "upstream")
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(404)
			_, _ = io.WriteString(w, strings.Repeat("<p>nothing here", 10_000))
		},
		"streamed": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(404)
			for range 3 {
				_, _ = io.WriteString(w, "part")
				w.(http.Flusher).Flush()
			}
		},
		"copied from a reader": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(404)
			_, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("nothing"))
		},
	}
	for name, upstream := range upstreams {
		t.Run(name, func(t *testing.T) {
			s := server(t, true, upstream)
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				hidden := dump(ask(t, method, s.URL+"/hidden", nil))
				missing := dump(ask(t, method, s.URL+"/missing", nil))
				if hidden != missing {
					t.Errorf("%s: hidden:\n%s\nmissing:\n%s", method, hidden, missing)
				}
			}
		})
	}
}

func TestOtherAnswersPassThroughConcealment(t *testing.T) {
	s := server(t, true, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("X-Kept", "yes")
			_, _ = io.WriteString(w, "final")
		case "/copied":
			_, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("copied"))
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		}
	})
	if res, body := ask(t, http.MethodGet, s.URL+"/early", nil); res.StatusCode != 200 || body != "final" || res.Header.Get("X-Kept") != "yes" {
		t.Errorf("after early hints: %d %q", res.StatusCode, body)
	}
	if res, body := ask(t, http.MethodGet, s.URL+"/copied", nil); res.StatusCode != 200 || body != "copied" {
		t.Errorf("copied: %d %q", res.StatusCode, body)
	}
	if res, _ := ask(t, http.MethodGet, s.URL+"/teapot", nil); res.StatusCode != http.StatusTeapot {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestStreamsAreNotBuffered(t *testing.T) {
	for _, conceals := range []bool{false, true} {
		next := make(chan struct{})
		s := server(t, conceals, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 3 {
				fmt.Fprintf(w, "data: %d\n\n", i)
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				<-next
			}
		})
		res, err := http.Get(s.URL + "/events")
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(res.Body)
		for i := range 3 {
			// The next event is sent only after this one has arrived.
			if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) {
				t.Fatalf("event %d: %q %v", i, lines.Text(), lines.Err())
			}
			lines.Scan()
			next <- struct{}{}
		}
		res.Body.Close()
	}
}

func TestHijackedConnectionsWork(t *testing.T) {
	for _, conceals := range []bool{false, true} {
		s := server(t, conceals, func(w http.ResponseWriter, r *http.Request) {
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_ = rw.Flush()
			line, _ := rw.ReadString('\n')
			_, _ = rw.WriteString(line)
			_ = rw.Flush()
		})
		conn, err := net.DialTimeout("tcp", s.Listener.Addr().String(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(conn, "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		r := bufio.NewReader(conn)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v, %v", res, err)
		}
		fmt.Fprint(conn, "hello\n")
		if line, err := r.ReadString('\n'); err != nil || line != "hello\n" {
			t.Errorf("echo %q, %v", line, err)
		}
		conn.Close()
	}
}

// leaving is a host that leaves every answer to somebody else.
type leaving struct {
	calls []string
}

func (l *leaving) Prepare(r *filter.Request) {
	l.calls = append(l.calls, "prepare")
	r.Client = netip.MustParseAddr("192.0.2.1")
}

func (l *leaving) Decided(r *filter.Request, d filter.Decision) {
	l.calls = append(l.calls, "decided "+d.Verdict.String()+" "+r.Client.String())
}

func (l *leaving) Refuse(http.ResponseWriter, *filter.Request, filter.Decision, filter.Front) error {
	l.calls = append(l.calls, "refuse")
	return errors.New("left")
}

func (l *leaving) Pass(_ http.ResponseWriter, _ *filter.Request, concealing filter.Front) error {
	l.calls = append(l.calls, fmt.Sprint("pass ", concealing != nil))
	return errors.New("left")
}

// bodyReader is a stage that reads the body, and refuses what its path says.
type bodyReader struct{}

func (bodyReader) Name() string { return "payload" }

func (bodyReader) Check(r *filter.Request) (filter.Decision, error) {
	if _, _, err := r.ReadBody(4); err != nil {
		return filter.Decision{}, err
	}
	if r.Path == "/refused" {
		return filter.Decision{Reason: filter.ReasonPayload}, nil
	}
	return filter.Next(), nil
}

// TestServeHost holds the order of calls, and that whoever answers in the host's
// place finds the whole body, and a connection that ends behind a client that was
// not asked for its body.
func TestServeHost(t *testing.T) {
	for path, want := range map[string][]string{
		"/refused": {"prepare", "decided block 192.0.2.1", "refuse"},
		"/":        {"prepare", "decided allow 192.0.2.1", "pass true"},
	} {
		var e filter.Engine
		e.Swap(filter.NewPipeline(filter.Config{Steps: []filter.Step{{Stage: bodyReader{}}}, Conceals: true}))
		host := new(leaving)
		hr := httptest.NewRequest("POST", path, strings.NewReader("the whole body"))
		hr.Header.Set("Expect", "100-continue")
		w := httptest.NewRecorder()
		if err := ServeHost(&e, w, hr, host); err == nil || err.Error() != "left" {
			t.Errorf("%s: error %v", path, err)
		}
		if !slices.Equal(host.calls, want) {
			t.Errorf("%s: calls %q, want %q", path, host.calls, want)
		}
		if w.Header().Get("Connection") != "close" {
			t.Errorf("%s: the connection goes on: %v", path, w.Header())
		}
		if body, err := io.ReadAll(hr.Body); string(body) != "the whole body" || err != nil {
			t.Errorf("%s: body %q, %v", path, body, err)
		}
	}
}

package traefik

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moatwaf/moat/deploy/decide"
	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/filter/cors"
	"github.com/moatwaf/moat/filter/front"
)

// bodyLimit is how much of a body the stage of these tests reads.
const bodyLimit = 1 << 10

// stage decides by path, and by bodies of text. It notes what it sees.
type stage struct {
	seen     atomic.Pointer[http.Request]
	client   atomic.Pointer[string]
	decided  atomic.Int64
	ended    atomic.Int64
	status   atomic.Int64
	finished chan struct{}
}

func (s *stage) Name() string { return "access" }

func (s *stage) Check(r *filter.Request) (filter.Decision, error) {
	s.decided.Add(1)
	seen := r.HTTP.Clone(context.Background())
	s.seen.Store(seen)
	client := r.Client.String()
	s.client.Store(&client)
	if strings.HasPrefix(r.HTTP.Header.Get("Content-Type"), "text/") {
		b, _, err := r.ReadBody(bodyLimit)
		switch {
		case filter.BodyTooLarge(err):
			return filter.Decision{Verdict: filter.Block, Reason: filter.ReasonOversize}, nil
		case err != nil:
			return filter.Decision{Verdict: filter.Block, Reason: filter.ReasonMalformed}, nil
		case strings.Contains(string(b), "attack"):
			return filter.Decision{Verdict: filter.Block, Reason: filter.ReasonPayload}, nil
		}
	}
	switch r.Path {
	case "/blocked":
		return filter.Decision{Verdict: filter.Block, Reason: filter.ReasonRule, Rule: "secret-rule-name"}, nil
	case "/hidden":
		return filter.Decision{Verdict: filter.Block, Reason: filter.ReasonConcealed}, nil
	case "/login":
		return filter.Decision{Verdict: filter.Challenge, Reason: filter.ReasonNoCredentials, Challenges: []string{`Bearer realm="test"`, `Basic realm="test"`}}, nil
	case "/known":
		r.Identity = &filter.Identity{Subject: "anna", Method: "basic"}
	case "/limited":
		r.Announce(filter.Limit{Tier: "t", Quota: 10, Window: time.Minute, Remaining: 9})
	case "/counted":
		r.Defer(s, filter.Token{})
	case "/status":
		r.Defer(s, filter.Token{})
		r.AwaitStatus()
	}
	return filter.Next(), nil
}

// Finish implements filter.Finisher.
func (s *stage) Finish(_ filter.Token, status int) {
	s.ended.Add(1)
	s.status.Store(int64(status))
	s.finished <- struct{}{}
}

// world is a daemon, its stage, and the plugin in front of an upstream.
type world struct {
	stage  *stage
	engine *filter.Engine
	socket string
	daemon *http.Server

	accepted atomic.Int64 // connections
	release  func()       // takes the socket file away
}

func newWorld(t testing.TB, conceals bool) *world {
	t.Helper()
	w := &world{
		stage:  &stage{finished: make(chan struct{}, 64)},
		engine: new(filter.Engine),
		socket: filepath.Join(t.TempDir(), "moat.sock"),
	}
	origins, err := cors.New(cors.Config{Origins: []string{"https://app.example.com"}, Expose: []string{"X-Total"}})
	if err != nil {
		t.Fatal(err)
	}
	identity, err := auth.NewIdentityHeaders(map[string]string{"X-Remote-User": "subject"})
	if err != nil {
		t.Fatal(err)
	}
	w.engine.Swap(filter.NewPipeline(filter.Config{
		Steps:    []filter.Step{{Stage: w.stage}},
		Front:    front.New(front.Config{CORS: origins, Identity: identity}),
		Conceals: conceals,
	}))
	w.start(t)
	t.Cleanup(func() { w.stop(t) })
	return w
}

func (w *world) start(t testing.TB) {
	t.Helper()
	l, release, err := decide.ListenUnix(w.socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	l = countingListener{l, &w.accepted}
	w.release = release
	w.daemon = decide.NewServer(decide.New(decide.Options{Engine: w.engine}), "unix", nil, nil)
	go func(s *http.Server) {
		if err := s.Serve(decide.Listen(s, l)); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}(w.daemon)
}

// countingListener counts the connections that it accepts.
type countingListener struct {
	net.Listener
	n *atomic.Int64
}

// Accept implements net.Listener.
func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

func (w *world) stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w.release()
	if err := w.daemon.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// plugin returns the middleware in front of next; change changes its configuration.
func (w *world) plugin(t testing.TB, next http.HandlerFunc, change func(*Config)) http.Handler {
	t.Helper()
	config := CreateConfig()
	config.Socket = "unix:" + w.socket
	if change != nil {
		change(config)
	}
	h, err := New(context.Background(), next, config, "test")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// traefik returns the URL of a server with the middleware. Its entry point adds
// what Traefik's adds.
func traefik(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ip, _, _ := net.SplitHostPort(r.RemoteAddr)
		r.Header.Set("X-Real-Ip", ip)
		r.Header.Set("X-Forwarded-Proto", "http")
		r.Header.Set("X-Forwarded-Host", r.Host)
		r.Header.Set("X-Forwarded-Port", "80")
		r.Header.Set("X-Forwarded-Server", "traefik-1")
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// do sends a request and returns the answer and its content.
func do(t testing.TB, method, url string, body io.Reader, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
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

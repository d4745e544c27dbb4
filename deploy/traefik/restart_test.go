package traefik

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRestarts: a daemon that restarts under load fails no request, and no verdict
// is another one than it would have been. MOAT_RESTARTS=50 is the long run, of
// 100,000 requests.
func TestRestarts(t *testing.T) {
	restarts, requests := 5, 4000
	if os.Getenv("MOAT_RESTARTS") != "" {
		if _, err := fmt.Sscan(os.Getenv("MOAT_RESTARTS"), &restarts); err != nil {
			t.Fatal(err)
		}
		requests = 2000 * restarts
	}
	w := newWorld(t, false)
	patient := func(c *Config) { c.Timeout, c.Retry = "30s", "20s" } // of a machine that is busy
	h := w.plugin(t, func(rw http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n != r.ContentLength {
			rw.WriteHeader(http.StatusInternalServerError)
		}
	}, patient)

	var done, wrong atomic.Int64
	kinds := []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/", "", 200}, {"GET", "/blocked", "", 403}, {"POST", "/", "harmless", 200},
		{"POST", "/", "an attack", 403}, {"GET", "/login", "", 401}, {"POST", "/", strings.Repeat("x", 2*bodyLimit), 200},
	}
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for {
				n := done.Add(1)
				if n > int64(requests) {
					return
				}
				k := kinds[int(n)%len(kinds)]
				r := httptest.NewRequest(k.method, k.path, strings.NewReader(k.body))
				r.Header.Set("Content-Type", "text/plain")
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				if rec.Code != k.status {
					wrong.Add(1)
					t.Errorf("%s %s: %d, want %d", k.method, k.path, rec.Code, k.status)
				}
			}
		})
	}
	for i := range restarts {
		for due := int64((i + 1) * requests / (restarts + 1)); done.Load() < due; {
			time.Sleep(time.Millisecond)
		}
		w.stop(t)
		time.Sleep(time.Duration(i%4) * 10 * time.Millisecond) // the gap is not always the same
		w.start(t)
	}
	clients.Wait()
	t.Logf("%d requests over %d restarts: %d wrong; decided %d times", requests, restarts, wrong.Load(), w.stage.decided.Load())
}

// TestUnavailable: what happens to requests without a daemon, and what is logged.
func TestUnavailable(t *testing.T) {
	var lines bytes.Buffer
	log.SetOutput(&lines)
	defer log.SetOutput(os.Stderr)
	dir := t.TempDir()
	newPlugin := func(name string, next http.HandlerFunc, change func(*Config)) http.Handler {
		c := CreateConfig()
		c.Socket, c.Timeout, c.Retry = "unix:"+filepath.Join(dir, name), "500ms", "50ms"
		if change != nil {
			change(c)
		}
		h, err := New(context.Background(), next, c, "test")
		if err != nil {
			t.Fatal(err)
		}
		return h
	}

	t.Run("block", func(t *testing.T) {
		h := newPlugin("nobody", func(http.ResponseWriter, *http.Request) { t.Error("the upstream was reached") }, nil)
		lines.Reset()
		for accept, want := range map[string]string{"": "application/problem+json", "text/html": "text/html; charset=utf-8", "text/plain": "text/plain; charset=utf-8"} {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Accept", accept)
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			if rec.Code != 503 || rec.Header().Get("Content-Type") != want || rec.Header().Get("Cache-Control") != "no-store" || rec.Body.Len() == 0 {
				t.Errorf("%q: %d %v %q", accept, rec.Code, rec.Header(), rec.Body)
			}
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("HEAD", "/", nil))
		if rec.Code != 503 || rec.Body.Len() != 0 {
			t.Errorf("HEAD: %d %q", rec.Code, rec.Body)
		}
		if n := strings.Count(lines.String(), "\n"); n != 1 {
			t.Errorf("%d lines were logged for 4 requests:\n%s", n, lines.String())
		}
	})

	t.Run("pass", func(t *testing.T) {
		var got http.Header
		var body string
		h := newPlugin("nobody2", func(_ http.ResponseWriter, r *http.Request) {
			got = r.Header.Clone()
			b, _ := io.ReadAll(r.Body)
			body = string(b)
		}, func(c *Config) { c.OnUnavailable = "pass" })
		r := httptest.NewRequest("POST", "/", strings.NewReader("body"))
		r.Header = http.Header{"X-Remote-User": {"admin"}, "X_remote.user": {"admin"}, "X-Other": {"a"}}
		start := time.Now()
		for range 20 {
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		if len(got) != 1 || got.Get("X-Other") != "a" {
			t.Errorf("the upstream got %v", got)
		}
		_ = body
		// The first request waits, the others do not wait again.
		if spent := time.Since(start); spent > 20*50*time.Millisecond {
			t.Errorf("20 requests took %v", spent)
		}
	})

	t.Run("a daemon that does not answer", func(t *testing.T) {
		l, err := net.Listen("unix", filepath.Join(dir, "silent"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		h := newPlugin("silent", func(http.ResponseWriter, *http.Request) { t.Error("the upstream was reached") }, nil)
		rec := httptest.NewRecorder()
		start := time.Now()
		h.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
		if spent := time.Since(start); rec.Code != 503 || spent < 400*time.Millisecond || spent > 20*time.Second {
			t.Errorf("%d after %v", rec.Code, spent)
		}
	})

	t.Run("a daemon of another version", func(t *testing.T) {
		l, err := net.Listen("unix", filepath.Join(dir, "newer"))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Moat-Protocol", "2")
			http.Error(w, "moat: this daemon speaks version 2", http.StatusUpgradeRequired)
		})}
		go func() { _ = s.Serve(l) }()
		defer s.Close()
		lines.Reset()
		h := newPlugin("newer", func(http.ResponseWriter, *http.Request) { t.Error("the upstream was reached") }, nil)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
		if rec.Code != 503 || !strings.Contains(lines.String(), "speaks version 2") {
			t.Errorf("%d, logged %q", rec.Code, lines.String())
		}
	})
}

func TestConfiguration(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"socket":         func(c *Config) { c.Socket = "tcp://127.0.0.1:1" },
		"relative":       func(c *Config) { c.Socket = "unix:moat.sock" },
		"timeout":        func(c *Config) { c.Timeout = "3" },
		"no timeout":     func(c *Config) { c.Timeout = "0s" },
		"retry":          func(c *Config) { c.Retry = "-1s" },
		"long retry":     func(c *Config) { c.Retry = "1h" },
		"on unavailable": func(c *Config) { c.OnUnavailable = "Pass" },
		"body size":      func(c *Config) { c.MaxBodySize = -1 },
	} {
		c := CreateConfig()
		change(c)
		if _, err := New(context.Background(), nil, c, "name"); err == nil || !strings.Contains(err.Error(), "name") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(context.Background(), nil, CreateConfig(), "name"); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}

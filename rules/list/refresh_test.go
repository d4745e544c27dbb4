package list

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeServer is a transport that answers from memory, so that time can be fake.
type fakeServer struct {
	mu     *sync.Mutex // guards what answer reads, and times; may be nil
	answer func(*http.Request) (int, string)
	times  []time.Time
}

func (f *fakeServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.mu != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
	}
	f.times = append(f.times, time.Now())
	code, body := f.answer(r)
	if code == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{}, Request: r}, nil
}

func TestRefresher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = time.Hour
		// The test holds the lock except while it sleeps, and the refresher's
		// callbacks take it.
		var mu sync.Mutex
		mu.Lock()
		defer mu.Unlock()
		code, body := 200, "192.0.2.1\n"
		server := &fakeServer{answer: func(*http.Request) (int, string) { return code, body }}
		server.mu = &mu
		var faults []error
		var changes []*Set
		mu.Unlock()
		r, err := NewRefresher(t.Context(), Source{
			URL: "https://lists.example/drop?key=hunter2", Every: every, Transport: server,
			OnError: func(err error) { mu.Lock(); defer mu.Unlock(); faults = append(faults, err) },
		}, func(s *Set) { mu.Lock(); defer mu.Unlock(); changes = append(changes, s) })
		mu.Lock()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		sleep := func(d time.Duration) {
			mu.Unlock()
			time.Sleep(d)
			synctest.Wait()
			mu.Lock()
		}
		contains := func(addr string, want bool) {
			t.Helper()
			if got := r.Contains(netip.MustParseAddr(addr)); got != want {
				t.Errorf("Contains(%s) = %v", addr, got)
			}
		}
		contains("192.0.2.1", true)

		// The same content, in other words: no change is told.
		body = "# renewed\n192.0.2.1/32\n"
		sleep(every * 12 / 10)
		if len(server.times) != 2 || len(changes) != 0 {
			t.Fatalf("%d requests, %d changes", len(server.times), len(changes))
		}
		if gap := server.times[1].Sub(server.times[0]); gap < every*9/10 || gap > every*11/10 {
			t.Errorf("asked after %v", gap)
		}

		body = "192.0.2.2\n"
		sleep(every * 11 / 10)
		contains("192.0.2.1", false)
		contains("192.0.2.2", true)
		if len(changes) != 1 || changes[0] != r.Set() || r.Len() != 1 {
			t.Errorf("%d changes", len(changes))
		}

		// Bad answers leave the list in force, and are asked again sooner, with
		// growing waits.
		for _, bad := range []struct {
			code int
			body string
		}{{500, ""}, {200, ""}, {200, "192.0.2.0/33\n"}, {0, ""}} {
			code, body = bad.code, bad.body
			before := len(faults)
			sleep(every * 11 / 10)
			contains("192.0.2.2", true)
			if len(faults) == before {
				t.Errorf("%+v: nobody was told", bad)
			}
		}
		for _, err := range faults {
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the fault tells the key: %v", err)
			}
		}
		n := len(server.times)
		waits := make([]time.Duration, 0, n)
		for i := 1; i < n; i++ {
			waits = append(waits, server.times[i].Sub(server.times[i-1]).Round(time.Second))
		}
		if n < 9 || waits[3] > 67*time.Second || waits[4] < waits[3] || waits[n-2] > every*11/10 {
			t.Errorf("asked with waits of %v", waits)
		}
		if len(changes) != 1 {
			t.Errorf("%d changes", len(changes))
		}

		code, body = 200, "192.0.2.3\n"
		sleep(every * 12 / 10)
		contains("192.0.2.3", true)
		cancel()
		mu.Unlock()
		<-done
		mu.Lock()
	})
}

// TestRefresherAfterBadStart asserts that a list that came from disk because the
// server was down is asked for again within a minute or so.
func TestRefresherAfterBadStart(t *testing.T) {
	f := newFeed(t, text("192.0.2.1\n"))
	s := f.source(t)
	s.Every = 24 * time.Hour
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	age(t, &s, 48*time.Hour)
	s.Transport = &fakeServer{answer: func(*http.Request) (int, string) { return 0, "" }}
	r, err := NewRefresher(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Contains(netip.MustParseAddr("192.0.2.1")) {
		t.Error("the copy on disk is not in force")
	}
	if w := r.wait(1); !r.stale || w < 54*time.Second || w > 66*time.Second {
		t.Errorf("stale %v, the next question is after %v", r.stale, w)
	}
	// A fresh copy is asked for when its time has come, not a whole interval
	// after the start.
	s.Every = 72 * time.Hour
	r, err = NewRefresher(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if w := r.wait(0); r.stale || w < 16*time.Hour || w > 32*time.Hour {
		t.Errorf("stale %v, the next question is after %v", r.stale, w)
	}
}

func TestRefresherOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		server := &fakeServer{answer: func(*http.Request) (int, string) { return 200, "192.0.2.1\n" }}
		s := Source{URL: "https://lists.example/a", CacheDir: dir, Transport: server}
		if _, err := s.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Offline = true
		r, err := NewRefresher(t.Context(), s, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Hour)
		defer cancel()
		r.Run(ctx)
		if len(server.times) != 1 {
			t.Errorf("%d requests", len(server.times))
		}
	})
}

func TestNewRefresherRefuses(t *testing.T) {
	for name, s := range map[string]Source{
		"file":         {File: "testdata/good/plain.netset"},
		"bad interval": {URL: "https://lists.example/a", Every: time.Second},
		"server down":  {URL: "https://lists.example/a", Transport: &fakeServer{answer: func(*http.Request) (int, string) { return 0, "" }}},
	} {
		if r, err := NewRefresher(t.Context(), s, nil); err == nil || r != nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

// TestRefresherIsSafe reads while the list changes; it is for the race detector.
func TestRefresherIsSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		server := &fakeServer{answer: func(*http.Request) (int, string) {
			if n.Add(1)%2 == 0 {
				return 200, "192.0.2.1\n192.0.2.7\n"
			}
			return 200, "192.0.2.1\n"
		}}
		r, err := NewRefresher(t.Context(), Source{URL: "https://lists.example/a", Every: MinEvery, Transport: server}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				if !r.Contains(addr4(0xc0000201)) || r.Len() == 0 {
					t.Error("the list was gone for a moment")
				}
				time.Sleep(time.Second)
			}
		}()
		r.Run(ctx)
		<-done
		if n.Load() < 50 {
			t.Errorf("%d refreshes", n.Load())
		}
	})
}

package list

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func TestHangingServerDoesNotHoldUpWhatHasACopy(t *testing.T) {
	old := patience
	patience = 200 * time.Millisecond
	defer func() { patience = old }()
	var hang atomic.Bool
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "192.0.2.1")
		if hang.Load() { // in the middle of the answer
			_ = http.NewResponseController(w).Flush()
			select {
			case <-end:
			case <-r.Context().Done():
			}
		}
	}))
	defer server.Close()
	defer close(end)

	var told error
	s := Source{URL: server.URL, CacheDir: t.TempDir(), Every: MinEvery, OnError: func(err error) { told = err }}
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := s.readCache()
	if err != nil {
		t.Fatal(err)
	}
	c.fetched = time.Now().Add(-time.Hour)
	if err := s.writeCache(c, nil); err != nil {
		t.Fatal(err)
	}

	hang.Store(true)
	began := time.Now()
	set, err := s.Load(t.Context())
	if err != nil || set.Len() != 1 || told == nil {
		t.Errorf("%v, %v, told %v; want the copy, and a report", set, err, told)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/websocket"
)

// upstream is the server behind the filter.
type upstream struct {
	*httptest.Server

	mu   sync.Mutex
	rows map[string]bool // X-Row of requests that arrived

	events chan string // what /events sends next; closed: the end
}

func newUpstream(t *testing.T) *upstream {
	u := &upstream{rows: map[string]bool{}, events: make(chan string)}
	mux := http.NewServeMux()
	for _, path := range []string{"/{$}", "/api/me", "/api/admin/report", "/api/admin/users", "/api/projects/secret", "/basic/me"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if preflight(w, r) {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, "upstream: "+r.URL.Path+"\n")
		})
	}
	mux.HandleFunc("POST /digest", digest)
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		// Read to the end first: HTTP/1 ends the reading when the answer begins.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = w.Write(body)
	})
	mux.HandleFunc("GET /download", download)
	mux.HandleFunc("GET /events", u.serveEvents)
	mux.Handle("GET /socket", websocket.Handler(func(conn *websocket.Conn) { _, _ = io.Copy(conn, conn) }))
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if row := r.Header.Get("X-Row"); row != "" {
			u.mu.Lock()
			u.rows[row] = true
			u.mu.Unlock()
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(u.Close)
	return u
}

// saw reports whether a request of the row arrived.
func (u *upstream) saw(row string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.rows[row]
}

// preflight answers a CORS preflight (Fetch section 3.2.2) as an application does
// that allows one origin.
func preflight(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	w.Header().Set("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin == "https://app.example.com" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
		w.Header().Set("Access-Control-Allow-Headers", "authorization")
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}

// digest answers with the length and hash of what arrived.
func digest(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	n, err := io.Copy(h, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintf(w, "%d %s", n, hex.EncodeToString(h.Sum(nil)))
}

// download sends as many chunks of 64 KiB as the query asks for, then a trailer
// with their hash.
func download(w http.ResponseWriter, r *http.Request) {
	chunks, _ := strconv.Atoi(r.URL.Query().Get("chunks"))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Trailer", "X-Digest")
	h := sha256.New()
	for i := range chunks {
		chunk := []byte(strings.Repeat(string(rune('a'+i%26)), 64<<10))
		h.Write(chunk)
		if _, err := w.Write(chunk); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
	}
	w.Header().Set("X-Digest", hex.EncodeToString(h.Sum(nil)))
}

// serveEvents sends each event when the test gives it.
func (u *upstream) serveEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	rc := http.NewResponseController(w)
	_ = rc.Flush()
	for {
		select {
		case event, ok := <-u.events:
			if !ok {
				return
			}
			_, _ = fmt.Fprintf(w, "data: %s\n\n", event)
			if rc.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

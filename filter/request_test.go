package filter

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestPeerAddr(t *testing.T) {
	tests := []struct{ remote, want string }{
		{"192.0.2.1:4711", "192.0.2.1"},
		{"[2001:db8::1]:443", "2001:db8::1"},
		{"[::ffff:192.0.2.1]:443", "192.0.2.1"},
		{"[fe80::1%eth0]:443", "fe80::1"},
		{"192.0.2.1", "192.0.2.1"},
		{"[2001:db8::1]", "2001:db8::1"},
		{"@", ""},
		{"", ""},
		{"example.com:80", ""},
	}
	for _, tt := range tests {
		var want netip.Addr
		if tt.want != "" {
			want = netip.MustParseAddr(tt.want)
		}
		if got := PeerAddr(tt.remote); got != want {
			t.Errorf("PeerAddr(%q) = %v, want %v", tt.remote, got, want)
		}
	}
}

func TestCanonicalHost(t *testing.T) {
	tests := []struct{ host, want string }{
		{"example.com", "example.com"},
		{"EXAMPLE.com:8443", "example.com"},
		{"example.com.", "example.com"},
		{"example.com.:80", "example.com"},
		{"[2001:DB8::1]:443", "2001:db8::1"},
		{"2001:db8::1", "2001:db8::1"},
		{"192.0.2.1:80", "192.0.2.1"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := CanonicalHost(tt.host); got != tt.want {
			t.Errorf("CanonicalHost(%q) = %q, want %q", tt.host, got, tt.want)
		}
	}
}

// onlyReader hides every other method, so that nothing is read by a short cut.
type onlyReader struct {
	io.Reader
	closed bool
}

func (o *onlyReader) Close() error { o.closed = true; return nil }

func TestReadBodyReplaysEveryByte(t *testing.T) {
	for _, size := range []int{0, 1, 99, 100, 101, 4096, 300_000} {
		sent := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		const limit = 100
		src := &onlyReader{Reader: iotest.HalfReader(bytes.NewReader(sent))}
		hr := httptest.NewRequest(http.MethodPost, "/", src)
		hr.ContentLength = -1
		r := NewRequest(hr, time.Now())
		data, whole, err := r.ReadBody(limit)
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if want := sent[:min(size, limit)]; !bytes.Equal(data, want) {
			t.Errorf("size %d: read %d bytes, want %d", size, len(data), len(want))
		}
		if whole != (size <= limit) {
			t.Errorf("size %d: whole is %v", size, whole)
		}
		again, _, _ := r.ReadBody(limit)
		if !bytes.Equal(again, data) {
			t.Errorf("size %d: the second read differs", size)
		}
		body := hr.Body
		r.Release()
		got, err := io.ReadAll(body)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("size %d: replayed %d bytes, error %v", size, len(got), err)
		}
		if err := body.Close(); err != nil || !src.closed {
			t.Errorf("size %d: the original body was not closed (%v)", size, err)
		}
	}
}

func TestReadBodyErrorIsTheClients(t *testing.T) {
	broken := errors.New("unexpected EOF")
	src := io.NopCloser(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)))
	hr := httptest.NewRequest(http.MethodPost, "/", src)
	r := NewRequest(hr, time.Now())
	defer r.Release()
	_, _, err := r.ReadBody(100)
	var bodyErr *BodyError
	if !errors.As(err, &bodyErr) || !errors.Is(err, broken) {
		t.Fatalf("error %v, want a BodyError around %v", err, broken)
	}
	if _, err := io.ReadAll(hr.Body); !errors.Is(err, broken) {
		t.Errorf("the replay of a broken body ends with %v, want %v", err, broken)
	}
}

func TestReadBodyWithoutBody(t *testing.T) {
	r := NewRequest(httptest.NewRequest(http.MethodGet, "/", nil), time.Now())
	defer r.Release()
	if data, whole, err := r.ReadBody(10); len(data) != 0 || !whole || err != nil {
		t.Errorf("got %q, %v, %v", data, whole, err)
	}
}

func TestBodyTooLarge(t *testing.T) {
	hr := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 200)))
	hr.Body = http.MaxBytesReader(httptest.NewRecorder(), hr.Body, 50)
	r := NewRequest(hr, time.Now())
	defer r.Release()
	if _, _, err := r.ReadBody(100); !BodyTooLarge(err) {
		t.Errorf("error %v is not recognised as a size limit", err)
	}
}

func TestRequestIDIsStableAndUnique(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		r := NewRequest(httptest.NewRequest(http.MethodGet, "/", nil), time.Now())
		id := r.ID()
		if len(id) != 32 || id != r.ID() || seen[id] {
			t.Fatalf("id %q, then %q", id, r.ID())
		}
		seen[id] = true
		r.Release()
	}
}

func TestReleaseForgetsEverything(t *testing.T) {
	r := NewRequest(httptest.NewRequest(http.MethodGet, "/", nil), time.Now())
	r.Identity = &Identity{Subject: "anna"}
	r.Client = netip.MustParseAddr("192.0.2.1")
	r.Detect(Decision{Rule: "x"})
	r.ID()
	r.Release()
	if r.Identity != nil || r.Client.IsValid() || len(r.Detected) != 0 || r.HTTP != nil || r.id != "" {
		t.Errorf("a released request still holds %+v", r)
	}
	if kept := r.Detected[:1]; kept[0].Rule != "" {
		t.Error("a released request keeps an old report alive")
	}
}

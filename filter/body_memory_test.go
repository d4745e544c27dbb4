package filter

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// reader is a stage that reads bodies and refuses those that it cannot read.
type reader struct{ limit int64 }

func (reader) Name() string { return "payload" }

func (s reader) Check(r *Request) (Decision, error) {
	if _, _, err := r.ReadBody(s.limit); err != nil {
		return Decision{Verdict: Block, Reason: ReasonMalformed}, nil
	}
	return Next(), nil
}

func TestBodyMemoryIsBounded(t *testing.T) {
	old := BodyMemory
	BodyMemory = 1 << 20
	defer func() { BodyMemory = old }()
	const size = 256 << 10
	post := func(n int) *Request {
		return NewRequest(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", n))), time.Now())
	}
	p := NewPipeline(Config{Steps: []Step{{Stage: reader{size}}}})

	var under []*Request
	refused := 0
	for range 20 {
		r := post(size)
		d, err := p.Decide(r)
		if d.Refuses() {
			refused++
			if d.StatusCode() != http.StatusServiceUnavailable || !errors.Is(err, ErrNoRoom) {
				t.Errorf("%d, %v: want 503 and ErrNoRoom", d.StatusCode(), err)
			}
		}
		under = append(under, r)
	}
	if refused == 0 || refused == len(under) {
		t.Errorf("%d of %d bodies of 256 KiB were refused at a bound of 1 MiB", refused, len(under))
	}
	if held := bodyMemory.Load(); held > BodyMemory {
		t.Errorf("%d bytes are held, the bound is %d", held, BodyMemory)
	}
	small := post(16 << 10)
	if d, _ := p.Decide(small); d.Refuses() {
		t.Errorf("a form is refused while large bodies hold everything: %d", d.StatusCode())
	}
	small.Release()

	open := NewPipeline(Config{Steps: []Step{{Stage: reader{size}, OnError: FailOpen}}})
	passed := post(size)
	if d, _ := open.Decide(passed); d.Refuses() {
		t.Errorf("refused by a policy that fails open: %d", d.StatusCode())
	}
	if got, err := io.ReadAll(passed.HTTP.Body); err != nil || len(got) != size {
		t.Errorf("the upstream reads %d bytes, %v; want all %d", len(got), err, size)
	}
	passed.Release()

	for _, r := range under {
		r.Release()
	}
	if held := bodyMemory.Load(); held != 0 {
		t.Errorf("%d bytes are held by nobody", held)
	}
}

func TestClosingABodyLeavesItsEndToTheServer(t *testing.T) {
	closed := false
	hr := httptest.NewRequest(http.MethodPost, "/", nil)
	hr.Body = closer{strings.NewReader("0123456789"), &closed}
	hr.ContentLength = 10
	r := NewRequest(hr, time.Now())
	if _, whole, err := r.ReadBody(4); whole || err != nil {
		t.Fatal(whole, err)
	}
	if err := hr.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if closed {
		t.Error("the server's body was closed before its end")
	}
	b := make([]byte, 16)
	n, _ := hr.Body.Read(b) // what was read before the close
	n2, err := hr.Body.Read(b[n:])
	if !bytes.HasPrefix([]byte("0123456789"), b[:n+n2]) || n+n2 > 5 || err == nil {
		t.Errorf("read %q and %v behind the close", b[:n+n2], err)
	}
}

type closer struct {
	io.Reader
	closed *bool
}

func (c closer) Close() error { *c.closed = true; return nil }

func TestAsteriskIsForOptions(t *testing.T) {
	for method, want := range map[string]bool{http.MethodGet: true, http.MethodPost: true, "get": true, http.MethodOptions: false} {
		hr := httptest.NewRequest(method, "*", nil)
		hr.URL.Path = "*"
		r := NewRequest(hr, time.Now())
		d, _ := NewPipeline(Config{}).Decide(r)
		if d.Refuses() != want {
			t.Errorf("%s *: refused: %v", method, d.Refuses())
		}
		r.Release()
	}
}

// nonsense answers with a verdict that does not exist.
type nonsense struct{}

func (nonsense) Name() string                     { return "access" }
func (nonsense) Check(*Request) (Decision, error) { return Decision{Verdict: 9}, nil }

func TestUnknownVerdictBlocks(t *testing.T) {
	r := NewRequest(httptest.NewRequest(http.MethodGet, "/", nil), time.Now())
	defer r.Release()
	d, _ := NewPipeline(Config{Steps: []Step{{Stage: nonsense{}}}}).Decide(r)
	if !d.Refuses() || d.StatusCode() != http.StatusForbidden {
		t.Errorf("verdict %s, status %d", d.Verdict, d.StatusCode())
	}
}

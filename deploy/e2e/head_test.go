package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// headScenario sends HEAD and GET on one connection: a byte of content after the
// answer to HEAD would be read as the beginning of the next.
func headScenario(t *testing.T, s scenario) {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(exchangeTime)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for _, method := range []string{http.MethodHead, http.MethodGet, http.MethodHead, http.MethodGet} {
		req, err := http.NewRequest(method, s.url+"/api/me", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, req)
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		if want := int64(len("upstream: /api/me\n")); resp.StatusCode != http.StatusOK || resp.ContentLength != want {
			t.Errorf("%s: %s, length %d, want 200 and %d", method, resp.Status, resp.ContentLength, want)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		if want := method == http.MethodGet; (len(body) > 0) != want {
			t.Errorf("%s: content %q", method, body)
		}
	}
}

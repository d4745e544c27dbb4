package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestExposure asks a running moat for what it must keep to itself.
func TestExposure(t *testing.T) {
	gone := freeAddr(t) // nobody listens there
	p := startServe(t, "--upstream", "http://"+gone)

	ask := func(url, host string, header http.Header) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if header != nil {
			req.Header = header
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
		return res.StatusCode, string(b)
	}

	t.Run("the admin address answers no page that took its address", func(t *testing.T) {
		for host, want := range map[string]int{
			p.admin: 200, "localhost": 200, "LocalHost:2020": 200, "[::1]:2020": 200,
			"evil.example": 421, "evil.example:2020": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421,
		} {
			for _, path := range []string{"/moat/status", "/metrics"} {
				status, body := ask("http://"+p.admin+path, host, nil)
				if status != want || want == 421 && strings.Contains(body, "moat_") {
					t.Errorf("Host %s, %s: %d, want %d", host, path, status, want)
				}
			}
		}
	})

	t.Run("the log holds no secret while the upstream is down", func(t *testing.T) {
		status, _ := ask("http://"+p.listen+"/?token=s3cret-query", p.listen, http.Header{
			"User-Agent": {"test"}, "X-Api-Key": {"s3cret-key"}, "Authorization": {"Bearer s3cret-token"}, "Cookie": {"sid=s3cret-cookie"},
		})
		if status != http.StatusBadGateway {
			t.Errorf("status %d, want 502", status)
		}
		waitFor(t, func() bool { return strings.Contains(p.stderr.String(), "connection refused") }, "the log does not say why")
		if printed := p.stderr.String() + p.stdout.String(); strings.Contains(printed, "s3cret") {
			t.Errorf("a secret was printed:\n%s", printed)
		}
	})
}

func TestAdminRoutes(t *testing.T) {
	for addr, guarded := range map[string]bool{
		"127.0.0.1:2020": true, "localhost:2020": true, "[::1]:2020": true, "[::ffff:127.0.0.1]:2020": true, "127.9.9.9:1": true,
		":2020": false, "0.0.0.0:2020": false, "10.0.0.1:2020": false, "unix//run/moat.sock": false,
	} {
		if got := len(adminRoutes(addr)) == 2; got != guarded {
			t.Errorf("%s: guarded by name: %v, want %v", addr, got, guarded)
		}
	}
}

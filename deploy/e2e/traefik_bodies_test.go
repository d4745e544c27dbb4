package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// TestTraefikBodySizes sends bodies around the plugin's maxBodySize, of told and of
// untold length, through the interpreted plugin: what is shown to the daemon as a
// whole reaches the upstream byte for byte, one byte more is refused with 413, and
// without a bound of the plugin the policy's holds.
func TestTraefikBodySizes(t *testing.T) {
	skipShort(t)
	const most = 100
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintf(w, "%x", sha256.Sum256(body))
	}))
	defer upstream.Close()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	writeFile(t, policy, []byte("version: 1\nwaf: {engine: fast}\naudit: {file: \"off\"}\n"))
	for _, bound := range []int{0, most} {
		for _, target := range traefikTargets(t) {
			t.Run(fmt.Sprintf("%s, maxBodySize %d", target.Name(), bound), func(t *testing.T) {
				g := target.(*traefikTarget)
				g.change = func(s string) string {
					return patient(strings.Replace(s, "timeout: 3s", fmt.Sprintf("maxBodySize: %d\n          timeout: 3s", bound), 1))
				}
				addr := g.Start(t, policy, upstream.URL)
				for _, size := range []int{0, 1, most - 1, most, most + 1, 10 * most} {
					for _, told := range []bool{true, false} {
						want := http.StatusOK
						if bound > 0 && size > bound {
							want = http.StatusRequestEntityTooLarge
						}
						body := []byte("a=" + strings.Repeat("x", size))[:size]
						if got, sum := sendForm(t, addr, body, told); got != want || got == http.StatusOK && sum != fmt.Sprintf("%x", sha256.Sum256(body)) {
							t.Errorf("%d bytes, length told %v: %d %q, want %d", size, told, got, sum, want)
						}
					}
				}
			})
		}
	}
}

// sendForm sends a form, with its length or chunked, and returns status and content
// of the answer.
func sendForm(t *testing.T, addr string, body []byte, told bool) (int, string) {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	if !told {
		r = struct{ io.Reader }{r}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(content)
}

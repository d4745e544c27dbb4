package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
)

const uploadSize = 64 << 20

// uploadScenario sends 64 MiB of a kind that no payload rule reads. They are far
// over the policy's body limit, so they arrive only if they stream.
func uploadScenario(t *testing.T, s scenario) { upload(t, s, uploadSize) }

// chunkedUploadScenario sends the same without an announced length.
func chunkedUploadScenario(t *testing.T, s scenario) { upload(t, s, -1) }

func upload(t *testing.T, s scenario, announced int64) {
	h := sha256.New()
	content := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), uploadSize), h)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/digest", content)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = announced
	req.Header.Set("Content-Type", "application/octet-stream")
	status, body := do(t, s.client, req)
	if want := fmt.Sprintf("%d %x", uploadSize, h.Sum(nil)); status != http.StatusOK || body != want {
		t.Errorf("%d %.200q, want 200 %q", status, body, want)
	}
}

// do sends a request and reads the answer.
func do(t *testing.T, client *http.Client, req *http.Request) (status int, body string) {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

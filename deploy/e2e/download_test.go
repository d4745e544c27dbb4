package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"testing"
)

// downloadScenario reads a large answer without length, and its trailer.
func downloadScenario(t *testing.T, s scenario) {
	resp, err := s.client.Get(s.url + "/download?chunks=512") // 32 MiB
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	h := sha256.New()
	n, err := io.Copy(h, resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(512 * 64 << 10); n != want {
		t.Errorf("%d bytes, want %d", n, want)
	}
	if got, want := hex.EncodeToString(h.Sum(nil)), resp.Trailer.Get("X-Digest"); got != want {
		t.Errorf("digest %s, the trailer says %q", got, want)
	}
}

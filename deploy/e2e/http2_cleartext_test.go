package e2e

import (
	"net/http"
	"strings"
	"sync"
	"testing"
)

// cleartextHTTP2Scenario speaks HTTP/2 with prior knowledge (RFC 9113 section
// 3.3), as gRPC clients inside a cluster do, with many streams at once.
func cleartextHTTP2Scenario(t *testing.T, s scenario) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			resp, err := client.Post(s.url+"/digest", "application/json", strings.NewReader(`{"a":1}`))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
				t.Errorf("%s over %s, want 200 over HTTP/2", resp.Status, resp.Proto)
			}
		})
	}
	wg.Wait()
}

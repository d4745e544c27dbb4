package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"testing"
)

// expectScenario sends a body only after 100 Continue has come (RFC 9110 section
// 10.1.1). A kind that the rules read and one that streams must both get it.
func expectScenario(t *testing.T, s scenario) {
	for _, contentType := range []string{"application/json", "application/octet-stream"} {
		t.Run(contentType, func(t *testing.T) {
			body := []byte(`{"name":"value"}`)
			m := Message{
				Method: http.MethodPost,
				Head: fmt.Appendf(nil, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
					contentType, len(body)),
				Body:  body,
				Waits: true,
			}
			a, err := Send(t.Context(), s.addr, m)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != http.StatusOK || !bytes.Equal(a.Body, body) {
				t.Errorf("%d %.200q, want 200 and the body", a.Status, a.Body)
			}
			if !slices.Contains(a.Interim, http.StatusContinue) {
				t.Errorf("interim answers %v, want 100", a.Interim)
			}
		})
	}
}

package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// eventsScenario has the upstream send each event only after the client has read
// the one before: a filter that buffers would never get the second.
func eventsScenario(t *testing.T, s scenario) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
			if line := scanner.Text(); line != "" {
				lines <- line
			}
		}
	}()
	for i := range 20 {
		event := fmt.Sprint("event ", i)
		select {
		case s.upstream.events <- event:
		case <-time.After(exchangeTime):
			t.Fatal("the upstream does not serve the stream")
		}
		select {
		case line := <-lines:
			if strings.TrimPrefix(line, "data: ") != event {
				t.Errorf("got %q, want %q", line, event)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%q did not come through", event)
		}
	}
	close(s.upstream.events)
	select {
	case line, more := <-lines:
		if more {
			t.Errorf("unexpected %q", line)
		}
	case <-time.After(5 * time.Second):
		t.Error("the end of the stream did not come through")
	}
}

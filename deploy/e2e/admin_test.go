package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestAdmin asks the admin address of "moat serve": a bad policy is told with
// its place and counted, and nothing of it is on the public address.
func TestAdmin(t *testing.T) {
	skipShort(t)
	f := newFixtures(t)
	u := newUpstream(t)
	target := &serveTarget{}
	public := "http://" + target.Start(t, f.policy, u.URL)
	admin := "http://" + target.admin
	client := newClient(t)
	ask := func(method, url string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		return do(t, client, req)
	}

	if status, body := ask("GET", admin+"/moat/status"); status != http.StatusOK || !json.Valid([]byte(body)) {
		t.Errorf("status: %d %s", status, body)
	}
	if status, body := ask("POST", admin+"/moat/reload"); status != http.StatusOK {
		t.Errorf("reload of an unchanged policy: %d %s", status, body)
	}
	writeFile(t, f.policy, []byte("version: 1\nsurprise: true\nlists:\n  bad: [300.1.2.3]\n"))
	status, body := ask("POST", admin+"/moat/reload")
	if status < 400 || !json.Valid([]byte(body)) {
		t.Errorf("reload of a bad policy: %d %s", status, body)
	}
	for _, want := range []string{"policy.yaml", `"line": 2`, "surprise", `"line": 4`, "300.1.2.3"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the faults:\n%s", want, body)
		}
	}

	// One refusal, to be counted.
	if status, _ := ask("GET", public+"/api/me"); status != http.StatusUnauthorized {
		t.Errorf("public: %d, want 401", status)
	}
	_, metrics := ask("GET", admin+"/metrics")
	for _, want := range []string{
		`moat_requests_total{reason="no-credentials",stage="auth",verdict="challenge"} 1`,
		`moat_policy_reloads_total{result="failed"}`,
		"moat_decision_seconds_count 1",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics:\n%s", want, moatLines(metrics))
		}
	}
	if strings.Contains(metrics, `moat_policy_reloads_total{result="failed"} 0`) {
		t.Errorf("the bad policy was not counted:\n%s", moatLines(metrics))
	}

	for _, path := range []string{"/moat/status", "/moat/reload", "/metrics"} {
		if status, body := ask("GET", public+path); status == http.StatusOK {
			t.Errorf("%s is on the public address: %.200s", path, body)
		}
	}
}

func moatLines(metrics string) string {
	var b strings.Builder
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "moat_") && !strings.Contains(line, "_bucket") {
			b.WriteString(line)
		}
	}
	return b.String()
}

package metrics

import (
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestPayloadPathsAreCounted(t *testing.T) {
	m := newMetrics(t)
	for _, p := range []Payload{
		{Path: "proved"}, {Path: "proved"}, {Path: "engine", Cause: "rule", What: "942100"}, {Path: "engine", Cause: "shape", What: "json"},
		{Path: "ended", Cause: "cost", What: "cost"}, {Path: "engine", Cause: "rule", What: "942100"}, {Path: "a new one"}, {Path: "engine"},
		{Path: "failed", Cause: "\xff"}, {Path: "followed", Cause: "rule", What: "942100"},
	} {
		m.PayloadJudged(p)
	}
	want := `
# HELP moat_payload_handed_over_total Requests that were not proved clean, by the way they took then and what stood in the way.
# TYPE moat_payload_handed_over_total counter
moat_payload_handed_over_total{cause="cost",path="ended",what="cost"} 1
moat_payload_handed_over_total{cause="rule",path="engine",what="942100"} 2
moat_payload_handed_over_total{cause="rule",path="followed",what="942100"} 1
moat_payload_handed_over_total{cause="shape",path="engine",what="json"} 1
moat_payload_handed_over_total{cause="` + "\ufffd" + `",path="failed",what=""} 1
# HELP moat_payload_requests_total Requests that the payload stage has judged, by the way they took.
# TYPE moat_payload_requests_total counter
moat_payload_requests_total{path="body"} 0
moat_payload_requests_total{path="ended"} 1
moat_payload_requests_total{path="engine"} 4
moat_payload_requests_total{path="failed"} 1
moat_payload_requests_total{path="followed"} 1
moat_payload_requests_total{path="other"} 1
moat_payload_requests_total{path="proved"} 2
`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), "moat_payload_requests_total", "moat_payload_handed_over_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestHandoversAreBounded(t *testing.T) {
	m := newMetrics(t)
	for i := range 3 * maxHandovers {
		m.PayloadJudged(Payload{Path: "engine", Cause: "rule", What: strconv.Itoa(i)})
	}
	if n := testutil.CollectAndCount(m, "moat_payload_handed_over_total"); n != maxHandovers+1 {
		t.Errorf("%d series, want %d and other", n, maxHandovers)
	}
}

func TestProvedAllocatesNothing(t *testing.T) {
	m := newMetrics(t)
	m.PayloadJudged(Payload{Path: "engine", Cause: "rule", What: "942100"})
	for name, p := range map[string]Payload{"proved": {Path: "proved"}, "handed over": {Path: "engine", Cause: "rule", What: "942100"}} {
		if n := testing.AllocsPerRun(1000, func() { m.PayloadJudged(p) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

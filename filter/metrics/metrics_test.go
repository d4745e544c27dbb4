package metrics

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/moatwaf/moat/filter"
)

func newMetrics(t testing.TB) *Metrics {
	t.Helper()
	m, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func request(t testing.TB) *filter.Request {
	r := filter.NewRequest(httptest.NewRequest("GET", "/", nil), time.Now())
	t.Cleanup(r.Release)
	return r
}

func TestEveryReasonHasACounter(t *testing.T) {
	if len(reasons) > maxReasons {
		t.Errorf("%d reasons, room for %d", len(reasons), maxReasons)
	}
	for i, name := range verdicts {
		if got := filter.Verdict(i).String(); got != name {
			t.Errorf("verdict %d: %q, filter says %q", i, name, got)
		}
	}
	for i, name := range stages {
		if name != "none" && stageIndex(name) != i {
			t.Errorf("stage %q has index %d, want %d", name, stageIndex(name), i)
		}
	}
}

func TestObserveCounts(t *testing.T) {
	m := newMetrics(t)
	r := request(t)
	panicked := &filter.StageError{Stage: "payload", Err: &filter.PanicError{Value: "x"}}
	failed := &filter.StageError{Stage: "auth", Err: fmt.Errorf("key file: %w", io.ErrUnexpectedEOF)}

	m.Observe(r, filter.Allowed(), nil)
	m.Observe(r, filter.Allowed(), errors.Join(errors.Join(nil, panicked), failed))
	m.Observe(r, filter.Decision{Stage: "tier", Reason: filter.ReasonRateLimit, Status: 429}, nil)
	m.Observe(r, filter.Decision{Verdict: filter.Challenge, Stage: "auth", Reason: filter.ReasonNoCredentials}, nil)
	m.Observe(r, filter.Decision{Stage: "somebody's", Reason: filter.ReasonRule, Status: 418}, nil)
	m.Observe(r, filter.Decision{Verdict: 77, Reason: 99}, nil)
	m.Observe(r, filter.Decision{Reason: filter.ReasonUnavailable}, errors.New("no policy is loaded"))
	r.Detect(filter.Decision{Stage: "access"})
	r.Detect(filter.Decision{Stage: "access"})
	m.Observe(r, filter.Allowed(), nil)

	want := `
# HELP moat_detected_total Refusals that rules and stages in detect mode reported and did not make.
# TYPE moat_detected_total counter
moat_detected_total{stage="access"} 2
moat_detected_total{stage="auth"} 0
moat_detected_total{stage="none"} 0
moat_detected_total{stage="other"} 0
moat_detected_total{stage="payload"} 0
moat_detected_total{stage="tier"} 0
# HELP moat_panics_total Panics of stages.
# TYPE moat_panics_total counter
moat_panics_total 1
# HELP moat_refusals_total Refused requests, by the status of the answer.
# TYPE moat_refusals_total counter
moat_refusals_total{status="400"} 0
moat_refusals_total{status="401"} 1
moat_refusals_total{status="403"} 0
moat_refusals_total{status="404"} 0
moat_refusals_total{status="413"} 0
moat_refusals_total{status="429"} 1
moat_refusals_total{status="451"} 0
moat_refusals_total{status="503"} 1
moat_refusals_total{status="other"} 1
# HELP moat_requests_total Requests, by what was decided, by whom and why.
# TYPE moat_requests_total counter
moat_requests_total{reason="invalid",stage="none",verdict="invalid"} 1
moat_requests_total{reason="no-credentials",stage="auth",verdict="challenge"} 1
moat_requests_total{reason="none",stage="none",verdict="allow"} 3
moat_requests_total{reason="rate-limit",stage="tier",verdict="block"} 1
moat_requests_total{reason="rule",stage="other",verdict="block"} 1
moat_requests_total{reason="unavailable",stage="none",verdict="block"} 1
# HELP moat_stage_errors_total Errors of stages, panics among them.
# TYPE moat_stage_errors_total counter
moat_stage_errors_total{stage="access"} 0
moat_stage_errors_total{stage="auth"} 1
moat_stage_errors_total{stage="none"} 1
moat_stage_errors_total{stage="other"} 0
moat_stage_errors_total{stage="payload"} 1
moat_stage_errors_total{stage="tier"} 0
`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), "moat_requests_total", "moat_refusals_total",
		"moat_detected_total", "moat_stage_errors_total", "moat_panics_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(m, "moat_decision_seconds"); n != 1 {
		t.Errorf("%d histograms, want 1", n)
	}
}

func TestStateOfThePolicy(t *testing.T) {
	m := newMetrics(t)
	rules := map[string]int{"access": 3, "payload": 300}
	m.PolicyLoaded(Policy{Name: "policy.yaml", Version: "c0ffee", LoadedAt: time.UnixMilli(1700000000500), Rules: rules})
	rules["access"] = 4 // the caller's own from here on
	m.PolicyFailed()
	m.SetAudit(func() Audit { return Audit{Written: 7, Dropped: 2, WriteErrors: 1} })
	m.SetTierTable(func() TierTable { return TierTable{Bytes: 4096, Limit: 64 << 20, Entries: 12, Full: 3} })
	m.SetLists(func() []List { return []List{{"drop", 1000}, {"office", 2}, {"drop", 1}} })
	m.ListRefreshed("drop", OK)
	m.ListRefreshed("drop", Unchanged)
	m.ListRefreshed("drop", Result(200))

	want := `
# HELP moat_audit_dropped_total Audit lines lost because the queue was full or the sink failed.
# TYPE moat_audit_dropped_total counter
moat_audit_dropped_total 2
# HELP moat_audit_write_errors_total Failed writes of the audit log.
# TYPE moat_audit_write_errors_total counter
moat_audit_write_errors_total 1
# HELP moat_audit_written_total Audit lines written.
# TYPE moat_audit_written_total counter
moat_audit_written_total 7
# HELP moat_list_entries Entries of a list of the policy.
# TYPE moat_list_entries gauge
moat_list_entries{list="drop"} 1001
moat_list_entries{list="office"} 2
# HELP moat_list_refresh_total Refreshes of a list, by outcome.
# TYPE moat_list_refresh_total counter
moat_list_refresh_total{list="drop",result="failed"} 0
moat_list_refresh_total{list="drop",result="ok"} 1
moat_list_refresh_total{list="drop",result="unchanged"} 2
# HELP moat_policy_info The policy in force.
# TYPE moat_policy_info gauge
moat_policy_info{name="policy.yaml",version="c0ffee"} 1
# HELP moat_policy_loaded_timestamp_seconds When the policy in force was loaded, in Unix time.
# TYPE moat_policy_loaded_timestamp_seconds gauge
moat_policy_loaded_timestamp_seconds 1.7000000005e+09
# HELP moat_policy_reloads_total Policies read, by whether they came into force.
# TYPE moat_policy_reloads_total counter
moat_policy_reloads_total{result="failed"} 1
moat_policy_reloads_total{result="ok"} 1
# HELP moat_policy_rules Rules of the policy in force, by kind.
# TYPE moat_policy_rules gauge
moat_policy_rules{kind="access"} 3
moat_policy_rules{kind="payload"} 300
# HELP moat_tier_table_bytes Memory that the tables of the rate tiers hold.
# TYPE moat_tier_table_bytes gauge
moat_tier_table_bytes 4096
# HELP moat_tier_table_entries Clients in the tables of the rate tiers.
# TYPE moat_tier_table_entries gauge
moat_tier_table_entries 12
# HELP moat_tier_table_full_total Times that a new client found the tables of the rate tiers full.
# TYPE moat_tier_table_full_total counter
moat_tier_table_full_total 3
# HELP moat_tier_table_limit_bytes Memory that the tables of the rate tiers may hold.
# TYPE moat_tier_table_limit_bytes gauge
moat_tier_table_limit_bytes 6.7108864e+07
`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), "moat_audit_dropped_total", "moat_audit_write_errors_total",
		"moat_audit_written_total", "moat_list_entries", "moat_list_refresh_total", "moat_policy_info",
		"moat_policy_loaded_timestamp_seconds", "moat_policy_reloads_total", "moat_policy_rules", "moat_tier_table_bytes",
		"moat_tier_table_entries", "moat_tier_table_full_total", "moat_tier_table_limit_bytes"); err != nil {
		t.Error(err)
	}
}

func TestNamesThatAreNoTextDoNotFailTheCollection(t *testing.T) {
	m := newMetrics(t)
	m.PolicyLoaded(Policy{Name: "\xff", Rules: map[string]int{"\xfe": 1, "\xfd": 2}})
	m.ListRefreshed("\xff", OK)
	m.SetLists(func() []List { return []List{{"\xff", 1}} })
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestListsAreBounded(t *testing.T) {
	m := newMetrics(t)
	for i := range 2 * maxLists {
		m.ListRefreshed(fmt.Sprint(i), OK)
	}
	if n := testutil.CollectAndCount(m, "moat_list_refresh_total"); n != (maxLists+1)*len(results) {
		t.Errorf("%d series, want %d lists and other", n, maxLists)
	}
}

func TestOneObjectInManyRegistries(t *testing.T) {
	first, second := prometheus.NewRegistry(), prometheus.NewRegistry()
	m, err := New(first)
	if err != nil {
		t.Fatal(err)
	}
	m.PolicyFailed()
	for range 2 {
		if err := m.Register(second); err != nil {
			t.Fatalf("registering again: %v", err)
		}
	}
	for i, reg := range []*prometheus.Registry{first, second} {
		if n, err := testutil.GatherAndCount(reg, "moat_policy_reloads_total"); err != nil || n != 2 {
			t.Errorf("registry %d: %d series, %v", i, n, err)
		}
	}
	if _, err := New(first); err == nil {
		t.Error("other metrics of the same names were registered")
	}
}

func TestHandlerAnswersInText(t *testing.T) {
	m := newMetrics(t)
	m.Observe(request(t), filter.Allowed(), nil)
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	body := rec.Body.String()
	for _, want := range []string{
		`moat_requests_total{reason="none",stage="none",verdict="allow"} 1`,
		`moat_decision_seconds_bucket{le="1e-06"}`, `moat_decision_seconds_bucket{le="1"}`, "go_goroutines",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	if rec.Code != 200 || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/plain") {
		t.Errorf("%d %s", rec.Code, rec.Header().Get("Content-Type"))
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	m := newMetrics(t)
	r := request(t)
	r.Detect(filter.Decision{Stage: "access"})
	err := errors.Join(&filter.StageError{Stage: "payload", Err: &filter.PanicError{}}, &filter.StageError{Stage: "auth", Err: io.EOF})
	for name, f := range map[string]func(){
		"allowed": func() { m.Observe(r, filter.Allowed(), nil) },
		"refused": func() {
			m.Observe(r, filter.Decision{Stage: "payload", Reason: filter.ReasonPayload}, nil)
		},
		"failed": func() { m.Observe(r, filter.Decision{Stage: "auth", Reason: filter.ReasonUnavailable}, err) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

func TestObserveWhileCollecting(t *testing.T) {
	m := newMetrics(t)
	const workers, each = 4, 2000
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			r := filter.NewRequest(httptest.NewRequest("GET", "/", nil), time.Now())
			defer r.Release()
			for range each {
				m.Observe(r, filter.Decision{Stage: "access", Reason: filter.ReasonRule}, nil)
				m.ListRefreshed("drop", OK)
			}
		})
	}
	for range 20 {
		if testutil.CollectAndCount(m) == 0 {
			t.Error("nothing collected")
		}
	}
	wg.Wait()
	if got := m.requests[filter.Block][stageIndex("access")][filter.ReasonRule].Load(); got != workers*each {
		t.Errorf("%d counted, want %d", got, workers*each)
	}
}

func BenchmarkObserve(b *testing.B) {
	m := newMetrics(b)
	r := request(b)
	b.ReportAllocs()
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Observe(r, filter.Allowed(), nil)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				m.Observe(r, filter.Allowed(), nil)
			}
		})
	})
}

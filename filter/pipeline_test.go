package filter

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// fixedStage answers the same to every request.
type fixedStage struct {
	name  string
	d     Decision
	err   error
	boom  any
	calls int
}

func (s *fixedStage) Name() string { return s.name }

func (s *fixedStage) Check(*Request) (Decision, error) {
	s.calls++
	if s.boom != nil {
		panic(s.boom)
	}
	return s.d, s.err
}

func newTestRequest(t *testing.T, target string) *Request {
	t.Helper()
	r := NewRequest(httptest.NewRequest(http.MethodGet, target, nil), time.Unix(1_700_000_000, 0))
	t.Cleanup(r.Release)
	return r
}

func TestZeroValuesFailClosed(t *testing.T) {
	var v Verdict
	if v != Block {
		t.Errorf("zero Verdict is %v, want block", v)
	}
	if d := (Decision{}); !d.Refuses() || d.StatusCode() != http.StatusForbidden {
		t.Errorf("zero Decision: refuses %v with %d, want 403", d.Refuses(), d.StatusCode())
	}
	for name, p := range map[string]*Pipeline{"nil": nil, "zero": {}} {
		d, err := p.Decide(newTestRequest(t, "/"))
		if d.Verdict != Block || d.StatusCode() != http.StatusServiceUnavailable || err == nil {
			t.Errorf("%s pipeline: %v %d, error %v; want block 503 and an error", name, d.Verdict, d.StatusCode(), err)
		}
	}
	var e Engine
	if d := e.Decide(newTestRequest(t, "/")); d.StatusCode() != http.StatusServiceUnavailable {
		t.Errorf("zero Engine: status %d, want 503", d.StatusCode())
	}
}

func TestPipelineOrder(t *testing.T) {
	next := Decision{Verdict: Continue}
	block := Decision{Verdict: Block, Reason: ReasonRule}
	challenge := Decision{Verdict: Challenge, Reason: ReasonNoCredentials}
	failure := errors.New("database is gone")

	tests := []struct {
		name      string
		steps     []Step
		verdict   Verdict
		status    int
		stage     string
		wantCalls []int
		wantErr   bool
		detected  int
	}{
		{
			name:      "no stage objects",
			steps:     []Step{{Stage: &fixedStage{d: next}}, {Stage: &fixedStage{d: next}}},
			verdict:   Allow,
			wantCalls: []int{1, 1},
		},
		{
			name:      "the first that objects decides",
			steps:     []Step{{Stage: &fixedStage{name: "access", d: block}}, {Stage: &fixedStage{d: challenge}, Always: true}},
			verdict:   Block,
			status:    403,
			stage:     "access",
			wantCalls: []int{1, 0},
		},
		{
			name:      "allow skips filter stages and not the auth stage",
			steps:     []Step{{Stage: &fixedStage{d: Allowed()}}, {Stage: &fixedStage{d: block}}, {Stage: &fixedStage{name: "auth", d: challenge}, Always: true}},
			verdict:   Challenge,
			status:    401,
			stage:     "auth",
			wantCalls: []int{1, 0, 1},
		},
		{
			name:      "a stage in detect mode reports and goes on",
			steps:     []Step{{Stage: &fixedStage{name: "payload", d: block}, Detect: true}, {Stage: &fixedStage{d: next}}},
			verdict:   Allow,
			wantCalls: []int{1, 1},
			detected:  1,
		},
		{
			name:      "an error fails closed",
			steps:     []Step{{Stage: &fixedStage{name: "payload", d: Allowed(), err: failure}}, {Stage: &fixedStage{d: next}}},
			verdict:   Block,
			status:    503,
			stage:     "payload",
			wantCalls: []int{1, 0},
			wantErr:   true,
		},
		{
			name:      "an error fails open where the policy says so",
			steps:     []Step{{Stage: &fixedStage{name: "payload", err: failure}, OnError: FailOpen}, {Stage: &fixedStage{d: block}}},
			verdict:   Block,
			status:    403,
			wantCalls: []int{1, 1},
			wantErr:   true,
		},
		{
			name:      "a panic fails closed",
			steps:     []Step{{Stage: &fixedStage{name: "access", boom: "index out of range"}}},
			verdict:   Block,
			status:    503,
			stage:     "access",
			wantCalls: []int{1},
			wantErr:   true,
		},
		{
			name:      "a forgotten verdict blocks",
			steps:     []Step{{Stage: &fixedStage{name: "tier"}}},
			verdict:   Block,
			status:    403,
			stage:     "tier",
			wantCalls: []int{1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newTestRequest(t, "/")
			d, err := NewPipeline(Config{Steps: tt.steps}).Decide(r)
			if d.Verdict != tt.verdict || d.StatusCode() != tt.status || d.Stage != tt.stage {
				t.Errorf("decision %v %d by %q, want %v %d by %q", d.Verdict, d.StatusCode(), d.Stage, tt.verdict, tt.status, tt.stage)
			}
			if (err != nil) != tt.wantErr {
				t.Errorf("error %v, want one: %v", err, tt.wantErr)
			}
			if len(r.Detected) != tt.detected {
				t.Errorf("%d detected, want %d", len(r.Detected), tt.detected)
			}
			for i, want := range tt.wantCalls {
				if got := tt.steps[i].Stage.(*fixedStage).calls; got != want {
					t.Errorf("step %d was called %d times, want %d", i, got, want)
				}
			}
		})
	}
}

func TestPanicIsReportedWithItsStage(t *testing.T) {
	p := NewPipeline(Config{Steps: []Step{{Stage: &fixedStage{name: "payload", boom: "broken"}}}})
	_, err := p.Decide(newTestRequest(t, "/"))
	var stage *StageError
	var panicked *PanicError
	if !errors.As(err, &stage) || stage.Stage != "payload" {
		t.Errorf("error %v names no stage", err)
	}
	if !errors.As(err, &panicked) || len(panicked.Stack) == 0 {
		t.Errorf("error %v has no stack", err)
	}
}

func TestAbortHandlerPassesThrough(t *testing.T) {
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("recovered %v, want http.ErrAbortHandler", v)
		}
	}()
	p := NewPipeline(Config{Steps: []Step{{Stage: &fixedStage{boom: http.ErrAbortHandler}}}})
	_, _ = p.Decide(newTestRequest(t, "/"))
	t.Error("no panic")
}

// addrError is a resolver whose proxy says something that is no address.
type addrError struct{}

func (addrError) ClientAddr(netip.Addr, http.Header) (netip.Addr, error) {
	return netip.Addr{}, errors.New("not an address")
}

func TestUnreadableRequestIsMalformed(t *testing.T) {
	pass := []Step{{Stage: &fixedStage{d: Allowed()}}}
	t.Run("forwarding header", func(t *testing.T) {
		d, _ := NewPipeline(Config{Addr: addrError{}, Steps: pass}).Decide(newTestRequest(t, "/"))
		if d.StatusCode() != http.StatusBadRequest {
			t.Errorf("status %d, want 400", d.StatusCode())
		}
	})
	t.Run("host that resolves by itself is not overruled", func(t *testing.T) {
		r := newTestRequest(t, "/")
		r.Client = netip.MustParseAddr("192.0.2.7")
		if d, _ := NewPipeline(Config{Addr: addrError{}, Steps: pass}).Decide(r); d.Verdict != Allow {
			t.Errorf("verdict %v, want allow", d.Verdict)
		}
	})
}

type countingObserver struct{ n int }

func (o *countingObserver) Observe(*Request, Decision, error) { o.n++ }

func TestEngineSwapAndObserve(t *testing.T) {
	var e Engine
	var o countingObserver
	e.SetObservers(&o)
	blocking := NewPipeline(Config{Name: "one", Steps: []Step{{Stage: &fixedStage{}}}})
	open := NewPipeline(Config{Name: "two"})
	if old := e.Swap(blocking); old != nil {
		t.Errorf("first Swap returned %q", old.Name())
	}
	if d := e.Decide(newTestRequest(t, "/")); d.Verdict != Block {
		t.Errorf("verdict %v, want block", d.Verdict)
	}
	if old := e.Swap(open); old != blocking {
		t.Error("Swap did not return the pipeline that was in force")
	}
	if d := e.Decide(newTestRequest(t, "/")); d.Verdict != Allow {
		t.Errorf("verdict %v, want allow", d.Verdict)
	}
	if o.n != 2 {
		t.Errorf("observed %d decisions, want 2", o.n)
	}
}

type fixedLocator struct{ asked int }

func (l *fixedLocator) Locate(netip.Addr) Location {
	l.asked++
	return Location{Country: "NO", ASN: 64500}
}

// locating asks for the location twice, as two stages would.
type locating struct{}

func (locating) Name() string { return "access" }
func (locating) Check(r *Request) (Decision, error) {
	first := r.Location()
	if second := r.Location(); second != first || first.Country != "NO" {
		return Decision{}, nil
	}
	return Next(), nil
}

func TestLocationIsLookedUpOnce(t *testing.T) {
	l := new(fixedLocator)
	p := NewPipeline(Config{Locator: l, Steps: []Step{{Stage: locating{}}}})
	if d, _ := p.Decide(newTestRequest(t, "/")); d.Verdict != Allow {
		t.Errorf("verdict %v, want allow", d.Verdict)
	}
	if l.asked != 1 {
		t.Errorf("asked %d times, want once", l.asked)
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	p := NewPipeline(Config{Locator: new(fixedLocator), Steps: []Step{{Stage: locating{}}, {Stage: &fixedStage{d: Next()}}}})
	var e Engine
	e.Swap(p)
	hr := httptest.NewRequest(http.MethodGet, "http://example.com/a/b?q=1", nil)
	now := time.Now()
	allocs := testing.AllocsPerRun(1000, func() {
		r := NewRequest(hr, now)
		e.Decide(r)
		r.Release()
	})
	if allocs != 0 {
		t.Errorf("%v allocations a decision, want 0", allocs)
	}
}

func TestDetectIsBounded(t *testing.T) {
	r := newTestRequest(t, "/")
	for range 10 * maxDetected {
		r.Detect(Decision{Rule: "watch"})
	}
	if len(r.Detected) != maxDetected {
		t.Errorf("%d reports kept, want %d", len(r.Detected), maxDetected)
	}
}

func TestReasonsHaveDistinctNames(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		if r.String() == "" || r.String() == "invalid" || seen[r.String()] {
			t.Errorf("reason %d has the name %q", r, r)
		}
		seen[r.String()] = true
	}
	if got := Reason(200).String() + Verdict(200).String(); !strings.Contains(got, "invalid") {
		t.Errorf("unknown values print as %q", got)
	}
}

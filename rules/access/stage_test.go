package access

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/filtertest"
)

// on is a condition made of a function.
type on func(*filter.Request) (bool, error)

func (f on) Match(r *filter.Request) (bool, error) { return f(r) }

var errFails = errors.New("division by zero")

var (
	yes   = on(func(*filter.Request) (bool, error) { return true, nil })
	no    = on(func(*filter.Request) (bool, error) { return false, nil })
	fails = on(func(*filter.Request) (bool, error) { return false, errFails })
)

// path holds for the paths that begin with prefix.
func path(prefix string) on {
	return func(r *filter.Request) (bool, error) { return strings.HasPrefix(r.Path, prefix), nil }
}

func block(id string, m filter.Matcher) Rule { return Rule{ID: id, Matcher: m, Action: Block} }
func allow(id string, m filter.Matcher) Rule { return Rule{ID: id, Matcher: m, Action: Allow} }
func detect(r Rule) Rule                     { r.Detect = true; return r }

func TestCheck(t *testing.T) {
	const next = filter.Continue
	tests := []struct {
		name     string
		rules    []Rule
		target   string
		verdict  filter.Verdict
		rule     string
		detected string // ids, joined
		fails    bool
	}{
		{name: "no rules", verdict: next},
		{name: "none holds", rules: []Rule{block("a", no), allow("b", no)}, verdict: next},
		{name: "block", rules: []Rule{block("a", no), block("b", yes), allow("c", yes)}, verdict: filter.Block, rule: "b"},
		{name: "allow", rules: []Rule{allow("a", yes), block("b", yes)}, verdict: filter.Allow, rule: "a"},
		{name: "block without a condition", rules: []Rule{block("a", nil)}, verdict: filter.Block, rule: "a"},
		{name: "allow without a condition", rules: []Rule{allow("a", nil)}, fails: true},
		{name: "the zero rule", rules: []Rule{{}}, verdict: filter.Block},

		{name: "detect goes on", rules: []Rule{detect(block("a", yes)), allow("b", yes), detect(block("c", yes))}, verdict: filter.Allow, rule: "b", detected: "a"},
		{name: "detect of an allow", rules: []Rule{detect(allow("a", yes)), block("b", yes)}, verdict: filter.Block, rule: "b", detected: "a"},
		{name: "detect alone", rules: []Rule{detect(block("a", no)), detect(block("b", nil))}, verdict: next, detected: "b"},

		{name: "a failing block", rules: []Rule{block("a", fails)}, fails: true},
		{name: "a failing block does not let an allow pass", rules: []Rule{block("a", fails), allow("b", yes)}, fails: true},
		{name: "a failing block, then a block", rules: []Rule{block("a", fails), block("b", yes)}, verdict: filter.Block, rule: "b"},
		{name: "a failing allow", rules: []Rule{allow("a", fails)}, fails: true},
		{name: "a failing allow, then an allow", rules: []Rule{allow("a", fails), allow("b", yes)}, verdict: filter.Allow, rule: "b"},
		{name: "a failing allow, then a block", rules: []Rule{allow("a", fails), block("b", yes)}, verdict: filter.Block, rule: "b"},
		{name: "a failure behind the decision", rules: []Rule{allow("a", yes), block("b", fails)}, verdict: filter.Allow, rule: "a"},
		{name: "a failing detect", rules: []Rule{detect(block("a", fails)), allow("b", yes)}, verdict: filter.Allow, rule: "b", detected: "a"},

		{name: "one reading", target: "/public/x", rules: []Rule{allow("a", path("/public")), block("b", yes)}, verdict: filter.Allow, rule: "a"},
		{name: "block over allow", target: "/public/..;/admin", rules: []Rule{allow("a", path("/public")), block("b", path("/admin"))}, verdict: filter.Block, rule: "b"},
		{name: "block over allow, other order", target: "/public/..%2fadmin", rules: []Rule{allow("a", path("/admin")), block("b", path("/public"))}, verdict: filter.Block, rule: "b"},
		{name: "no opinion over allow", target: "/public/..;/admin", rules: []Rule{allow("a", path("/public"))}, verdict: next},
		{name: "all readings allow", target: "/public/a%2fb", rules: []Rule{allow("a", path("/public"))}, verdict: filter.Allow, rule: "a"},
		{name: "a report once", target: "/public/a%2fb", rules: []Rule{detect(block("a", path("/public")))}, verdict: next, detected: "a"},
		{name: "a report of one reading", target: "/public/..;/admin", rules: []Rule{detect(block("a", path("/admin")))}, verdict: next, detected: "a"},
		{name: "failure in one reading", target: "/public/..;/admin", fails: true, rules: []Rule{
			block("a", on(func(r *filter.Request) (bool, error) {
				if r.Path == "/admin" {
					return false, errFails
				}
				return false, nil
			})), allow("b", yes)}},
		{name: "block in one reading, failure in another", target: "/public/..;/admin", verdict: filter.Block, rule: "a", rules: []Rule{
			block("a", on(func(r *filter.Request) (bool, error) {
				if r.Path == "/admin" {
					return false, errFails
				}
				return true, nil
			}))}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.target == "" {
				tt.target = "/"
			}
			r := filtertest.Get(tt.target)
			before := r.Path
			d, err := New(tt.rules).Check(r)
			if r.Path != before {
				t.Errorf("Path = %q, was %q", r.Path, before)
			}
			var ids []string
			for _, e := range r.Detected {
				if e.Stage != Name {
					t.Errorf("report %+v", e)
				}
				ids = append(ids, e.Rule)
			}
			if got := strings.Join(ids, " "); got != tt.detected {
				t.Errorf("detected %q, want %q", got, tt.detected)
			}
			if tt.fails {
				var failed *RuleError
				if !errors.As(err, &failed) || !d.Refuses() {
					t.Errorf("Check = %+v, %v; want a RuleError", d, err)
				}
				return
			}
			if err != nil || d.Verdict != tt.verdict || d.Rule != tt.rule {
				t.Errorf("Check = %+v, %v; want %v by %q", d, err, tt.verdict, tt.rule)
			}
			if d.Verdict != next && d.Stage != Name {
				t.Errorf("the decision names the stage %q", d.Stage)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for status, want := range map[int]int{0: 403, 403: 403, 404: 404, 429: 429, 451: 451, 401: 403, 407: 403, 200: 403, 500: 403, -1: 403} {
		d, err := New([]Rule{{ID: "a", Matcher: yes, Status: status}}).Check(filtertest.Get("/"))
		if err != nil || d.StatusCode() != want || d.Reason != filter.ReasonRule {
			t.Errorf("status %d: %+v, %v; want %d", status, d, err, want)
		}
	}
}

// The failure of a rule is told to the operator beside the decision.
func TestFailureInDetail(t *testing.T) {
	d, err := New([]Rule{allow("a", fails), block("b", yes)}).Check(filtertest.Get("/"))
	if err != nil || d.Detail != `rule "a": division by zero` {
		t.Errorf("Check = %+v, %v", d, err)
	}
	r := filtertest.Get("/")
	_, _ = New([]Rule{detect(block("a", fails))}).Check(r)
	if len(r.Detected) != 1 || r.Detected[0].Reason != filter.ReasonUnavailable || r.Detected[0].Detail != `rule "a": division by zero` {
		t.Errorf("detected %+v", r.Detected)
	}
}

// In a pipeline, the policy says what a failing rule means.
func TestFailureInPipeline(t *testing.T) {
	for policy, want := range map[filter.ErrorPolicy]int{filter.FailClosed: http.StatusServiceUnavailable, filter.FailOpen: 0} {
		p := filter.NewPipeline(filter.Config{Steps: []filter.Step{{Stage: New([]Rule{block("a", fails), allow("b", yes)}), OnError: policy}}})
		d, err := p.Decide(filtertest.Get("/"))
		if d.StatusCode() != want || !errors.Is(err, errFails) {
			t.Errorf("on_error %d: %+v, %v; want the status %d", policy, d, err, want)
		}
	}
}

// The order of rules is the caller's slice at the time of New.
func TestNewCopies(t *testing.T) {
	rules := []Rule{block("a", yes)}
	s := New(rules)
	rules[0] = allow("a", yes)
	if d, _ := s.Check(filtertest.Get("/")); d.Verdict != filter.Block {
		t.Errorf("decision %+v", d)
	}
}

func TestConformance(t *testing.T) {
	filtertest.Stage(t, New(nil))
	filtertest.Stage(t, New([]Rule{
		detect(block("detect", path("/"))), block("admin", path("/admin")), allow("ws", path("/ws")), block("fails", on(func(r *filter.Request) (bool, error) {
			if slices.Contains([]string{"BREW", "HEAD"}, r.HTTP.Method) {
				return false, errFails
			}
			return false, nil
		})),
	}))
}

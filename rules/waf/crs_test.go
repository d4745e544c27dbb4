package waf

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/corazawaf/coraza/v3/types"
	"go.yaml.in/yaml/v3"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf/crscorpus"
)

// crsConfig is the policy for which the regression tests are written: every
// paranoia level, the CRS's own methods and media types.
func crsConfig(tb testing.TB) Config {
	tb.Helper()
	file, err := filepath.Abs("testdata/crs-regression.conf")
	if err != nil {
		tb.Fatal(err)
	}
	return Config{
		Paranoia: 4,
		Include:  []Include{{Name: file}, {Name: CRS}},
		Methods:  []string{"GET", "HEAD", "POST", "OPTIONS"},
		ContentTypes: []string{
			"application/x-www-form-urlencoded", "multipart/form-data", "text/xml",
			"application/xml", "application/soap+xml", "application/json",
		},
	}
}

// finding is what one case led to.
type finding struct {
	status int // 200 for a request that passed
	rules  []int
	log    []string
}

// runCase runs one case as a server with the stage would.
func runCase(s *Stage, c *crscorpus.Case) (finding, error) {
	hr, err := c.Request()
	if err != nil {
		return finding{status: err.(*crscorpus.Refused).Status}, nil
	}
	var f finding
	e := plain{waf: s.loaded.waf, arguments: s.config.arguments, observe: func(all []types.MatchedRule) {
		for _, m := range all {
			if l, ok := m.(interface{ Log() bool }); ok && l.Log() {
				f.rules = append(f.rules, m.Rule().ID())
				f.log = append(f.log, m.ErrorLog())
			}
		}
	}}
	r := filter.NewRequest(hr, testTime)
	defer r.Release()
	out, err := e.evaluate(r, func(kind bodyKind) (payload, *filter.Decision) { return s.readPayload(r, kind, s.config.BodyLimit) })
	if err != nil {
		return finding{}, err
	}
	d := out.decision()
	if f.status = d.StatusCode(); f.status == 0 {
		f.status = 200
	}
	slices.Sort(f.rules)
	f.rules = slices.Compact(f.rules)
	return f, nil
}

// differences returns in what a finding is not what the case wants.
func differences(w *crscorpus.Want, f *finding) []string {
	var diff []string
	// A status of 200 is the upstream's; a refusal by score comes instead of it,
	// as the tests run in detection only.
	if w.Status != 0 && w.Status != f.status && !(w.Status == 200 && f.status == 403) && !w.Error {
		diff = append(diff, fmt.Sprintf("status %d, want %d", f.status, w.Status))
	}
	for _, id := range w.Rules {
		if !slices.Contains(f.rules, id) {
			diff = append(diff, fmt.Sprintf("rule %d does not match", id))
		}
	}
	for _, id := range w.NotRules {
		if slices.Contains(f.rules, id) {
			diff = append(diff, fmt.Sprintf("rule %d matches", id))
		}
	}
	matches := func(expr string) bool {
		re := regexp.MustCompile(expr)
		return slices.ContainsFunc(f.log, re.MatchString)
	}
	if w.Match != "" && !matches(w.Match) {
		diff = append(diff, fmt.Sprintf("no line of the log matches %q", w.Match))
	}
	if w.NotMatch != "" && matches(w.NotMatch) {
		diff = append(diff, fmt.Sprintf("a line of the log matches %q", w.NotMatch))
	}
	if w.Isolated && len(f.rules) != 1 {
		diff = append(diff, fmt.Sprintf("rules %v, want one", f.rules))
	}
	return diff
}

// knownDifferences is testdata/known-differences.yaml.
func knownDifferences(t *testing.T) map[string]string {
	data, err := os.ReadFile("testdata/known-differences.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var groups []struct {
		Reason string   `yaml:"reason"`
		Tests  []string `yaml:"tests"`
	}
	if err := yaml.Unmarshal(data, &groups); err != nil {
		t.Fatal(err)
	}
	known := map[string]string{}
	for _, g := range groups {
		for _, id := range g.Tests {
			if known[id] != "" {
				t.Errorf("%s is listed twice", id)
			}
			if g.Reason == "" {
				t.Errorf("%s has no reason", id)
			}
			known[id] = g.Reason
		}
	}
	return known
}

// TestCRS runs the regression tests of the Core Rule Set, all but those about
// responses, through the stage.
func TestCRS(t *testing.T) {
	if testing.Short() {
		t.Skip("the whole corpus")
	}
	s := mustNew(t, unbounded(crsConfig(t)))
	known := knownDifferences(t)

	cases := crscorpus.All()
	diffs := make([][]string, len(cases))
	work := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range work {
				f, err := runCase(s, &cases[i])
				if err != nil {
					diffs[i] = []string{"error: " + err.Error()}
					continue
				}
				diffs[i] = differences(&cases[i].Want, &f)
				if len(diffs[i]) > 0 {
					diffs[i] = append(diffs[i], fmt.Sprintf("(status %d, rules %v)", f.status, f.rules))
				}
			}
		})
	}
	ran, responses := 0, 0
	for i := range cases {
		if cases[i].Response() {
			responses++
			continue
		}
		if i%raceSlows != 0 {
			delete(known, cases[i].ID)
			continue
		}
		ran++
		work <- i
	}
	close(work)
	wg.Wait()

	differ := 0
	for i := range cases {
		id := cases[i].ID
		_, listed := known[id]
		delete(known, id)
		switch {
		case len(diffs[i]) > 0 && !listed:
			t.Errorf("%s (%s): %s\n%.600q", id, cases[i].Desc, strings.Join(diffs[i], "; "), cases[i].Raw)
		case len(diffs[i]) == 0 && listed && raceSlows == 1:
			t.Errorf("%s: is a known difference and no longer differs; remove it from testdata/known-differences.yaml", id)
		case listed:
			differ++
		}
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		t.Errorf("%s: is a known difference of a test that does not exist", id)
	}
	t.Logf("%d tests, %d of them known to differ; %d tests of responses left out", ran, differ, responses)
}

// unbounded returns a configuration in which the rules decide, whatever they cost.
func unbounded(c Config) Config {
	c.Unbounded = true
	return c
}

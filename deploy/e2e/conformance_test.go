package e2e

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// later are the rows that need what moat does not have yet. A row that holds
// nevertheless fails the test, so that the table stays true.
var later = map[string]string{}

func readRows(t *testing.T) []Row {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "conformance.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rows, err := ReadRows(f)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestConformance(t *testing.T) {
	onTargets(t, func(t *testing.T, target Target) {
		f := newFixtures(t)
		u := newUpstream(t)
		addr := target.Start(t, f.policy, u.URL)
		runRows(t, addr, readRows(t), f.vars, u.saw)
	})
}

// runRows sends every row, in order, and reports each as a subtest. saw tells
// whether a row reached the upstream.
func runRows(t *testing.T, addr string, rows []Row, vars Vars, saw func(row string) bool) {
	c := conversation{addr: addr, vars: vars, rows: map[string]Row{}, answers: map[string]*Answer{}}
	for _, row := range rows {
		c.rows[row.ID] = row
		if row.Repeat != "" {
			c.spender = row
		}
	}
	for _, row := range rows {
		t.Run(row.ID, func(t *testing.T) {
			reason, isLater := later[row.ID]
			var missing *MissingError
			answer, err := c.answer(t, row)
			switch {
			case errors.As(err, &missing) && isLater:
				t.Skipf("%s: needs %s", row.Desc, reason)
			case err != nil:
				t.Fatalf("%s: %v", row.Desc, err)
			}
			var same *Answer
			if row.SameAs != "" {
				if same, err = c.answer(t, c.rows[row.SameAs]); err != nil {
					t.Fatal(err)
				}
			}
			problems := row.Check(answer, same)
			if refusal(answer.Status) && row.Repeat == "" && saw(row.ID) {
				problems = append(problems, "the request was refused and reached the upstream")
			}
			switch {
			case isLater && len(problems) == 0:
				t.Errorf("%s: holds; take it out of the table of later rows", row.Desc)
			case isLater:
				t.Skipf("%s: needs %s", row.Desc, reason)
			}
			for _, p := range problems {
				if row.Level == "should" {
					t.Logf("warning: %s (%s): %s", row.Desc, row.Ref, p)
				} else {
					t.Errorf("%s (%s): %s", row.Desc, row.Ref, p)
				}
			}
		})
	}
}

// refusal reports whether only the filter answers so. The upstream of these
// tests refuses nobody.
func refusal(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests,
		http.StatusUnavailableForLegalReasons, http.StatusServiceUnavailable:
		return true
	}
	return false
}

// conversation keeps the answers, so that rows which lean on others can be run
// alone.
type conversation struct {
	addr    string
	vars    Vars
	rows    map[string]Row
	answers map[string]*Answer
	spender Row // the row that exhausts a tier, for the rows from its address
}

func (c *conversation) answer(t *testing.T, row Row) (*Answer, error) {
	if a := c.answers[row.ID]; a != nil {
		return a, nil
	}
	if s := c.spender; row.ID != s.ID && row.Src != "" && row.Src == s.Src {
		if _, err := c.answer(t, s); err != nil {
			return nil, err
		}
	}
	m, err := row.Message(c.vars)
	if err != nil {
		return nil, err
	}
	var a *Answer
	for range m.Repeat {
		if a, err = Send(t.Context(), c.addr, m); err != nil {
			return nil, err
		}
	}
	c.answers[row.ID] = a
	return a, nil
}

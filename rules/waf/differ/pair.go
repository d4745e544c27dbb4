package differ

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moatwaf/moat/rules/waf"
)

// Pair is one set of rules in both engines.
type Pair struct {
	Setup       Setup
	plain, fast *waf.Stage
}

// Open compiles a set-up for both engines. The caller closes the pair.
func Open(s Setup) (*Pair, error) {
	plain, err := waf.New(s.Config(false))
	if err != nil {
		return nil, fmt.Errorf("plain: %w", err)
	}
	fast, err := waf.New(s.Config(true))
	if err != nil {
		_ = plain.Close()
		// What the plain engine loads the fast one must load.
		return nil, &LoadError{err}
	}
	return &Pair{Setup: s, plain: plain, fast: fast}, nil
}

// LoadError is a set of rules that only the plain engine loads: a difference.
type LoadError struct{ Err error }

// Error implements error.
func (e *LoadError) Error() string { return "only the plain engine loads it: " + e.Err.Error() }

// Close frees both engines.
func (p *Pair) Close() error { return errors.Join(p.plain.Close(), p.fast.Close()) }

// Off returns why the fast engine takes nothing away; empty if it does.
func (p *Pair) Off() string { return p.fast.GateOff() }

// Outcome is how a comparison ended.
type Outcome uint8

const (
	// Same is one answer of both engines.
	Same Outcome = iota
	// Wavers is a request to which the plain engine has several answers, the fast
	// one's among them.
	Wavers
	// Dear is a request that one engine refuses for its cost, and the other does
	// not: what an engine may cost is its own.
	Dear
	// Fails is a request on which the plain engine fails: there is nothing to hold
	// the fast one against.
	Fails
	// Differs is an answer that the plain engine never gives.
	Differs
)

// Comparison is what both engines say of a request.
type Comparison struct {
	Outcome     Outcome
	Plain, Fast Answer
}

// How often the plain engine is asked for an answer that the fast one gave. The
// order of values in its collections is random, and so are a capture and the value
// that matched last: it may have several answers, some of them rare.
const (
	leastTries = 5
	mostTries  = 300
	tryFor     = 4 * time.Second
)

// remembered is how often the fast engine is asked again, which it answers with what
// it remembers of the values: it does that from the second time on.
const remembered = 2

// Compare asks both engines.
func (p *Pair) Compare(r *Request) Comparison { return p.compare(r, mostTries) }

func (p *Pair) compare(r *Request, most int) Comparison {
	c := Comparison{Fast: ask(p.fast, r), Plain: ask(p.plain, r)}
	for n := 0; c.Plain.agrees(&c.Fast); n++ {
		if n == remembered {
			return c
		}
		c.Fast = ask(p.fast, r)
	}
	if c.Plain.Failed && !strings.HasPrefix(c.Fast.Rules, "panic") {
		c.Outcome = Fails
		return c
	}
	if c.Fast.Dear || c.Plain.Dear {
		c.Outcome = Dear
		return c
	}
	c.Outcome = Differs
	if c.Fast.Proved {
		return c // one answer with a finding is enough
	}
	stop := time.Now().Add(tryFor)
	for n := range most {
		if n >= leastTries && time.Now().After(stop) {
			break
		}
		again := ask(p.plain, r)
		if again.agrees(&c.Fast) {
			c.Outcome = Wavers
			break
		}
	}
	return c
}

// Kind names a difference, so that one fault is told once: what the fast engine
// does wrong, and the rules that only one of both has.
func (c *Comparison) Kind() string {
	switch {
	case c.Fast.Failed:
		return "failed: " + c.Fast.Rules
	case c.Plain.Failed:
		return "plain failed: " + c.Plain.Rules
	case c.Fast.Proved:
		return fmt.Sprintf("proved, but plain has %v by %s rules %s", c.Plain.Verdict, c.Plain.Rule, c.Plain.Rules)
	case c.Fast.Verdict != c.Plain.Verdict:
		return fmt.Sprintf("%v by %s, plain %v by %s", c.Fast.Verdict, c.Fast.Rule, c.Plain.Verdict, c.Plain.Rule)
	case c.Fast.Rules != c.Plain.Rules:
		return "other rules: " + difference(c.Plain.Rules, c.Fast.Rules)
	}
	return "other score, status or reason"
}

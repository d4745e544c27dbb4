package ban

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/moatwaf/moat/filter"
)

// Rule says after what an address is banned, and for how long.
type Rule struct {
	// ID is the policy's name for the rule.
	ID string
	// After refusals within Within lead to a ban, from 1 to MaxAfter.
	After  int
	Within time.Duration
	// For is how long the first ban is, and Growth by how much each that
	// follows is longer, from 1; 0 is 1.
	For    time.Duration
	Growth float64
	// Max bounds a ban; 0 is For where there is no growth, else a day. A prefix
	// that was quiet for as long after its last ban begins anew.
	Max time.Duration
	// IPv4Bits and IPv6Bits are the lengths of the prefixes that are counted
	// and banned.
	IPv4Bits, IPv6Bits int
	// Reasons are the refusals that count; none is DefaultReasons.
	Reasons []filter.Reason
}

// Bounds of a Rule.
const (
	MaxAfter  = 1000
	MaxWithin = 31 * 24 * time.Hour
)

// DefaultReasons are the refusals of the filter stages. Missing credentials and
// rights are none: whoever opens a page before logging in would be banned.
func DefaultReasons() []filter.Reason {
	return []filter.Reason{filter.ReasonRule, filter.ReasonRateLimit, filter.ReasonPayload, filter.ReasonOversize, filter.ReasonMalformed}
}

// Countable reports whether refusals for a reason may lead to a ban. Those that are
// not the client's fault may not, nor may those of a ban.
func Countable(r filter.Reason) bool {
	switch r {
	case filter.ReasonNone, filter.ReasonUnavailable, filter.ReasonBan:
		return false
	}
	return true
}

var after = regexp.MustCompile(`^([0-9]{1,6}) blocks? in ([0-9]\S{0,20})$`)

// ParseAfter reads the form "5 blocks in 1m". duration reads the time.
func ParseAfter(text string, duration func(string) (time.Duration, error)) (n int, within time.Duration, err error) {
	m := after.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, fmt.Errorf("%.40q is not of the form 5 blocks in 1m", text)
	}
	if n, err = strconv.Atoi(m[1]); err != nil {
		return 0, 0, err
	}
	if within, err = duration(m[2]); err != nil {
		return 0, 0, err
	}
	return n, within, nil
}

func (r *Rule) normalize() error {
	if r.Growth == 0 {
		r.Growth = 1
	}
	if r.Max == 0 {
		r.Max = r.For
		if r.Growth > 1 {
			r.Max = max(r.For, 24*time.Hour)
		}
	}
	if len(r.Reasons) == 0 {
		r.Reasons = DefaultReasons()
	}
	switch {
	case r.ID == "":
		return errors.New("the rule has no id")
	case r.After < 1 || r.After > MaxAfter:
		return fmt.Errorf("%d blocks are not from 1 to %d", r.After, MaxAfter)
	case r.Within < time.Second || r.Within > MaxWithin:
		return fmt.Errorf("blocks are counted in a time from 1s to 31d, not in %s", r.Within)
	case r.For < time.Second || r.For > MaxFor:
		return fmt.Errorf("a ban is from 1s to ten years, not %s", r.For)
	case !(r.Growth >= 1 && r.Growth <= 1000):
		return fmt.Errorf("growth is from 1 to 1000, not %g", r.Growth)
	case r.Max < r.For || r.Max > MaxFor:
		return fmt.Errorf("the longest ban, %s, is not from the first, %s, to ten years", r.Max, r.For)
	case r.IPv4Bits < 1 || r.IPv4Bits > 32 || r.IPv6Bits < 1 || r.IPv6Bits > 128:
		return errors.New("the prefix lengths are none")
	}
	for _, reason := range r.Reasons {
		if !Countable(reason) {
			return fmt.Errorf("refusals for the reason %s do not count", reason)
		}
	}
	return nil
}

// duration returns how long the ban of a level is.
func (r *Rule) duration(level int) time.Duration {
	d := float64(r.For) * math.Pow(r.Growth, float64(level-1))
	if d >= float64(r.Max) {
		return r.Max
	}
	return time.Duration(d)
}

// prefix returns what is counted and banned of an address.
func (r *Rule) prefix(a netip.Addr) (netip.Prefix, bool) {
	bits := r.IPv6Bits
	if a = a.Unmap(); a.Is4() {
		bits = r.IPv4Bits
	}
	p, err := a.WithZone("").Prefix(bits)
	return p, err == nil
}

// Watcher counts refusals and bans by its rules. It is a filter.Observer. Rules that
// are equal to those of another Watcher of the table share its counts, so that a
// reload forgets nothing.
type Watcher struct {
	table *Table
	rules []watched
}

type watched struct {
	Rule
	counts  *counter
	reasons uint32 // a bit for each
}

var _ filter.Observer = (*Watcher)(nil)

// RuleError is a fault of one rule.
type RuleError struct {
	Index int // in the rules given to Watch
	Err   error
}

// Error implements error.
func (e *RuleError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RuleError) Unwrap() error { return e.Err }

// Watch returns a Watcher of rules. The faults of all rules are joined, each a
// *RuleError.
func (t *Table) Watch(rules []Rule) (*Watcher, error) {
	w := &Watcher{table: t}
	var errs []error
	for i, r := range rules {
		if err := r.normalize(); err != nil {
			errs = append(errs, &RuleError{i, err})
			continue
		}
		one := watched{Rule: r, counts: t.counter(&r)}
		for _, reason := range r.Reasons {
			one.reasons |= 1 << reason
		}
		w.rules = append(w.rules, one)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return w, nil
}

// Observe counts a refusal.
func (w *Watcher) Observe(r *filter.Request, d filter.Decision, _ error) {
	if w == nil || !d.Refuses() || !r.Client.IsValid() {
		return
	}
	for i := range w.rules {
		rule := &w.rules[i]
		if rule.reasons&(1<<d.Reason) == 0 {
			continue
		}
		prefix, ok := rule.prefix(r.Client)
		if ok && rule.counts.hit(prefix, r.Now.UnixNano()) {
			w.table.offend(prefix, &rule.Rule, r.Now)
		}
	}
}

// Current is an Observer that hands on to the Watcher in force, which a reload
// replaces. The zero Current watches nothing.
type Current struct{ p atomic.Pointer[Watcher] }

// Set puts w in force.
func (c *Current) Set(w *Watcher) { c.p.Store(w) }

// Observe implements filter.Observer.
func (c *Current) Observe(r *filter.Request, d filter.Decision, err error) {
	c.p.Load().Observe(r, d, err)
}

package policy

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/moatwaf/moat/filter/ban"
	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/ratelimit"
	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/waf"
)

// Overrides are values of the waf section that a host sets in place of the
// policy's own, so that several sites can share one file. Zero fields leave the
// policy's value. They are as immutable as the Options that hold them.
type Overrides struct {
	Mode      string // block, detect or off
	Paranoia  int    // 1 to 4
	Threshold int    // from 1
	BodyLimit int64  // bytes
	Oversize  string // block, inspect or pass
	// Exclude are SecLang directives, one a line, that are read after the
	// rules of the Core Rule Set. Faults in them are told as "exclude:LINE".
	Exclude string
}

// override puts the host's values in place of the policy's.
func (l *loader) override() {
	o := l.options.Overrides
	if o == (Overrides{}) {
		return
	}
	l.note("overrides", fmt.Appendf(nil, "%+v", o))
	w := &l.policy.WAF
	place := func(name string) rules.Position {
		return rules.Position{File: l.options.File + ", set by its host: " + name}
	}
	choice := func(name, value string, into *string, values ...string) {
		if value == "" {
			return
		}
		for _, v := range values {
			if v == value {
				*into = value
				return
			}
		}
		l.errs.Add(place(name), "", strings.Join(values, ", "), "there is no %s %q", name, value)
	}
	number := func(name string, value, from, to int64) bool {
		if value != 0 && (value < from || value > to) {
			l.errs.Add(place(name), "", fmt.Sprintf("from %d to %d", from, to), "a %s of %d is not possible", name, value)
			return false
		}
		return value != 0
	}
	choice("mode", o.Mode, &w.Mode.Value, "block", "detect", "off")
	choice("oversize", o.Oversize, &w.Oversize, "block", "inspect", "pass")
	if number("paranoia", int64(o.Paranoia), 1, 4) {
		w.Paranoia = o.Paranoia
	}
	if number("threshold", int64(o.Threshold), 1, 1<<31-1) {
		w.Threshold = o.Threshold
	}
	if number("body_limit", o.BodyLimit, 1<<10, waf.MaxBodyLimit) {
		w.BodyLimit = rules.Size(o.BodyLimit)
	}
}

// ClientState is what is known of clients, apart from any policy: the buckets of
// tiers, and bans. Runtimes that share one count a client together, in every tier that
// they have in common, and refuse it together. It is safe for concurrent use.
type ClientState struct {
	tiers *ratelimit.State
	bans  *ban.Table
	users atomic.Int64 // runtimes

	stores stores
}

// NewClientState returns a ClientState that knows nobody.
func NewClientState() *ClientState {
	return &ClientState{tiers: ratelimit.NewState(), bans: ban.NewTable(nil, nil)}
}

// TierTable returns the state of the tables of all tiers together.
func (c *ClientState) TierTable() (sum metrics.TierTable) {
	for _, s := range c.tiers.Stats() {
		sum.Bytes += s.Bytes
		sum.Limit += s.MaxBytes
		sum.Entries += int64(s.Keys)
		sum.Full += s.Full
	}
	return sum
}

// Clients returns what the runtime knows of clients.
func (rt *Runtime) Clients() *ClientState { return rt.state.clients }

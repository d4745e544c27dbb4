package ratelimit

import (
	"sync/atomic"
	"time"

	"github.com/moatwaf/moat/filter"
)

// Defaults of the limit of failed proofs. A misconfigured client that tries again all
// the time stays below it, and so does an office whose sessions end at once; whoever
// guesses passwords or sends forged tokens as fast as the network allows does not.
const (
	DefaultFailures      = 20  // a second
	DefaultFailuresBurst = 600 // at once
)

// FailuresID is the name of the limit in decisions, audit lines and RateLimit fields.
const FailuresID = "auth-failures"

// failuresMemory bounds the table, in bytes: some 400,000 addresses that fail. Beyond
// them, failures of new addresses are not counted: a flood from everywhere does not
// lock anybody out.
const failuresMemory = 16 << 20

// Failures limits by address how often callers may fail to prove who they are. As a
// filter.Stage it stands directly before auth and refuses addresses that have used up
// their failures, before anything is verified; as a filter.Observer it takes one for
// each refusal for bad credentials. Good credentials, and none at all, cost nothing.
//
// Requests that are verified at the same moment may fail beyond the limit, once each.
// It counts on this node alone, IPv4 by address and IPv6 by /64. All methods are safe
// for concurrent use; neither Check without a refusal nor Observe allocates.
type Failures struct {
	key    Key
	burst  int
	window time.Duration
	table  *table
	state  *State
}

var (
	_ filter.Stage    = (*Failures)(nil)
	_ filter.Observer = (*Failures)(nil)
)

// NewFailures returns the limit, with the table that state has of an equal one; a nil
// state makes a new one. The error is that of the rate or the burst.
func NewFailures(rate Rate, burst int, state *State) (*Failures, error) {
	if state == nil {
		state = NewState()
	}
	key, err := ParseKey("ip")
	if err != nil {
		return nil, err
	}
	if err := (&Tier{ID: FailuresID, Key: key, Rate: rate, Burst: burst}).validate(); err != nil {
		return nil, err
	}
	id := identityOf{id: FailuresID + " ", key: key.String(), rate: rate, burst: burst, memory: failuresMemory}
	return &Failures{key: key, burst: burst, window: rate.interval() * time.Duration(burst), table: state.table(id), state: state}, nil
}

// Name returns "tier".
func (f *Failures) Name() string { return "tier" }

// Check refuses a request whose address has no failure left.
func (f *Failures) Check(r *filter.Request) (filter.Decision, error) {
	key, err := f.key.of(r)
	if err != nil {
		return filter.Decision{}, err
	}
	wait := f.table.peek(key, f.state.now(r.Now))
	if wait <= 0 {
		return filter.Next(), nil
	}
	return filter.Decision{
		Verdict: filter.Block, Reason: filter.ReasonRateLimit, Stage: "tier", Rule: FailuresID,
		Detail: "too many failed proofs of identity",
		Limit:  &filter.Limit{Tier: FailuresID, Quota: f.burst, Window: f.window, Reset: wait},
	}, nil
}

// Observe takes a failure of the address of a request that was refused for bad
// credentials. A concealed resource refuses for that reason too, and tells it in the
// detail.
func (f *Failures) Observe(r *filter.Request, d filter.Decision, _ error) {
	bad := d.Reason == filter.ReasonBadCredentials || d.Reason == filter.ReasonConcealed && d.Detail != ""
	if !bad || !d.Refuses() || !r.Client.IsValid() {
		return
	}
	if key, err := f.key.of(r); err == nil {
		f.table.take(key, f.state.now(r.Now))
	}
}

// CurrentFailures is an Observer that hands on to the Failures in force, which a reload
// replaces. The zero CurrentFailures counts nothing.
type CurrentFailures struct{ p atomic.Pointer[Failures] }

// Set puts f in force; nil counts nothing.
func (c *CurrentFailures) Set(f *Failures) { c.p.Store(f) }

// Observe implements filter.Observer.
func (c *CurrentFailures) Observe(r *filter.Request, d filter.Decision, err error) {
	if f := c.p.Load(); f != nil {
		f.Observe(r, d, err)
	}
}

// peek returns how long a key waits for its next token; 0 or less if there is one.
func (t *table) peek(key slot, now int64) time.Duration {
	h := key.index()
	s := &t.shards[h&t.mask]
	h >>= 6
	s.mu.Lock()
	defer s.mu.Unlock()
	now = s.clock(now)
	e := s.find(h, key)
	if e == nil {
		return 0
	}
	e.full = min(e.full, now+t.depth)
	return time.Duration(e.full + t.interval - now - t.depth)
}

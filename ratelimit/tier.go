package ratelimit

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/moatwaf/moat/filter"
)

// Tier is a rate limit.
type Tier struct {
	// ID is the policy's name for the tier: in RateLimit fields and audit lines.
	ID string
	// Match says which requests the tier is for; nil is for all.
	Match filter.Matcher
	// Key is what requests are counted by.
	Key Key
	// Rate is how fast a bucket fills. It may be zero where Concurrent is not.
	Rate Rate
	// Burst is how many requests a fresh client may make at once, from 1 if
	// there is a Rate.
	Burst int
	// Concurrent is how many requests may be under way at the same time; 0 is
	// no limit. A request is under way until filter.Request.Release.
	Concurrent int
	// Cost is how many tokens a request takes, from 1 to Burst; 0 is 1.
	Cost int
	// CostByStatus is how many tokens a request takes in all that is answered
	// with a status (401), or with one of a class (4 for 400 to 499) where the
	// status itself has no line. What exceeds Cost is taken when the request
	// has ended, as far as there are tokens.
	CostByStatus map[int]int
	// Also goes on to the next tier that matches when this one lets the request
	// through. If a later one refuses it, the tokens are given back.
	Also bool
	// Announce tells the state of the tier in the answers to requests that it
	// lets through.
	Announce bool
	// Status is the status of a refusal: 403, 429, or 0 for the default, 403.
	Status int
	// Detect reports what the tier would refuse, and leaves the request to the
	// next tier that matches.
	Detect bool
}

// Full is what becomes of a request with a new key while every place of the
// tier's table is taken by a client that used up a part of its burst.
type Full uint8

const (
	// FullBlock refuses it: nobody can tell whether that client is over the limit.
	FullBlock Full = iota
	// FullPass lets it through uncounted.
	FullPass
)

// DefaultMemory is the bound of a tier's table, in bytes, where Options name none.
// About 1.7 million clients fit, and 1 million take 38 MB.
const DefaultMemory = 64 << 20

// MinMemory and MaxMemory are the bounds of Options.Memory, in bytes.
const (
	MinMemory = 64 << 10
	MaxMemory = 64 << 30
)

// Options are what is common to the tiers of a Stage.
type Options struct {
	// Memory bounds the table of each tier, in bytes; 0 is DefaultMemory.
	// Tables grow with the number of clients and do not shrink.
	Memory int64
	// Full is what becomes of new clients while a table is full.
	Full Full
	// Shared counts rates together with other nodes; nil counts on this node
	// alone. Requests under way are counted on each node.
	Shared *Shared
}

// Stage is the tiers of a policy, or those of them that run at one place of the
// pipeline. It is immutable but for the tables, and safe for concurrent use.
type Stage struct {
	tiers []compiled
	state *State
	full  Full
	share *Shared
}

// compiled is a tier with its table.
type compiled struct {
	Tier
	table  *table        // nil without a Rate
	near   *near         // what is known of the shared buckets; nil if they are not shared
	places *inflight     // nil without Concurrent
	cost   int64         // time in which the tokens of a request come back
	window time.Duration // time in which an empty bucket is filled
	bare   bool          // the table is all there is to ask
}

var _ filter.Stage = (*Stage)(nil)

// New returns the stage of tiers, in their order, with tables from state; a nil
// state makes new ones. All faults of all tiers are reported at once, each as a
// *TierError.
func New(tiers []Tier, state *State, o Options) (*Stage, error) {
	if state == nil {
		state = NewState()
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	var errs []error
	if o.Memory < MinMemory || o.Memory > MaxMemory {
		errs = append(errs, fmt.Errorf("ratelimit: memory of %d bytes is not from %d to %d", o.Memory, int64(MinMemory), int64(MaxMemory)))
	}
	if o.Full > FullPass {
		errs = append(errs, fmt.Errorf("ratelimit: no such policy for a full table: %d", o.Full))
	}
	seen := make(map[string]bool)
	for i, t := range tiers {
		if err := t.validate(); err != nil {
			errs = append(errs, &TierError{i, t.ID, err})
		} else if seen[t.ID] {
			errs = append(errs, &TierError{i, t.ID, errors.New("id is not unique")})
		}
		seen[t.ID] = true
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	s := &Stage{state: state, full: o.Full, share: o.Shared, tiers: make([]compiled, len(tiers))}
	for i, t := range tiers {
		t.Cost = max(t.Cost, 1)
		t.CostByStatus = maps.Clone(t.CostByStatus)
		t.Key.shared = o.Shared != nil
		c := compiled{Tier: t}
		if t.Rate != (Rate{}) {
			id := identityOf{t.ID, t.Key.String(), t.Rate, t.Burst, o.Memory, t.Key.shared}
			c.table = state.table(id)
			if o.Shared != nil {
				c.near = o.Shared.near(id)
			}
			c.cost = int64(t.Cost) * int64(t.Rate.interval())
			c.window = t.Rate.interval() * time.Duration(t.Burst)
		}
		if t.Concurrent > 0 {
			c.places = state.places(identityOf{id: t.ID, key: t.Key.String(), memory: o.Memory, shared: t.Key.shared})
		}
		c.bare = c.table != nil && c.near == nil && c.places == nil && len(t.CostByStatus) == 0 && !t.Announce
		s.tiers[i] = c
	}
	return s, nil
}

// TierError is a fault of one tier.
type TierError struct {
	Index int // in the tiers given to New
	ID    string
	Err   error
}

// Error implements error.
func (e *TierError) Error() string { return fmt.Sprintf("tier %.60q: %v", e.ID, e.Err) }

// Unwrap returns the cause.
func (e *TierError) Unwrap() error { return e.Err }

func (t *Tier) validate() error {
	if t.ID == "" {
		return errors.New("has no id")
	}
	if t.Key.kind == 0 {
		return errors.New("has no key")
	}
	if t.Concurrent < 0 {
		return fmt.Errorf("%d concurrent requests let nobody through; it is at least 1", t.Concurrent)
	}
	if t.Concurrent == 0 || t.Rate != (Rate{}) {
		if err := t.validateRate(); err != nil {
			return err
		}
	} else if t.Burst != 0 || t.Cost != 0 || len(t.CostByStatus) > 0 {
		return errors.New("burst and cost need a rate")
	}
	switch t.Status {
	case 0, http.StatusForbidden, http.StatusTooManyRequests:
		return nil
	}
	return fmt.Errorf("status %d is neither 403 nor 429", t.Status)
}

func (t *Tier) validateRate() error {
	if err := t.Rate.valid(); err != nil {
		return err
	}
	if t.Burst < 1 {
		return fmt.Errorf("burst of %d lets nobody through; it is at least 1", t.Burst)
	}
	if int64(t.Burst) > int64(maxRefill/t.Rate.interval()) {
		return fmt.Errorf("burst of %d takes more than ten years to fill at %s", t.Burst, t.Rate)
	}
	if t.Cost < 0 || t.Cost > t.Burst {
		return fmt.Errorf("cost of %d lets nobody through; it is from 1 to the burst, %d", t.Cost, t.Burst)
	}
	for status, cost := range t.CostByStatus {
		switch {
		case status < 1 || status > 5 && status < 100 || status > 599:
			return fmt.Errorf("cost by status: %d is no status", status)
		case cost < max(t.Cost, 1) || cost > t.Burst:
			return fmt.Errorf("cost of %d for status %d is not from the cost, %d, to the burst, %d", cost, status, max(t.Cost, 1), t.Burst)
		}
	}
	return nil
}

// Name returns "tier".
func (s *Stage) Name() string { return "tier" }

// Check takes the tokens of a request from the first tier that matches, and refuses
// the request if there were none. It goes on to the next that matches behind a tier
// with Also, and to the next by address behind one whose key the client chooses: a
// limit by address stands in every case. Where a path can be read in several ways, each tier and key that
// a reading leads to is charged once, and the request is refused if one of them
// refuses. The error is that of a condition. Without a refusal it does not
// allocate.
func (s *Stage) Check(r *filter.Request) (filter.Decision, error) {
	now := s.state.now(r.Now)
	if r.Ambiguous() {
		return s.checkReadings(r, now)
	}
	t, a, err := s.charge(r, now, nil)
	if err != nil {
		return filter.Decision{}, err
	}
	if t != nil {
		return t.refusal(a), nil
	}
	return filter.Next(), nil
}

// checkReadings is Check for a path with several readings.
func (s *Stage) checkReadings(r *filter.Request, now int64) (filter.Decision, error) {
	var (
		charged charges
		refuser *compiled
		answer  answer
		failed  error
	)
	r.EachReading(func(r *filter.Request) {
		t, a, err := s.charge(r, now, &charged)
		failed = errors.Join(failed, err)
		if t != nil && refuser == nil {
			refuser, answer = t, a
		}
	})
	switch {
	case failed != nil:
		return filter.Decision{}, failed
	case refuser != nil:
		return refuser.refusal(answer), nil
	}
	return filter.Next(), nil
}

// charge is a token that was asked for, for one request.
type charge struct {
	tier int
	key  slot
}

// charges are the tokens that readings of a request asked for.
type charges []charge

// once reports whether c was not there yet, and adds it.
func (all *charges) once(c charge) bool {
	for _, old := range *all {
		if old == c {
			return false
		}
	}
	*all = append(*all, c)
	return true
}

// spent are tokens that a request took.
type spent struct {
	tier int
	key  slot
	at   int64 // of the answer
}

// charge takes the tokens for one reading of a request. It returns the tier that
// refuses, or nil. charged, if not nil, are the tokens of other readings.
func (s *Stage) charge(r *filter.Request, now int64, charged *charges) (*compiled, answer, error) {
	took := make([]spent, 0, 4) // on the stack
	onlyAddress := false
	for i := range s.tiers {
		t := &s.tiers[i]
		if onlyAddress && t.Key.kind != KeyIP {
			continue
		}
		if t.Match != nil {
			matched, err := t.Match.Match(r)
			if err != nil {
				return nil, answer{}, err
			}
			if !matched {
				continue
			}
		}
		key, err := t.Key.of(r)
		if err != nil {
			return nil, answer{}, err
		}
		// A key that another reading has charged has had its answer.
		if charged == nil || charged.once(charge{i, key}) {
			var a answer
			if t.bare {
				a = t.table.spend(key, now, t.cost)
			} else {
				a = s.take(t, r, key, now)
			}
			switch {
			case a.ok:
				// A tier that ends the search is followed by no refusal.
				if t.table != nil && (t.Also || t.Detect || t.Key.Chosen()) {
					took = append(took, spent{i, key, a.at})
				}
			case a.full && s.full == FullPass:
			case t.Detect:
				r.Detect(t.refusal(a))
			default:
				for _, p := range took {
					s.tiers[p.tier].giveBack(p.key, p.at)
				}
				return t, a, nil
			}
		}
		if t.Detect {
			continue
		}
		r.Tier = t.ID
		switch {
		case t.Also:
		case t.Key.Chosen():
			// A client that takes a new key for each request meets this tier
			// never. It still meets the first one by address.
			onlyAddress = true
		default:
			return nil, answer{}, nil
		}
	}
	return nil, answer{}, nil
}

// take asks the limits of one tier.
func (s *Stage) take(t *compiled, r *filter.Request, key slot, now int64) answer {
	a := answer{ok: true}
	if t.places != nil {
		ok, full, taken := t.places.acquire(key, t.Concurrent)
		if !ok {
			return answer{full: full, places: true}
		}
		r.Defer(t.places, filter.Token{Hi: key.hi, Lo: key.lo})
		if t.Announce {
			r.Announce(filter.Limit{Tier: t.ID, Quota: t.Concurrent, Remaining: t.Concurrent - taken, Concurrent: true})
		}
	}
	if t.table == nil {
		return a
	}
	if a = t.table.spend(key, now, t.cost); !a.ok {
		return a
	}
	if t.near != nil {
		// The node's own table alone grants no more than the limit. What the
		// other nodes grant can only make it less.
		shared := s.share.spend(t.near, key, now, t.cost)
		if !shared.ok {
			t.giveBack(key, a.at)
			return shared
		}
		a.used = max(a.used, shared.used)
	}
	if len(t.CostByStatus) > 0 {
		r.Defer(t, filter.Token{Hi: key.hi, Lo: key.lo})
		r.AwaitStatus()
	}
	if t.Announce {
		left, next := t.table.left(a.used)
		r.Announce(filter.Limit{Tier: t.ID, Quota: t.Burst, Window: t.window, Remaining: left, Reset: next})
	}
	return a
}

// giveBack undoes what take has spent.
func (t *compiled) giveBack(key slot, at int64) { t.table.giveBack(key, at, t.cost) }

// Finish takes what an answer of the status costs beyond what the request took.
func (t *compiled) Finish(k filter.Token, status int) {
	cost, ok := t.CostByStatus[status]
	if !ok {
		cost = t.CostByStatus[status/100]
	}
	extra := int64(cost-t.Cost) * int64(t.Rate.interval())
	if extra <= 0 {
		return
	}
	key := slot{k.Hi, k.Lo}
	t.table.charge(key, extra)
	if t.near != nil {
		t.near.charge(key, extra)
	}
}

// refusal is the decision against a request that found no token.
func (t *compiled) refusal(a answer) filter.Decision {
	limit := &filter.Limit{Tier: t.ID, Quota: t.Burst, Window: t.window, Reset: a.wait}
	if a.places {
		*limit = filter.Limit{Tier: t.ID, Quota: t.Concurrent, Concurrent: true}
	} else if !a.full {
		limit.Remaining, _ = t.table.left(a.used)
	}
	d := filter.Decision{
		Verdict: filter.Block,
		Reason:  filter.ReasonRateLimit,
		Status:  t.Status,
		Stage:   "tier",
		Rule:    t.ID,
		Limit:   limit,
	}
	if a.full {
		d.Detail = "the table of the tier is full of clients that are under limits"
	}
	return d
}

// Len returns the number of tiers.
func (s *Stage) Len() int { return len(s.tiers) }

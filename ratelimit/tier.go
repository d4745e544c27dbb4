package ratelimit

import (
	"errors"
	"fmt"
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
	// Rate is how fast a bucket fills.
	Rate Rate
	// Burst is how many requests a fresh client may make at once, from 1.
	Burst int
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
}

// Stage is the tiers of a policy, or those of them that run at one place of the
// pipeline. It is immutable but for the tables, and safe for concurrent use.
type Stage struct {
	tiers []compiled
	state *State
	full  Full
}

// compiled is a tier with its table.
type compiled struct {
	Tier
	table  *table
	window time.Duration // time in which an empty bucket is filled
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
	s := &Stage{state: state, full: o.Full, tiers: make([]compiled, len(tiers))}
	for i, t := range tiers {
		s.tiers[i] = compiled{
			Tier:   t,
			table:  state.table(identityOf{t.ID, t.Key.String(), t.Rate, t.Burst, o.Memory}),
			window: t.Rate.interval() * time.Duration(t.Burst),
		}
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
	if err := t.Rate.valid(); err != nil {
		return err
	}
	if t.Burst < 1 {
		return fmt.Errorf("burst of %d lets nobody through; it is at least 1", t.Burst)
	}
	if int64(t.Burst) > int64(maxRefill/t.Rate.interval()) {
		return fmt.Errorf("burst of %d takes more than ten years to fill at %s", t.Burst, t.Rate)
	}
	switch t.Status {
	case 0, http.StatusForbidden, http.StatusTooManyRequests:
		return nil
	}
	return fmt.Errorf("status %d is neither 403 nor 429", t.Status)
}

// Name returns "tier".
func (s *Stage) Name() string { return "tier" }

// Check takes a token of the first tier that matches, and refuses the request if
// there was none. Where a path can be read in several ways, each tier and key that
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

// charge takes a token for one reading of a request. It returns the tier that
// refuses, or nil. charged, if not nil, are the tokens of other readings.
func (s *Stage) charge(r *filter.Request, now int64, charged *charges) (*compiled, answer, error) {
	for i := range s.tiers {
		t := &s.tiers[i]
		if t.Match != nil {
			matched, err := t.Match.Match(r)
			if err != nil {
				return nil, answer{}, err
			}
			if !matched {
				continue
			}
		}
		key := t.Key.of(r)
		// A key that another reading has charged has had its answer.
		if charged == nil || charged.once(charge{i, key}) {
			a := t.table.take(key, now)
			if !a.ok && (!a.full || s.full == FullBlock) {
				if !t.Detect {
					return t, a, nil
				}
				r.Detect(t.refusal(a))
			}
		}
		if !t.Detect {
			r.Tier = t.ID
			break
		}
	}
	return nil, answer{}, nil
}

// refusal is the decision against a request that found no token.
func (t *compiled) refusal(a answer) filter.Decision {
	d := filter.Decision{
		Verdict: filter.Block,
		Reason:  filter.ReasonRateLimit,
		Status:  t.Status,
		Stage:   "tier",
		Rule:    t.ID,
		Limit:   &filter.Limit{Tier: t.ID, Quota: t.Burst, Window: t.window, Reset: a.wait},
	}
	if a.full {
		d.Detail = "the table of the tier is full of clients that are under limits"
	}
	return d
}

// Len returns the number of tiers.
func (s *Stage) Len() int { return len(s.tiers) }

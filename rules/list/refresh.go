package list

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"
)

// retryAfter is the wait after a first failure. It doubles with each further one,
// up to the interval of the source.
const retryAfter = time.Minute

// Refresher keeps the list of a URL current. Contains, Set and Len are safe for
// concurrent use, and use the last good list.
type Refresher struct {
	source   Source
	onChange func(*Set)
	set      atomic.Pointer[Set]
	last     *snapshot // belongs to Run once that has begun
	stale    bool      // the last question had no good answer
}

// NewRefresher loads the list of s, which must have a URL, as Source.Load does.
// onChange is called by Run after each change of the content, with the new list;
// it may be nil.
func NewRefresher(ctx context.Context, s Source, onChange func(*Set)) (*Refresher, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if s.URL == "" {
		return nil, errors.New("a list without a url is not refreshed")
	}
	first, err := s.loadURL(ctx)
	if err != nil {
		return nil, err
	}
	r := &Refresher{source: s, onChange: onChange, last: first, stale: !first.fresh(s.every())}
	r.set.Store(first.set)
	return r, nil
}

// Contains reports whether the list in force holds a. It does not allocate.
func (r *Refresher) Contains(a netip.Addr) bool { return r.set.Load().Contains(a) }

// Set returns the list in force, never nil.
func (r *Refresher) Set() *Set { return r.set.Load() }

// Len returns the number of entries of the list in force.
func (r *Refresher) Len() int { return r.set.Load().Len() }

// Run refreshes the list until ctx is done. It asks the server every Every, give
// or take a tenth so that many nodes do not ask at once, and sooner after a
// failure. A failure goes to OnError of the source and leaves the list in force.
// Run is called once. With an Offline source it only waits.
func (r *Refresher) Run(ctx context.Context) {
	if r.source.Offline {
		<-ctx.Done()
		return
	}
	failures := 0
	if r.stale {
		failures = 1
	}
	for {
		timer := time.NewTimer(r.wait(failures))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		now, err := r.source.fetch(ctx, r.last)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
			r.source.report(err)
			continue
		}
		failures = 0
		changed := now.set.Digest() != r.last.set.Digest()
		r.last = now
		r.set.Store(now.set)
		if changed && r.onChange != nil {
			r.onChange(now.set)
		}
	}
}

// wait returns how long to wait before the next question.
func (r *Refresher) wait(failures int) time.Duration {
	every := r.source.every()
	if failures > 0 {
		backoff := every
		if doublings := failures - 1; doublings < 30 {
			backoff = min(every, retryAfter<<doublings)
		}
		return jitter(backoff)
	}
	// The copy of a program that has just started may be old already.
	return max(jitter(every)-time.Since(r.last.fetched), time.Second)
}

// jitter returns d, give or take a tenth.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

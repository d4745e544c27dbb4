package auth

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
)

// ErrBusy is the error of a password that could not be compared because too many
// others wait.
var ErrBusy = errors.New("too many passwords wait to be compared")

// waitersPerSlot bounds the queue: at the usual cost of a hash the last one waits
// for some seconds.
const waitersPerSlot = 32

// hashing lets as many passwords be compared at a time as there are processors.
// It is one for the process, for the processors are.
var hashing = newGate(runtime.GOMAXPROCS(0))

// gate lets a number of goroutines in and a bounded number wait.
type gate struct {
	slots   chan struct{}
	waiting atomic.Int64
}

func newGate(slots int) *gate { return &gate{slots: make(chan struct{}, slots)} }

// enter waits for a slot. The error is ErrBusy, or that of the context.
func (g *gate) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("waiting to compare a password: %w", err)
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > int64(waitersPerSlot*cap(g.slots)) {
		return ErrBusy
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting to compare a password: %w", ctx.Err())
	}
}

// leave gives the slot back.
func (g *gate) leave() { <-g.slots }

package filter

import (
	"sync/atomic"
)

// Observer is told of every decision, after it was made. It is safe for
// concurrent use, must not block, and must not keep r.
type Observer interface {
	// Observe is called with the decision and the errors of stages, nil for
	// most requests.
	Observe(r *Request, d Decision, err error)
}

// Engine holds the pipeline in force. The zero Engine refuses every request
// with 503 until the first Swap.
//
// All methods are safe for concurrent use.
type Engine struct {
	current   atomic.Pointer[Pipeline]
	observers atomic.Pointer[[]Observer]
}

// Swap puts p in force and returns the pipeline that was. Requests that are
// under way end in the pipeline in which they began.
func (e *Engine) Swap(p *Pipeline) (old *Pipeline) { return e.current.Swap(p) }

// Pipeline returns the pipeline in force; nil before the first Swap.
func (e *Engine) Pipeline() *Pipeline { return e.current.Load() }

// SetObservers replaces the observers. Call it before the first request.
func (e *Engine) SetObservers(o ...Observer) { e.observers.Store(&o) }

// Decide decides r in the pipeline in force and tells the observers. The verdict
// is Allow, Block or Challenge.
func (e *Engine) Decide(r *Request) Decision {
	d, err := e.current.Load().Decide(r)
	if observers := e.observers.Load(); observers != nil {
		for _, o := range *observers {
			o.Observe(r, d, err)
		}
	}
	return d
}

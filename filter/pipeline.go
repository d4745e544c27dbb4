package filter

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
)

// Stage is one check of a request.
//
// Check is called by many goroutines at once. It returns a Decision; it writes
// no answer and calls no other stage. Next() is no opinion. An error means that
// the stage could not decide; the decision beside it is not looked at, and the
// policy says whether the request is refused or goes on.
type Stage interface {
	// Name is the stage's name in audit lines and metrics: a constant.
	Name() string
	Check(*Request) (Decision, error)
}

// ErrorPolicy is what becomes of a request whose stage failed.
type ErrorPolicy uint8

const (
	// FailClosed refuses the request with 503.
	FailClosed ErrorPolicy = iota
	// FailOpen goes on with the next stage.
	FailOpen
)

// Step is a stage in its place in a pipeline.
type Step struct {
	Stage Stage

	// Always runs the stage even if an earlier one said Allow. It is set for
	// the auth stage: an allow rule is about filtering, not about identity.
	Always bool

	// Detect reports what the stage would have refused, and goes on.
	Detect bool

	// OnError is what an error or a panic of the stage means.
	OnError ErrorPolicy
}

// AddrResolver derives the client's address from the peer and the forwarding
// headers. An error means that a trusted proxy said something that is no address.
type AddrResolver interface {
	ClientAddr(peer netip.Addr, header http.Header) (netip.Addr, error)
}

// Config is what a pipeline is made of.
type Config struct {
	// Name tells pipelines apart in logs: the policy file's name.
	Name string
	// Addr derives the client's address; nil takes the peer's.
	Addr AddrResolver
	// Locator finds country and network; nil knows none.
	Locator Locator
	// Steps are the stages, in the order in which they run.
	Steps []Step
	// Front is asked by the host about answers and the way to the upstream; nil
	// takes the default.
	Front Front
	// Conceals says that the policy hides resources, so that the host must
	// answer a missing one in the same bytes.
	Conceals bool
}

// Pipeline is a compiled policy: immutable, and safe for concurrent use.
//
// The zero Pipeline, like a nil one, refuses every request with 503.
type Pipeline struct {
	config Config
	ready  bool
}

// NewPipeline returns the pipeline of c. It copies the steps.
func NewPipeline(c Config) *Pipeline {
	c.Steps = append([]Step(nil), c.Steps...)
	return &Pipeline{config: c, ready: true}
}

// Name returns the name that the pipeline was given.
func (p *Pipeline) Name() string { return p.config.Name }

// AddrHeader returns the canonical name of the header field in which trusted proxies
// name the client; empty if it is not known, or there is none.
func (p *Pipeline) AddrHeader() string {
	if p == nil {
		return ""
	}
	if named, ok := p.config.Addr.(interface{ Header() string }); ok {
		return named.Header()
	}
	return ""
}

// Conceals reports whether the policy hides resources behind 404.
func (p *Pipeline) Conceals() bool { return p != nil && p.config.Conceals }

// PanicError is a panic of a stage, as an error.
type PanicError struct {
	Value any
	Stack []byte
}

// Error implements error.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// StageError is the failure of one stage on one request.
type StageError struct {
	Stage string
	Err   error
}

// Error implements error.
func (e *StageError) Error() string { return e.Stage + " stage: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *StageError) Unwrap() error { return e.Err }

// errNoPolicy is the state before the first policy is loaded.
var errNoPolicy = errors.New("no policy is loaded")

// Decide runs the stages and returns Allow, Block or Challenge, never Continue.
//
// It returns the errors of stages joined, for the log: the decision has already
// taken them into account. It does not panic.
func (p *Pipeline) Decide(r *Request) (Decision, error) {
	if p == nil || !p.ready {
		return unavailable(""), errNoPolicy
	}
	r.locator = p.config.Locator

	if r.pathErr != nil {
		return Decision{Verdict: Block, Reason: ReasonMalformed, Detail: r.pathErr.Error()}, nil
	}
	if !r.Client.IsValid() {
		r.Client = r.Peer
		if p.config.Addr != nil {
			client, err := p.config.Addr.ClientAddr(r.Peer, r.HTTP.Header)
			if err != nil {
				return Decision{Verdict: Block, Reason: ReasonMalformed, Detail: err.Error()}, nil
			}
			r.Client = client
		}
	}

	var errs error
	allowed := false
	for i := range p.config.Steps {
		step := &p.config.Steps[i]
		if allowed && !step.Always {
			continue
		}
		d, err := check(step.Stage, r)
		if err == nil && d.Refuses() && r.starved() {
			// The stage takes it for the client's fault, and it is ours.
			err = ErrNoRoom
		}
		if err != nil {
			errs = errors.Join(errs, &StageError{Stage: step.Stage.Name(), Err: err})
			if step.OnError == FailOpen {
				continue
			}
			d = unavailable(step.Stage.Name())
		}
		switch d.Verdict {
		case Continue:
		case Allow:
			allowed = true
		default:
			if !d.Refuses() {
				d.Verdict = Block // a verdict that does not exist
			}
			if d.Stage == "" {
				d.Stage = step.Stage.Name()
			}
			if step.Detect {
				r.Detect(d)
				continue
			}
			return d, errs
		}
	}
	return Allowed(), errs
}

func unavailable(stage string) Decision {
	return Decision{Verdict: Block, Reason: ReasonUnavailable, Stage: stage}
}

// check runs one stage and turns a panic into an error.
func check(s Stage, r *Request) (d Decision, err error) {
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler {
				panic(v) // net/http's own signal, not a fault of the stage
			}
			d, err = Decision{}, &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return s.Check(r)
}

// With returns a pipeline like p in which f has replaced each stage, for tools that
// look on. p stays as it is.
func (p *Pipeline) With(f func(Stage) Stage) *Pipeline {
	if p == nil || !p.ready {
		return p
	}
	c := p.config
	c.Steps = append([]Step(nil), c.Steps...)
	for i := range c.Steps {
		c.Steps[i].Stage = f(c.Steps[i].Stage)
	}
	return NewPipeline(c)
}

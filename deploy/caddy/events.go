package moatcaddy

import (
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/policy"
)

// The names of the events.
const (
	eventRefused      = "moat_refused"       // a request was refused
	eventPolicyLoaded = "moat_policy_loaded" // a changed policy has come into force
	eventPolicyFailed = "moat_policy_failed" // a changed policy has faults; the old one stays
)

// Bounds of what events may cost. Refusals come as fast as an attacker sends; what
// handles an event may run a command.
const (
	refusalsPerSecond = 10
	refusalsBurst     = 20
	maxRunningEvents  = 16
)

// eventBounds are those of the process.
var eventBounds = struct {
	refusals   *rate.Limiter
	running    chan struct{}
	suppressed atomic.Int64 // refusals without an event since the last one that had one
}{
	refusals: rate.NewLimiter(refusalsPerSecond, refusalsBurst),
	running:  make(chan struct{}, maxRunningEvents),
}

// emitter emits the events of one handler. The nil emitter emits none.
type emitter struct {
	ctx    caddy.Context
	app    *caddyevents.App
	logger *zap.Logger
}

// newEmitter returns the emitter of the handler being provisioned; nil where there
// is no events app, as outside of the http app, which brings one.
func newEmitter(ctx caddy.Context) *emitter {
	app, err := ctx.AppIfConfigured("events")
	if err != nil {
		return nil
	}
	events, ok := app.(*caddyevents.App)
	if !ok {
		return nil
	}
	return &emitter{ctx: ctx, app: events, logger: ctx.Logger()}
}

// refused emits the event of a refusal, if anybody listens and there were not too
// many. Its data hold nothing that the client wrote, so that a command can take
// them as arguments: the caller's name is a verified one.
func (e *emitter) refused(r *filter.Request, d filter.Decision, policyName string) {
	if e == nil || !e.app.ShouldEmit(eventRefused) {
		return
	}
	if !eventBounds.refusals.Allow() {
		eventBounds.suppressed.Add(1)
		return
	}
	v := viewOf(&d, r)
	data := map[string]any{
		"id":      r.ID(),
		"client":  r.Client.String(),
		"status":  d.StatusCode(),
		"policy":  policyName,
		"missing": eventBounds.suppressed.Swap(0),
	}
	for _, name := range placeholderNames {
		data[name], _ = v.lookup(placeholderPrefix + name)
	}
	if missing := data["missing"].(int64); !e.emit(eventRefused, data) {
		eventBounds.suppressed.Add(missing + 1)
	}
}

// reloaded emits the event of a reload.
func (e *emitter) reloaded(s policy.Status, err error) {
	if e == nil {
		return
	}
	name, data := eventPolicyLoaded, map[string]any{"policy": s.File, "digest": s.Digest}
	if err != nil {
		name = eventPolicyFailed
		data["error"] = err.Error()
	}
	if e.app.ShouldEmit(name) && !e.emit(name, data) {
		e.logger.Warn("event not emitted: those before it are still being handled", zap.String("event", name))
	}
}

// emit emits an event without waiting for who handles it, and reports whether there
// was room for it.
func (e *emitter) emit(name string, data map[string]any) bool {
	select {
	case eventBounds.running <- struct{}{}:
	default:
		return false
	}
	go func() {
		defer func() {
			<-eventBounds.running
			if v := recover(); v != nil {
				e.logger.Error("handling an event panicked", zap.String("event", name), zap.Any("panic", v))
			}
		}()
		e.app.Emit(e.ctx, name, data)
	}()
	return true
}

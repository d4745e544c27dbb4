package policy

import (
	"path/filepath"

	"github.com/moatwaf/moat/filter"
)

// pipeline compiles every section and puts the stages into their order. It
// returns nil if there was a fault.
//
// In a filter, order is policy: a stage gets its place here and nowhere else.
func (l *loader) pipeline() *filter.Pipeline {
	l.checkVersion()
	l.auditFile()
	addr := l.clientIP()
	locator := l.geo()
	env := l.matchEnv()

	access := l.accessStage(env)
	bans := l.banStage()
	byAddress, byIdentity := l.tierStages(env)
	payload, payloadMode := l.payloadStage()
	who, may, conceals := l.authStages(env)
	failures := l.failureStage()
	face := l.front()

	if len(l.errs) > 0 {
		return nil
	}
	var steps []filter.Step
	add := func(step filter.Step) {
		if l.policy.OnError == "pass" {
			step.OnError = filter.FailOpen
		}
		steps = append(steps, step)
	}

	if access != nil {
		add(filter.Step{Stage: access})
	}
	add(filter.Step{Stage: bans}) // behind the rules: an allow rule wins over a ban
	if byAddress != nil {
		add(filter.Step{Stage: byAddress})
	}
	if payload != nil {
		add(filter.Step{Stage: payload, Detect: payloadMode == "detect"})
	}
	if who != nil && failures != nil {
		add(filter.Step{Stage: failures}) // a limit by address stands before auth in every case
	}
	// A caller's identity is never decided by an error: auth fails closed
	// whatever the policy says of the filter stages.
	if who != nil {
		steps = append(steps, filter.Step{Stage: who, Always: true})
	}
	if byIdentity != nil {
		add(filter.Step{Stage: byIdentity})
	}
	if may != nil {
		steps = append(steps, filter.Step{Stage: may, Always: true})
	}

	return filter.NewPipeline(filter.Config{
		Name:     filepath.Base(l.options.File),
		Addr:     addr,
		Locator:  locator,
		Steps:    steps,
		Front:    face,
		Conceals: conceals,
	})
}

// checkVersion refuses a policy of a language that this program does not read.
func (l *loader) checkVersion() {
	if v := l.policy.Version; v.Set() && v.Value != 1 {
		l.errs = append(l.errs, v.Errorf("write version: 1", "version %d of the policy language is not known", v.Value))
	}
}

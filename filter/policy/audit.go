package policy

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/audit"
	"github.com/moatwaf/moat/rules"
)

// auditSink is what tells one audit log from another. As long as it stays the
// same over a reload, so does the log, with the lines that wait in it.
type auditSink struct {
	file             string
	query, userAgent bool
}

// openAudit puts the audit log that c asks for in place of the one before. On
// an error it changes nothing.
func (rt *Runtime) openAudit(c *Compiled) error {
	a := c.Policy.Audit
	want := auditSink{file: a.File.Value, query: a.Query, userAgent: a.UserAgent}
	if rt.options.Audit != nil {
		want.file = ""
	}
	if rt.sink != nil && *rt.sink == want {
		return nil
	}
	options := audit.Options{
		IncludeQuery:     a.Query,
		IncludeUserAgent: a.UserAgent,
		Policy:           rt.policyName,
		OnError: func(err error) {
			rt.options.Logger.Error("audit lines cannot be written", "error", err)
		},
	}
	var log *audit.Log
	var sink io.Writer
	switch {
	case rt.options.Audit != nil:
		sink = rt.options.Audit
	case a.File.Value == "off":
	case a.File.Value == "stdout":
		sink = os.Stdout
	case a.File.Value == "stderr":
		sink = os.Stderr
	default:
		path := a.File.Value
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(rt.options.File), path)
		}
		var err error
		if log, err = audit.Open(path, options); err != nil {
			return rules.Errors{a.File.Errorf("", "%s", err)}
		}
	}
	if sink != nil {
		log = audit.New(sink, options)
	}
	old := rt.audit.Swap(log)
	rt.sink = &want
	rt.observe(log)
	// The new log is in use. What the old one does with its last lines, on a full
	// disk for example, is no fault of the new policy, and must not hold it up.
	if old == nil {
		return nil
	}
	rt.running.Go(func() {
		if err := rt.finishAudit(old); err != nil {
			rt.options.Logger.Error("audit lines cannot be written", "error", err)
		}
	})
	return nil
}

// auditFile reports what stands in the way of an audit file, without making one.
func (l *loader) auditFile() {
	at := l.policy.Audit.File
	switch at.Value {
	case "", "off", "stdout", "stderr":
		if at.Value == "" {
			l.errs = append(l.errs, at.Errorf("stdout, stderr, off or a path", "audit.file is empty"))
		}
		return
	}
	path := l.path(at.Value)
	if info, err := os.Stat(path); err == nil {
		if info.IsDir() {
			l.errs = append(l.errs, at.Errorf("name a file in it", "%s: %s", at.Value, errDirectory))
		}
		return
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		l.errs = append(l.errs, at.Errorf("make the folder first", "the folder of %s: %s", at.Value, reason(err)))
	}
}

// observe tells the engine who is to know of its decisions.
func (rt *Runtime) observe(log *audit.Log) {
	observers := []filter.Observer{rt.options.Metrics, &rt.state.watcher, &rt.state.failures}
	if log != nil {
		observers = append(observers, log)
	}
	rt.engine.SetObservers(observers...)
}

// policyName is the name of the pipeline in force.
func (rt *Runtime) policyName() string {
	if p := rt.engine.Pipeline(); p != nil {
		return p.Name()
	}
	return ""
}

// finishAudit writes the lines that wait in a log that nobody writes to any more.
func (rt *Runtime) finishAudit(log *audit.Log) error {
	if log == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return log.Close(ctx)
}

// AuditStats returns the counts of the audit log; zero where it is off.
func (rt *Runtime) AuditStats() audit.Stats {
	if log := rt.audit.Load(); log != nil {
		return log.Stats()
	}
	return audit.Stats{}
}

// ReopenAudit opens the audit file anew, after log rotation has moved it. It
// does nothing where the audit log is no file.
func (rt *Runtime) ReopenAudit() error {
	log := rt.audit.Load()
	if log == nil {
		return nil
	}
	if err := log.Reopen(); err != nil && err != audit.ErrNotReopenable {
		return err
	}
	return nil
}

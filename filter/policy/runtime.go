package policy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/audit"
	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/filter/policy/watch"
	"github.com/moatwaf/moat/rules"
)

// Options say which policy a Runtime keeps in force.
type Options struct {
	// File is the policy file. Paths in it are relative to its directory.
	File string

	// ReadFile reads the policy and the files that it names; nil reads the
	// file system. Its error for a file that is not there satisfies
	// errors.Is(err, fs.ErrNotExist).
	ReadFile func(name string) ([]byte, error)

	// CacheDir holds the last good copies of lists that come from a URL; empty
	// takes that of the service (CACHE_DIRECTORY) or of the user, if there is one.
	CacheDir string

	// Watch reloads the policy when one of its files changes.
	Watch bool

	// Logger takes reports of reloads and faults; nil takes slog.Default.
	Logger *slog.Logger

	// Metrics counts decisions and reloads; nil counts nowhere.
	Metrics *metrics.Metrics

	// Overrides take the place of what the policy's waf section says.
	Overrides Overrides

	// Clients holds the buckets of tiers; nil makes new ones, which end with
	// the Runtime.
	Clients *ClientState

	// OnReload is called after every reload, the first load not included, with
	// its error: nil for a policy that came into force. A reload that finds
	// nothing changed is not told. It must not call the Runtime's Reload.
	OnReload func(Status, error)

	// Audit takes the audit lines in place of what the policy's audit section
	// names.
	Audit io.Writer
}

// Status is the state of a Runtime.
type Status struct {
	File      string    `json:"file"`
	Loaded    time.Time `json:"loaded"`               // when the policy in force was put there
	Digest    string    `json:"digest"`               // of the content of all files of the policy in force
	Summary   Summary   `json:"summary"`              // of the policy in force
	Reloads   int       `json:"reloads"`              // successful ones, the first load not counted
	Failures  int       `json:"failures"`             // reloads that were refused
	LastError string    `json:"last_error,omitempty"` // faults of the last reload; empty if it was good
}

// Runtime keeps the policy of one file in force in an Engine.
//
// All methods are safe for concurrent use.
type Runtime struct {
	options Options
	engine  filter.Engine
	state   *state
	watcher *watch.Watcher
	audit   atomic.Pointer[audit.Log]
	ctx     context.Context // of the background work
	cancel  context.CancelFunc
	running sync.WaitGroup

	reloading sync.Mutex // one reload at a time; guards sink and closed
	closed    bool
	sink      *auditSink
	mu        sync.Mutex // guards what follows
	compiled  *Compiled
	status    Status
}

// Start loads a policy, puts it in force and, where o says so, watches its files.
// The error is a rules.Errors if the policy has faults. Close ends the Runtime;
// the end of ctx ends its background work.
func Start(ctx context.Context, o Options) (*Runtime, error) {
	if o.ReadFile == nil {
		o.ReadFile = readFile
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Metrics == nil {
		m, err := metrics.New(nil)
		if err != nil {
			return nil, err
		}
		o.Metrics = m
	}
	if o.CacheDir == "" {
		o.CacheDir = defaultCacheDir()
	}
	ctx, cancel := context.WithCancel(ctx)
	rt := &Runtime{options: o, state: newState(o), ctx: ctx, cancel: cancel, status: Status{File: o.File}}
	rt.watcher = rt.newWatcher(ctx)
	if err := rt.reload(ctx, true); err != nil {
		cancel()
		rt.state.close()
		return nil, err
	}
	if o.Watch {
		rt.running.Go(func() { _ = rt.watcher.Run(ctx) })
	}
	return rt, nil
}

// errClosed is the answer to a reload behind the end.
var errClosed = errors.New("the policy is not in use any more")

// defaultCacheDir is the place for last good copies when the operator names none.
//
// It is never one in which others could put a copy of their own: a list that
// somebody else wrote decides who comes in. Where there is none, as in a service
// without a home, no copy is kept.
func defaultCacheDir() string {
	// systemd's CacheDirectory=, of several the first.
	if dir, _, _ := strings.Cut(os.Getenv("CACHE_DIRECTORY"), ":"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "lists")
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "moat", "lists")
}

// Engine returns the engine that decides by the policy in force. It is the same
// one over every reload.
func (rt *Runtime) Engine() *filter.Engine { return &rt.engine }

// Metrics returns the counters of the runtime.
func (rt *Runtime) Metrics() *metrics.Metrics { return rt.options.Metrics }

// Status returns the state of the runtime.
func (rt *Runtime) Status() Status {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.status
}

// Reload reads every file of the policy again and puts the result in force. If
// there is a fault it changes nothing, and returns the faults as rules.Errors.
func (rt *Runtime) Reload(ctx context.Context) error { return rt.reload(ctx, false) }

func (rt *Runtime) reload(ctx context.Context, first bool) error {
	rt.reloading.Lock()
	defer rt.reloading.Unlock()
	if rt.closed {
		return errClosed
	}
	// The end of the runtime ends a reload that waits for somebody's server.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(rt.ctx, cancel)()

	c, err := load(ctx, rt.options, rt.state)
	if err != nil {
		rt.failed(err, first)
		return err
	}
	rt.mu.Lock()
	old := rt.compiled
	unchanged := old != nil && old.Digest == c.Digest
	rt.mu.Unlock()
	if unchanged {
		c.close()
		rt.mu.Lock()
		rt.status.LastError = ""
		rt.mu.Unlock()
		return nil
	}

	if err := rt.openAudit(c); err != nil {
		c.close()
		rt.failed(err, first)
		return err
	}
	rt.engine.Swap(c.Pipeline)
	rt.mu.Lock()
	rt.compiled = c
	rt.status.Loaded = time.Now()
	rt.status.Digest = c.Digest
	rt.status.Summary = c.Summary
	rt.status.LastError = ""
	if !first {
		rt.status.Reloads++
	}
	rt.mu.Unlock()
	rt.state.keep(c)
	if old != nil {
		old.close()
	}
	rt.watcher.SetFilesReadAt(c.Files, c.ReadAt)
	rt.loaded(c, first)
	return nil
}

// failed reports a load that changed nothing.
func (rt *Runtime) failed(err error, first bool) {
	rt.mu.Lock()
	rt.status.LastError = err.Error()
	if !first {
		rt.status.Failures++
	}
	rt.mu.Unlock()
	if first {
		return // the caller has the error, and nothing runs that could stay
	}
	rt.options.Metrics.PolicyFailed()
	if rt.options.OnReload != nil {
		defer func() { rt.options.OnReload(rt.Status(), err) }()
	}
	// A mended file must be noticed, even one that only the refused policy names.
	var failed *loadError
	if errors.As(err, &failed) {
		rt.watcher.SetFilesReadAt(append(rt.Files(), failed.files...), failed.readAt)
	}
	var faults rules.Errors
	if !errors.As(err, &faults) {
		rt.options.Logger.Error("policy not reloaded, the running one stays", "file", rt.options.File, "error", err)
		return
	}
	for _, fault := range faults {
		rt.options.Logger.Error("policy not reloaded, the running one stays", "file", rt.options.File, "fault", fault.Error())
	}
}

// loaded reports a load.
func (rt *Runtime) loaded(c *Compiled, first bool) {
	s := c.Summary
	rt.options.Metrics.PolicyLoaded(metrics.Policy{
		Name:     c.Pipeline.Name(),
		Version:  c.Digest,
		LoadedAt: rt.Status().Loaded,
		Rules:    map[string]int{"access": s.AccessRules, "tier": s.Tiers, "payload": s.PayloadRules, "auth": s.Requirements},
	})
	what := "policy reloaded"
	if first {
		what = "policy loaded"
	} else if rt.options.OnReload != nil {
		rt.options.OnReload(rt.Status(), nil)
	}
	rt.options.Logger.Info(what, "file", rt.options.File, "digest", c.Digest, "access_rules", s.AccessRules, "tiers", s.Tiers,
		"payload_rules", s.PayloadRules, "lists", s.Lists, "list_entries", s.ListEntries, "countries", s.Countries)
}

// newWatcher returns a watcher that reloads when a file has changed.
func (rt *Runtime) newWatcher(ctx context.Context) *watch.Watcher {
	return watch.New(func(changed []string) {
		rt.options.Logger.Info("policy files changed", "files", changed)
		_ = rt.reload(ctx, false) // reported by failed
	}, watch.Options{
		OnError: func(err error) {
			rt.options.Logger.Warn("file notification does not work, files are polled", "error", err)
		},
	})
}

// Close ends the background work, writes the audit lines that wait, and frees
// the policy. The engine refuses every request from then on.
func (rt *Runtime) Close() error {
	rt.cancel()
	rt.reloading.Lock()
	rt.closed = true
	rt.reloading.Unlock()
	rt.running.Wait()
	rt.engine.Swap(nil)
	rt.mu.Lock()
	c := rt.compiled
	rt.compiled = nil
	rt.mu.Unlock()
	if c != nil {
		c.close()
	}
	rt.state.close()
	return rt.finishAudit(rt.audit.Swap(nil))
}

// Files returns the files that the policy in force was made of.
func (rt *Runtime) Files() []string {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.compiled == nil {
		return nil
	}
	return slices.Clone(rt.compiled.Files)
}

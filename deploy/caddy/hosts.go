package moatcaddy

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// host is a handler that uses a runtime: where the runtime's reports go.
type host struct {
	log    slog.Handler
	events *emitter
}

// hosts are the handlers that use a runtime. A runtime outlives the configurations
// that use it, while their log files are closed and their events are gone; it
// reports to the newest one that is left.
type hosts struct {
	mu  sync.Mutex
	all []*host
}

func (h *hosts) add(one *host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, one)
}

func (h *hosts) remove(one *host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = slices.DeleteFunc(h.all, func(other *host) bool { return other == one })
}

// current returns the newest host; nil if there is none.
func (h *hosts) current() *host {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) == 0 {
		return nil
	}
	return h.all[len(h.all)-1]
}

// logger returns a logger that writes to the newest host's log.
func (h *hosts) logger() *slog.Logger { return slog.New(hostLog{hosts: h}) }

// hostLog is a slog.Handler that finds its target anew for every record.
type hostLog struct {
	hosts *hosts
	with  []func(slog.Handler) slog.Handler // attributes and groups, in order
}

// target returns the handler of the newest host; nil if there is none.
func (l hostLog) target() slog.Handler {
	h := l.hosts.current()
	if h == nil {
		return nil
	}
	target := h.log
	for _, f := range l.with {
		target = f(target)
	}
	return target
}

// Enabled implements slog.Handler.
func (l hostLog) Enabled(ctx context.Context, level slog.Level) bool {
	t := l.target()
	return t != nil && t.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (l hostLog) Handle(ctx context.Context, record slog.Record) error {
	if t := l.target(); t != nil {
		return t.Handle(ctx, record)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (l hostLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return l.and(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (l hostLog) WithGroup(name string) slog.Handler {
	return l.and(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (l hostLog) and(f func(slog.Handler) slog.Handler) slog.Handler {
	return hostLog{hosts: l.hosts, with: append(slices.Clip(l.with), f)}
}

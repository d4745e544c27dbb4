package policy

import (
	"context"
	"errors"
	"sync"

	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/list"
)

// remoteKey is the identity of a list that comes from a URL: as long as it stays
// the same over a reload, so does the list, and nobody is asked anew.
type remoteKey struct {
	url     string
	format  list.Format
	every   int64
	maxSize int64
}

// remote is a list that comes from a URL, kept current while a policy names it.
type remote struct {
	*list.Refresher
	name   string
	cancel context.CancelFunc // set once it runs
}

// remoteLists are the lists that come from URLs.
type remoteLists struct {
	ctx     context.Context
	cancel  context.CancelFunc
	options Options
	running sync.WaitGroup

	mu    sync.Mutex
	lists map[remoteKey]*remote
}

func (l *remoteLists) init(o Options) {
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.options = o
	l.lists = map[remoteKey]*remote{}
}

func (l *remoteLists) close() {
	l.cancel()
	l.running.Wait()
}

func (l *remoteLists) get(key remoteKey) *remote {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lists[key]
}

// keep starts the refreshes of lists that are new and ends those of lists that
// nobody names any more.
func (l *remoteLists) keep(named map[remoteKey]*remote) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, r := range l.lists {
		if named[key] == nil {
			r.cancel()
			delete(l.lists, key)
		}
	}
	for key, r := range named {
		if l.lists[key] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(l.ctx)
		r.cancel = cancel
		l.lists[key] = r
		l.running.Go(func() { r.Run(ctx) })
	}
}

// published returns the list of a URL: the running one, or a new one that has
// been loaded once.
func (l *loader) published(name string, s *ListSource, format list.Format) addrSet {
	key := remoteKey{url: s.URL.Value, format: format, every: int64(s.Every), maxSize: int64(s.MaxSize)}
	if r := l.remotes[key]; r != nil {
		return r
	}
	if r := l.state.remote.get(key); r != nil {
		l.remotes[key] = r
		return r
	}
	if len(l.errs) > 0 {
		return nil // the policy is refused in any case; nobody needs to be asked
	}
	o := l.options
	source := list.Source{
		URL:      s.URL.Value,
		Format:   format,
		MaxBytes: int64(s.MaxSize),
		Every:    s.Every,
		CacheDir: o.CacheDir,
		OnError: func(err error) {
			if o.Metrics != nil {
				o.Metrics.ListRefreshed(name, metrics.Failed)
			}
			if o.Logger != nil {
				o.Logger.Warn("list not refreshed, the last good copy stays", "list", name, "error", err)
			}
		},
	}
	refresher, err := list.NewRefresher(l.ctx, source, func(set *list.Set) {
		if o.Metrics != nil {
			o.Metrics.ListRefreshed(name, metrics.OK)
		}
		if o.Logger != nil {
			o.Logger.Info("list refreshed", "list", name, "entries", set.Len())
		}
	})
	if err != nil {
		var faults rules.Errors
		if errors.As(err, &faults) {
			l.errs = append(l.errs, faults...)
			return nil
		}
		l.errs = append(l.errs, s.URL.Errorf("", "%s", err))
		return nil
	}
	// What a URL answers changes by itself and is no part of the policy's digest.
	r := &remote{Refresher: refresher, name: name}
	l.remotes[key] = r
	return r
}

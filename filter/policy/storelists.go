package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/ratelimit/redis"
	"github.com/moatwaf/moat/rules/list"
)

// storeList is a list that is kept in the store, and the policies that name it. A
// reload that names it again keeps the copy.
type storeList struct {
	*redis.List
	users int
}

// firstCopy is how long a policy waits for the first copy of a list from the store,
// where there is none of an earlier run.
const firstCopy = 2 * time.Second

// acquireList returns a list of the store and what gives it back.
func (s *stores) acquireList(store *openStore, name string, o redis.ListOptions) (*redis.List, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := store.lists[name]
	if one == nil {
		l, err := store.store.List(name, o)
		if err != nil {
			return nil, nil, err
		}
		one = &storeList{List: l}
		store.lists[name] = one
	}
	one.users++
	return one.List, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(store.lists, name)
			one.Close()
		}
	}), nil
}

// stored returns a list that is kept in the store: the running copy, or a new one. With
// no server and no copy of an earlier run it is empty until there is a server.
func (l *loader) stored(name string, s *ListSource) addrSet {
	at := s.Store
	if l.policy.Store == nil {
		l.errs = append(l.errs, at.Errorf("such as store: redis://127.0.0.1:6379/0", "the list is kept in the store, and the policy has no store section"))
		return nil
	}
	if err := redis.CheckListName(at.Value); err != nil {
		l.errs = append(l.errs, at.Errorf("", "%s", err))
		return nil
	}
	if s.Format.Set() || s.Every != 0 || s.MaxSize != 0 {
		return nil // the decoder has reported it
	}
	store := l.sharedStore()
	if store == nil {
		return (*list.Set)(nil) // a check, or a fault that is reported
	}
	o := l.options
	copied, release, err := l.state.clients.stores.acquireList(store, at.Value, redis.ListOptions{
		Snapshot: l.snapshot(at.Value),
		OnSync: func(entries int, err error) {
			switch {
			case err != nil:
				if o.Metrics != nil {
					o.Metrics.ListRefreshed(name, metrics.Failed)
				}
				if o.Logger != nil {
					o.Logger.Warn("list not compared with the store, the last known copy stays", "list", name, "entries", entries, "error", err)
				}
			default:
				if o.Metrics != nil {
					o.Metrics.ListRefreshed(name, metrics.OK)
				}
				if o.Logger != nil {
					o.Logger.Info("list agrees with the store", "list", name, "entries", entries)
				}
			}
		},
	})
	if err != nil {
		l.errs = append(l.errs, at.Errorf("", "%s", err))
		return nil
	}
	l.closers = append(l.closers, release)
	if len(l.errs) == 0 {
		timer := time.NewTimer(firstCopy)
		defer timer.Stop()
		select {
		case <-copied.Ready():
		case <-timer.C:
			if o.Logger != nil {
				o.Logger.Warn("list is empty until the store answers", "list", name)
			}
		case <-l.ctx.Done():
		}
	}
	if l.stores == nil {
		l.stores = map[string]*redis.List{}
	}
	l.stores[name] = copied
	return copied
}

// snapshot returns the file for the last known copy of a list in the store; empty if
// there is none. It tells nothing of the URL, which may hold a password.
func (l *loader) snapshot(name string) string {
	if l.options.CacheDir == "" {
		return ""
	}
	server := l.storeURL
	if u, err := url.Parse(server); err == nil {
		u.User = nil // a new password is the same server
		server = u.String()
	}
	sum := sha256.Sum256([]byte(server + " " + name))
	return filepath.Join(l.options.CacheDir, "store-"+hex.EncodeToString(sum[:16])+".json")
}

// StoreLists returns the lists of the policy in force that are kept in the store, by
// their names in the policy.
func (rt *Runtime) StoreLists() map[string]*redis.List {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.compiled == nil {
		return nil
	}
	return rt.compiled.stores
}

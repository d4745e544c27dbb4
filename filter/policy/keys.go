package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/rules"
)

// keysKey is the identity of keys that come from a URL: as long as it stays the same
// over a reload, so do the keys.
type keysKey struct{ url, algorithms string }

// issuerKeys are keys that come from a URL, kept current while a policy names it.
type issuerKeys struct {
	*auth.RemoteKeys
	cancel context.CancelFunc // set once it runs
}

// allKeys are the keys that come from URLs. The zero value has none.
type allKeys struct {
	running sync.WaitGroup
	mu      sync.Mutex
	named   map[keysKey]*issuerKeys
}

func (a *allKeys) get(key keysKey) *issuerKeys {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.named[key]
}

// keep starts the refreshes of keys that are new and ends those that nobody names
// any more.
func (a *allKeys) keep(named map[keysKey]*issuerKeys) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, k := range a.named {
		if named[key] == nil {
			k.cancel()
		}
	}
	for _, k := range named {
		if k.cancel == nil {
			ctx, cancel := context.WithCancel(context.Background())
			k.cancel = cancel
			a.running.Go(func() { k.Run(ctx) })
		}
	}
	a.named = named
}

func (a *allKeys) close() {
	a.keep(nil)
	a.running.Wait()
}

// isURL reports whether the policy names a URL where a file could stand.
func isURL(s string) bool { return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") }

// remoteKeys returns the keys of a URL: the running ones, or new ones that have been
// loaded once; nil after a fault.
func (l *loader) remoteKeys(at rules.Located[string], algorithms []string) *auth.RemoteKeys {
	names := slices.Clone(algorithms)
	slices.Sort(names)
	key := keysKey{at.Value, strings.Join(names, " ")}
	fmt.Fprintf(l.content, "keys %q %q\n", key.url, key.algorithms)
	if k := l.keys[key]; k != nil {
		return k.RemoteKeys
	}
	if k := l.state.keys.get(key); k != nil {
		l.keys[key] = k
		return k.RemoteKeys
	}
	if len(l.errs) > 0 {
		return nil // the policy is refused in any case; nobody needs to be asked
	}
	o := l.options
	name := "jwks"
	if u, err := url.Parse(at.Value); err == nil {
		name += " " + u.Host
	}
	cache := ""
	if o.CacheDir != "" { // never the working directory, where others may write
		sum := sha256.Sum256([]byte(key.url))
		cache = filepath.Join(o.CacheDir, "jwks-"+hex.EncodeToString(sum[:12])+".json")
	}
	k, err := auth.NewRemoteKeys(l.ctx, auth.RemoteKeysConfig{
		URL:        at.Value,
		Algorithms: algorithms,
		Cache:      cache,
		OnRefresh: func(err error) {
			result := metrics.OK
			if err != nil {
				result = metrics.Failed
				if o.Logger != nil {
					o.Logger.Warn("keys not refreshed, the last good ones stay", "keys", name, "error", err)
				}
			}
			if o.Metrics != nil {
				o.Metrics.ListRefreshed(name, result)
			}
		},
	})
	if err != nil {
		var faults rules.Errors
		if !errors.As(err, &faults) {
			faults = rules.Errors{at.Errorf("", "%s", err)}
		}
		l.errs = append(l.errs, faults...)
		return nil
	}
	l.keys[key] = &issuerKeys{RemoteKeys: k}
	return k
}

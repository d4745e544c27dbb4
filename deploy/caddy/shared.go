package moatcaddy

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/moatwaf/moat/filter/policy"
)

// runtimes holds the running policies, keyed by the absolute path of their file.
// Two configurations, the old and the new one of a reload, share a runtime: its
// buckets, and its compiled rules, outlive either.
var runtimes = caddy.NewUsagePool()

// running is a policy in the pool.
type running struct {
	*policy.Runtime
	cancel context.CancelFunc
}

// Destruct implements caddy.Destructor.
func (r *running) Destruct() error {
	r.cancel()
	return r.Close()
}

// provided are sources of policies other than files, by name. The ready policy
// of "moat serve" is one.
var provided struct {
	sync.Mutex
	options map[string]policy.Options
}

// Provide makes the policy of o available under the name o.File, in place of the
// file of that name.
func Provide(o policy.Options) {
	provided.Lock()
	defer provided.Unlock()
	if provided.options == nil {
		provided.options = make(map[string]policy.Options)
	}
	provided.options[o.File] = o
}

func optionsOf(file string) (policy.Options, error) {
	provided.Lock()
	defer provided.Unlock()
	if o, ok := provided.options[file]; ok {
		return o, nil
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return policy.Options{}, err
	}
	return policy.Options{File: path, Watch: true}, nil
}

// acquire returns the runtime of a policy file and the function that gives it
// back.
func acquire(ctx caddy.Context, file string) (*policy.Runtime, func() error, error) {
	o, err := optionsOf(file)
	if err != nil {
		return nil, nil, err
	}
	value, loaded, err := runtimes.LoadOrNew(o.File, func() (caddy.Destructor, error) {
		// The runtime outlives this configuration, so its context does too.
		background, cancel := context.WithCancel(context.Background())
		o.Metrics = counters
		o.Logger = ctx.Slogger()
		rt, err := policy.Start(background, o)
		if err != nil {
			cancel()
			return nil, err
		}
		return &running{Runtime: rt, cancel: cancel}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	r := value.(*running)
	release := func() error {
		_, err := runtimes.Delete(o.File)
		return err
	}
	if loaded {
		// Caddy was reloaded. The policy may have changed since the last look.
		if err := r.Reload(ctx); err != nil {
			return nil, nil, errors.Join(err, release())
		}
	}
	return r.Runtime, release, nil
}

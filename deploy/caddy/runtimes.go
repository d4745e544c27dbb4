package moatcaddy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/moatwaf/moat/filter/policy"
)

// runtimes holds the running policies, by file and overrides. Two configurations,
// the old and the new one of a reload, share a runtime: its compiled rules outlive
// either.
var runtimes = caddy.NewUsagePool()

// clientStates holds what is known of clients, by policy file, so that a change of
// an override does not give every client a fresh bucket.
var clientStates = caddy.NewUsagePool()

// runtimeKey tells runtimes apart.
type runtimeKey struct {
	file      string
	overrides policy.Overrides
}

// running is a policy in the pool.
type running struct {
	*policy.Runtime
	name    string // of the policy file, for events
	cancel  context.CancelFunc
	release func() error // gives the state of clients back
	hosts   *hosts

	mu     sync.Mutex
	config *prometheus.Registry // of the configuration that looked for changes last
}

// Destruct implements caddy.Destructor.
func (r *running) Destruct() error {
	r.cancel()
	err := errors.Join(r.Close(), r.release())
	past.add(r.AuditStats())
	return err
}

// drain is how long a runtime goes on for a configuration that is gone. Caddy cleans
// a configuration up while requests of it are under way, and HTTP/2 clients may send
// a few more before they take note. They are decided by the policy, as ever.
var drain = time.Minute

// giveBack gives a runtime back, now if the process ends, else when it is drained.
func giveBack(key runtimeKey) error {
	if caddy.Exiting() {
		_, err := runtimes.Delete(key)
		return err
	}
	time.AfterFunc(drain, func() {
		if _, err := runtimes.Delete(key); err != nil {
			caddy.Log().Named("http.handlers.moat").Error("closing a policy", zap.String("file", key.file), zap.Error(err))
		}
	})
	return nil
}

// lookAgain reloads the policy, once for each configuration of Caddy however many
// sites it has. A registry belongs to one configuration.
func (r *running) lookAgain(ctx caddy.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	config := ctx.GetMetricsRegistry()
	if r.config == config {
		return nil
	}
	if err := r.Reload(ctx); err != nil {
		return err
	}
	r.config = config
	return nil
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
		return policy.Options{}, fmt.Errorf("the path of the policy: %w", err)
	}
	return policy.Options{File: path, Watch: true}, nil
}

// acquire returns the runtime of a policy file and the function that gives it
// back. Reports of the runtime go to the log of ctx and to events, until then.
func acquire(ctx caddy.Context, file string, overrides policy.Overrides, events *emitter) (*running, func() error, error) {
	o, err := optionsOf(file)
	if err != nil {
		return nil, nil, err
	}
	o.Overrides = overrides
	key := runtimeKey{file: o.File, overrides: overrides}
	host := &host{log: ctx.Slogger().Handler(), events: events}
	value, loaded, err := runtimes.LoadOrNew(key, func() (caddy.Destructor, error) { return start(ctx, o, host) })
	if err != nil {
		return nil, nil, err
	}
	r := value.(*running)
	release := func() error {
		r.hosts.remove(host)
		return giveBack(key)
	}
	if loaded {
		// Caddy was reloaded, or has another site with this policy. The policy
		// may have changed since the last look. Events of this go to those who
		// subscribed in the running configuration: the new one has not started.
		if err := r.lookAgain(ctx); err != nil {
			return nil, nil, errors.Join(err, release())
		}
		r.hosts.add(host)
	}
	return r, release, nil
}

// start starts the runtime of o. It outlives this configuration, so its context,
// log and events are not those of ctx alone.
func start(ctx caddy.Context, o policy.Options, first *host) (*running, error) {
	state, _, err := clientStates.LoadOrNew(o.File, func() (caddy.Destructor, error) {
		return &clientState{policy.NewClientState()}, nil
	})
	if err != nil {
		return nil, err
	}
	release := func() error {
		_, err := clientStates.Delete(o.File)
		return err
	}
	background, cancel := context.WithCancel(context.Background())
	hosts := new(hosts)
	hosts.add(first)
	o.Metrics = counters
	o.Logger = hosts.logger()
	o.Clients = state.(*clientState).ClientState
	o.OnReload = func(s policy.Status, err error) {
		if h := hosts.current(); h != nil {
			h.events.reloaded(s, err)
		}
	}
	rt, err := policy.Start(background, o)
	if err != nil {
		cancel()
		return nil, errors.Join(err, release())
	}
	return &running{
		Runtime: rt, name: filepath.Base(o.File), cancel: cancel, release: release, hosts: hosts,
		config: ctx.GetMetricsRegistry(),
	}, nil
}

// clientState is what is known of clients, in the pool.
type clientState struct{ *policy.ClientState }

// Destruct implements caddy.Destructor. The collector does the rest.
func (c *clientState) Destruct() error {
	forget(c.ClientState)
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/plugins"
)

// routes are the routers of the dynamic configuration, built anew whenever the file
// changes, as Traefik does it.
type routes struct {
	file    string
	builder *plugins.Builder
	current atomic.Pointer[routing]
}

// routing is one version of the configuration.
type routing struct {
	entryPoints map[string][]route // longest rule first
	cancel      context.CancelFunc
}

type route struct {
	rule    string
	host    string // empty for any
	prefix  string
	handler http.Handler
}

// of returns the handler of an entry point.
func (rs *routes) of(entryPoint string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, route := range rs.current.Load().entryPoints[entryPoint] {
			if (route.host == "" || strings.EqualFold(route.host, hostname(r.Host))) && strings.HasPrefix(r.URL.Path, route.prefix) {
				route.handler.ServeHTTP(w, r)
				return
			}
		}
		http.NotFound(w, r)
	})
}

func hostname(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		return host[:i]
	}
	return host
}

// watch loads the file when it has changed.
func (rs *routes) watch(ctx context.Context) {
	stamp := func() (time.Time, int64) {
		info, err := os.Stat(rs.file)
		if err != nil {
			return time.Time{}, 0
		}
		return info.ModTime(), info.Size()
	}
	lastTime, lastSize := stamp()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if t, n := stamp(); t != lastTime || n != lastSize {
			lastTime, lastSize = t, n
			if err := rs.load(); err != nil {
				slog.Error("dynamic configuration", "error", err)
				continue
			}
			slog.Info("dynamic configuration loaded")
		}
	}
}

// load builds every router of the file. A router that cannot be built is left out,
// and so answers 404, as in Traefik.
func (rs *routes) load() error {
	config, err := readDynamic(rs.file)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	next := &routing{entryPoints: map[string][]route{}, cancel: cancel}
	for name, router := range config.Routers {
		route, err := rs.build(ctx, config, router)
		if err != nil {
			slog.Error("router", "name", name, "error", err)
			continue
		}
		for _, entryPoint := range router.EntryPoints {
			next.entryPoints[entryPoint] = append(next.entryPoints[entryPoint], route)
		}
	}
	for _, list := range next.entryPoints {
		slices.SortFunc(list, func(a, b route) int { return len(b.rule) - len(a.rule) })
	}
	if old := rs.current.Swap(next); old != nil {
		old.cancel()
	}
	return nil
}

var matcher = regexp.MustCompile("^(Host|PathPrefix)\\(`([^`]*)`\\)$")

func (rs *routes) build(ctx context.Context, config *dynamic.HTTPConfiguration, router *dynamic.Router) (route, error) {
	r := route{rule: router.Rule}
	for part := range strings.SplitSeq(router.Rule, "&&") {
		match := matcher.FindStringSubmatch(strings.TrimSpace(part))
		switch {
		case match == nil:
			return route{}, fmt.Errorf("rule %s", router.Rule)
		case match[1] == "Host":
			r.host = match[2]
		default:
			r.prefix = match[2]
		}
	}
	service := config.Services[router.Service]
	if service == nil || service.LoadBalancer == nil || len(service.LoadBalancer.Servers) != 1 {
		return route{}, fmt.Errorf("service %q: one server is wanted", router.Service)
	}
	var err error
	if r.handler, err = newProxy(service.LoadBalancer.Servers[0].URL); err != nil {
		return route{}, err
	}
	for _, name := range slices.Backward(router.Middlewares) {
		middleware := config.Middlewares[name]
		if middleware == nil {
			return route{}, fmt.Errorf("no middleware %q", name)
		}
		if r.handler, err = rs.wrap(ctx, name, middleware, r.handler); err != nil {
			return route{}, fmt.Errorf("middleware %s: %w", name, err)
		}
	}
	r.handler = recovered(r.handler)
	return r, nil
}

// wrap puts a middleware in front of a handler.
func (rs *routes) wrap(ctx context.Context, name string, m *dynamic.Middleware, next http.Handler) (http.Handler, error) {
	switch {
	case m.BasicAuth != nil:
		return newBasicAuth(m.BasicAuth, next)
	case len(m.Plugin) == 1:
		for plugin, config := range m.Plugin {
			constructor, err := rs.builder.Build(plugin, config, name)
			if err != nil {
				return nil, err
			}
			return constructor(ctx, next)
		}
	}
	return nil, errors.New("a kind that this program does not have")
}

// recovered answers 500 after a panic, but for those that end a connection.
func recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				slog.Error("panic", "value", fmt.Sprint(v))
				http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	moatcaddy "github.com/moatwaf/moat/deploy/caddy"
	"github.com/moatwaf/moat/deploy/decide"
)

func init() { caddy.RegisterModule(new(decideApp)) }

// decideOptions are the flags of "moat serve" about decisions for other proxies.
type decideOptions struct {
	addrs []string
	mode  string
	cert  string
	key   string
	trust string
}

// decideListener is one address that --decide names.
type decideListener struct {
	Network string `json:"network"` // unix or tcp
	Address string `json:"address"`
	TLS     bool   `json:"tls,omitempty"`
}

// parseDecide reads an address that --decide names.
func parseDecide(addr string) (decideListener, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		if path = strings.TrimPrefix(path, "//"); !strings.HasPrefix(path, "/") {
			return decideListener{}, fmt.Errorf("--decide %q: the path of the socket must be absolute", addr)
		}
		return decideListener{Network: "unix", Address: path}, nil
	}
	u, err := url.Parse(addr)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return decideListener{}, fmt.Errorf("--decide %q: write unix:/path/to.sock, https://host:port or http://127.0.0.1:port", addr)
	}
	if u.Port() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return decideListener{}, fmt.Errorf("--decide %q: write scheme://host:port and nothing behind it", addr)
	}
	if u.Scheme == "http" && !isLoopback(u.Host) {
		return decideListener{}, fmt.Errorf("--decide %q: what is not encrypted stays on this machine: write https:// or a loopback address", addr)
	}
	return decideListener{Network: "tcp", Address: u.Host, TLS: u.Scheme == "https"}, nil
}

// app returns the configuration of the app that o describes.
func (o decideOptions) app(policyName string) (object, error) {
	var all []decideListener
	encrypted := false
	for _, addr := range o.addrs {
		l, err := parseDecide(addr)
		if err != nil {
			return nil, err
		}
		encrypted = encrypted || l.TLS
		all = append(all, l)
	}
	mode, err := strconv.ParseUint(o.mode, 8, 32)
	if err != nil || mode > 0o777 {
		return nil, fmt.Errorf("--decide-mode %q is no mode of a file: write 0660", o.mode)
	}
	if (o.cert == "") != (o.key == "") {
		return nil, errors.New("--decide-cert and --decide-key belong together")
	}
	if o.cert != "" && !encrypted {
		return nil, errors.New("--decide-cert: no --decide address is https")
	}
	trust := []string{}
	if o.trust != "" {
		if trust, err = parsePrefixes(o.trust); err != nil {
			return nil, fmt.Errorf("--decide-trust: %w", err)
		}
	}
	return object{"policy": policyName, "listeners": all, "mode": mode, "cert": o.cert, "key": o.key, "trust": trust}, nil
}

// describe prints where decisions are answered.
func (o decideOptions) describe(w io.Writer) {
	shown := false
	for _, addr := range o.addrs {
		fmt.Fprintf(w, "moat decides on   %s\n", addr)
		if shown || o.cert != "" || !strings.HasPrefix(addr, "https:") {
			continue
		}
		shown = true
		path, err := ownCertificate()
		if err != nil {
			continue
		}
		if c, err := tls.LoadX509KeyPair(path, keyOf(path)); err == nil {
			fmt.Fprintf(w, "certificate       %s, to be trusted by the proxy\n", path)
			fmt.Fprintf(w, "fingerprint       SHA-256 %s\n", fingerprint(c.Leaf))
		}
	}
}

// decideApp answers decisions for other proxies. It is an app of Caddy, so that the
// policy, its metrics and the admin address are those of every "moat serve".
type decideApp struct {
	Policy    string           `json:"policy"`
	Listeners []decideListener `json:"listeners"`
	Mode      fs.FileMode      `json:"mode"`
	Cert      string           `json:"cert"`
	Key       string           `json:"key"`
	Trust     []netip.Prefix   `json:"trust"`

	handler *decide.Handler
	config  *tls.Config // nil if no listener needs one
	logger  *zap.Logger
	errors  *log.Logger
	servers []*http.Server
	closers []func() // of socket files
	running sync.WaitGroup
}

// CaddyModule implements caddy.Module.
func (*decideApp) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "moat_decide", New: func() caddy.Module { return new(decideApp) }}
}

// Provision implements caddy.Provisioner. It loads the policy, which takes a while:
// only then a socket is opened, or taken over.
func (a *decideApp) Provision(ctx caddy.Context) error {
	raw, err := json.Marshal(object{"policy": a.Policy})
	if err != nil {
		return err
	}
	module, err := ctx.LoadModuleByID("http.handlers.moat", raw)
	if err != nil {
		return err
	}
	filter, ok := module.(*moatcaddy.Handler)
	if !ok {
		return fmt.Errorf("http.handlers.moat is a %T", module)
	}
	a.logger = ctx.Logger()
	if a.errors, err = zap.NewStdLogAt(a.logger, zap.DebugLevel); err != nil {
		return err
	}
	a.handler = decide.New(decide.Options{Engine: filter.Engine(), Trusted: a.Trust, Refused: filter.Refused})
	for _, l := range a.Listeners {
		if l.TLS && a.config == nil {
			if a.config, err = a.tls(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *decideApp) tls() (*tls.Config, error) {
	certificate, err := decideCertificate(a.Cert, a.Key, a.Listeners)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}}, nil
}

// Start implements caddy.App.
func (a *decideApp) Start() error {
	for _, listener := range a.Listeners {
		l, release, err := listener.open(a.Mode)
		if err != nil {
			return errors.Join(err, a.Stop())
		}
		var config *tls.Config
		if listener.TLS {
			config = a.config
		}
		s := decide.NewServer(a.handler, listener.Network, config, a.errors)
		a.servers, a.closers = append(a.servers, s), append(a.closers, release)
		a.running.Go(func() {
			if err := s.Serve(decide.Listen(s, l)); !errors.Is(err, http.ErrServerClosed) {
				a.logger.Error("no more decisions on this address", zap.String("address", listener.Address), zap.Error(err))
			}
		})
	}
	return nil
}

// stopTime is how long questions under way may take when the process ends.
const stopTime = 10 * time.Second

// Stop implements caddy.App. Questions under way are answered; connections between
// two questions are closed, and the hosts ask on another one.
func (a *decideApp) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	for _, release := range a.closers {
		release()
	}
	errs := make([]error, len(a.servers))
	var stopping sync.WaitGroup
	for i, s := range a.servers {
		stopping.Go(func() {
			if errs[i] = s.Shutdown(ctx); errs[i] != nil {
				_ = s.Close()
			}
		})
	}
	stopping.Wait()
	a.running.Wait()
	a.servers, a.closers = nil, nil
	return errors.Join(errs...)
}

// open listens. release takes away what listening has left on the file system.
func (l decideListener) open(mode fs.FileMode) (listener net.Listener, release func(), err error) {
	if l.Network != "unix" {
		listener, err = net.Listen(l.Network, l.Address)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot listen on %s: %w", l.Address, cause(err))
		}
		return listener, func() {}, nil
	}
	return decide.ListenUnix(l.Address, mode)
}

// Interface guards.
var (
	_ caddy.App         = (*decideApp)(nil)
	_ caddy.Provisioner = (*decideApp)(nil)
)

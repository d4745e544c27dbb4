package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/proxyprotocol"

	moatcaddy "github.com/moatwaf/moat/deploy/caddy"
	"github.com/moatwaf/moat/filter/policy"
)

// serveOptions are the flags of "moat serve".
type serveOptions struct {
	listen        string
	upstream      string
	policy        string
	admin         string
	proxyProtocol string
	printPolicy   bool
	decide        decideOptions
}

const serveUsage = `Usage: moat serve [flags]

Filters in front of an upstream. Without flags it shows itself: a ready policy,
a built-in upstream, and five requests to try.

Flags:
`

func parseServe(args []string, stderr io.Writer) (serveOptions, error) {
	var o serveOptions
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.listen, "listen", ":8080", "`address` to listen on")
	fs.StringVar(&o.upstream, "upstream", "", "`URL` of the upstream: http, https, h2c, or unix//path/to.sock; none: a built-in one")
	fs.StringVar(&o.policy, "policy", "", "policy `file`; none: a ready policy")
	fs.StringVar(&o.admin, "admin", "127.0.0.1:2020", "`address` of /metrics and /moat/; off: none")
	fs.StringVar(&o.proxyProtocol, "proxy-protocol", "", "comma-separated `prefixes` of load balancers that speak the PROXY protocol")
	fs.Func("decide", "`address` to answer other proxies' questions on, in place of filtering: unix:/path/to.sock, https://host:port or http://127.0.0.1:port; may be repeated", func(addr string) error {
		o.decide.addrs = append(o.decide.addrs, addr)
		return nil
	})
	fs.StringVar(&o.decide.mode, "decide-mode", "0660", "`mode` of the sockets of --decide")
	fs.StringVar(&o.decide.cert, "decide-cert", "", "`file` with the certificate for --decide https://; none: one that is made and kept")
	fs.StringVar(&o.decide.key, "decide-key", "", "`file` with the key of it")
	fs.StringVar(&o.decide.trust, "decide-trust", "", "comma-separated `prefixes` of proxies that may ask over the network, beside this machine")
	fs.BoolVar(&o.printPolicy, "print-policy", false, "print the ready policy and exit")
	fs.Usage = func() {
		fmt.Fprint(stderr, serveUsage)
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		fs.Usage()
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	var misplaced error
	fs.Visit(func(f *flag.Flag) {
		ofDecide := strings.HasPrefix(f.Name, "decide-")
		ofProxy := f.Name == "listen" || f.Name == "upstream" || f.Name == "proxy-protocol"
		switch {
		case ofDecide && len(o.decide.addrs) == 0:
			misplaced = fmt.Errorf("--%s needs --decide", f.Name)
		case ofProxy && len(o.decide.addrs) > 0:
			misplaced = fmt.Errorf("--%s has no use beside --decide: another proxy listens and passes on", f.Name)
		}
	})
	return o, misplaced
}

// object is a JSON object of Caddy's configuration.
type object = map[string]any

// config returns the Caddy configuration that o describes. policyName is the
// policy's file, or the name under which a ready one is provided.
func (o serveOptions) config(policyName string) (object, error) {
	apps, servers := object{}, object{}
	if len(o.decide.addrs) > 0 {
		app, err := o.decide.app(policyName)
		if err != nil {
			return nil, err
		}
		apps["moat_decide"] = app
	} else {
		server, err := o.proxy(policyName)
		if err != nil {
			return nil, err
		}
		servers["moat"] = server
	}
	if o.admin != "" && o.admin != "off" {
		admin, err := listenAddress("--admin", o.admin)
		if err != nil {
			return nil, err
		}
		servers["admin"] = object{
			"listen":          []string{admin},
			"protocols":       []string{"h1"},
			"automatic_https": object{"disable": true},
			"routes":          adminRoutes(admin),
		}
	}
	if len(servers) > 0 {
		apps["http"] = object{"grace_period": "10s", "servers": servers}
	}
	return object{
		// Caddy's own admin API could replace this configuration. Nobody asked for it.
		"admin": object{"disabled": true, "config": object{"persist": false}},
		// Of the server only what is wrong; of moat also what it does.
		"logging": object{"logs": object{
			"default": object{"level": "ERROR", "exclude": []string{"http.handlers.moat"}, "encoder": withoutSecrets()},
			"moat":    object{"level": "INFO", "include": []string{"http.handlers.moat"}},
		}},
		"apps": apps,
	}, nil
}

// proxy returns the server that filters in front of the upstream.
func (o serveOptions) proxy(policyName string) (object, error) {
	upstream := object{"handler": "moat_demo"}
	if o.upstream != "" {
		var err error
		if upstream, err = reverseProxy(o.upstream); err != nil {
			return nil, err
		}
	}
	listen, err := listenAddress("--listen", o.listen)
	if err != nil {
		return nil, err
	}
	server := object{
		"listen": []string{listen},
		// A client needs no minute to say what it wants.
		"read_header_timeout": "20s",
		"idle_timeout":        "2m",
		// A stream whose client only listens for a while is no stalled upload: Caddy's own
		// minute ends it. Bodies that rules read have a bound of their own.
		"read_idle_timeout": "5m",
		"protocols":         []string{"h1", "h2", "h2c"},
		"automatic_https":   object{"disable": true},
		"routes": []object{{"handle": []object{
			{"handler": "moat", "policy": policyName},
			upstream,
		}}},
	}
	if o.proxyProtocol != "" {
		prefixes, err := parsePrefixes(o.proxyProtocol)
		if err != nil {
			return nil, fmt.Errorf("--proxy-protocol: %w", err)
		}
		server["listener_wrappers"] = []object{
			{"wrapper": "proxy_protocol", "timeout": "5s", "allow": prefixes, "fallback_policy": "REJECT"},
		}
	}
	return server, nil
}

// withoutSecrets returns an encoder for the server's own log, which names the
// request when an upstream does not answer: query and header fields hold tokens,
// and Caddy knows the usual names of them only.
func withoutSecrets() object {
	return object{
		"format": "filter",
		"wrap":   object{"format": "json"},
		"fields": object{
			"request>headers": object{"filter": "delete"},
			"request>uri":     object{"filter": "regexp", "regexp": `\?.*`, "value": "?..."},
		},
	}
}

// adminRoutes returns the routes of the admin address. One that only this machine
// reaches is asked by address or as localhost: a browser on this machine that asks
// it by another name does so for a page that has given itself the address (DNS
// rebinding), and would show that page the answer.
func adminRoutes(addr string) []object {
	handle := []object{{"handler": "moat_admin"}}
	if !isLoopback(addr) {
		return []object{{"handle": handle}}
	}
	const names = `(?i)^(localhost|[0-9.]+|\[[0-9a-f:.]+\])(:[0-9]*)?$`
	return []object{
		{"match": []object{{"header_regexp": object{"Host": object{"pattern": names}}}}, "handle": handle},
		{"handle": []object{{
			"handler": "static_response", "status_code": 421,
			"headers": object{"Content-Type": []string{"text/plain; charset=utf-8"}},
			"body":    "Ask for this page by the address, or as localhost.\n",
		}}},
	}
}

// isLoopback reports whether only this machine reaches an address to listen on.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// listenAddress checks an address that a flag gives.
func listenAddress(flagName, addr string) (string, error) {
	if strings.HasPrefix(addr, "unix/") {
		return addr, nil
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "", fmt.Errorf("%s %q is no address: write host:port or :port", flagName, addr)
	}
	return addr, nil
}

func parsePrefixes(list string) ([]string, error) {
	var prefixes []string
	for field := range strings.SplitSeq(list, ",") {
		field = strings.TrimSpace(field)
		prefix, err := netip.ParsePrefix(field)
		if err != nil {
			addr, addrErr := netip.ParseAddr(field)
			if addrErr != nil {
				return nil, fmt.Errorf("%q is no address prefix", field)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		prefixes = append(prefixes, prefix.String())
	}
	return prefixes, nil
}

// reverseProxy returns Caddy's reverse_proxy handler for an upstream.
func reverseProxy(upstream string) (object, error) {
	handler := object{"handler": "reverse_proxy"}
	if strings.HasPrefix(upstream, "unix/") {
		handler["upstreams"] = []object{{"dial": upstream}}
		return handler, nil
	}
	u, err := url.Parse(upstream)
	if err != nil {
		return nil, fmt.Errorf("--upstream %q is no URL: write http://host:port", upstream)
	}
	transport := object{"protocol": "http"}
	port := "80"
	switch u.Scheme {
	case "http":
	case "https":
		port = "443"
		transport["tls"] = object{}
	case "h2c":
		transport["versions"] = []string{"h2c", "2"}
	default:
		return nil, fmt.Errorf("--upstream %q: write http://, https:// or h2c:// and the host", upstream)
	}
	switch {
	case u.Hostname() == "":
		return nil, fmt.Errorf("--upstream %q names no host", upstream)
	case u.User != nil:
		return nil, errors.New("--upstream must hold no credentials")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("--upstream %q must end after the host: moat does not rewrite paths", upstream)
	}
	if p := u.Port(); p != "" {
		port = p
	}
	handler["upstreams"] = []object{{"dial": net.JoinHostPort(u.Hostname(), port)}}
	handler["transport"] = transport
	return handler, nil
}

// free reports what stands in the way of listening on an address. Caddy shares its
// ports (SO_REUSEPORT): a second moat would start beside the first and answer every
// other connection by another policy.
func free(addr string) error {
	if addr == "" || addr == "off" || strings.HasPrefix(addr, "unix/") {
		return nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", addr, cause(err))
	}
	return l.Close()
}

// cause returns the error of the system under one of package net.
func cause(err error) error {
	var failed *net.OpError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// plainly returns an error without the path that it took through Caddy.
func plainly(err error) string {
	text := err.Error()
	const policyFault = "provision http.handlers.moat: moat: "
	if _, fault, ok := strings.Cut(text, policyFault); ok {
		return fault
	}
	return text
}

func serve(args []string, stdout, stderr io.Writer) int {
	o, err := parseServe(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintln(stderr, "moat serve:", err)
		return exitUsage
	case o.printPolicy:
		_, _ = stdout.Write(readyPolicy)
		return exitOK
	}

	policyName := o.policy
	var ready *readyFiles
	if policyName == "" {
		if ready, err = newReadyFiles(); err != nil {
			fmt.Fprintln(stderr, "moat serve:", err)
			return exitFinding
		}
		moatcaddy.Provide(policy.Options{File: readyName, ReadFile: ready.read})
		policyName = readyName
	}
	config, err := o.config(policyName)
	if err != nil {
		fmt.Fprintln(stderr, "moat serve:", err)
		return exitUsage
	}
	raw, err := json.Marshal(config)
	if err != nil {
		fmt.Fprintln(stderr, "moat serve:", err)
		return exitFinding
	}

	listen := o.listen
	if len(o.decide.addrs) > 0 {
		listen = "" // the app says for itself what stands in its way
	}
	for _, addr := range []string{listen, o.admin} {
		if err := free(addr); err != nil {
			fmt.Fprintln(stderr, "moat serve:", err)
			return exitFinding
		}
	}

	caddy.TrapSignals()
	if err := caddy.Load(raw, true); err != nil {
		fmt.Fprintln(stderr, "moat serve:", plainly(err))
		return exitFinding
	}
	printBanner(stderr, o, ready)
	select {} // signals end the process
}

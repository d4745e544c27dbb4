package main

import (
	"fmt"
	"io"
	"net"
	"strings"

	moatcaddy "github.com/moatwaf/moat/deploy/caddy"
)

// example is a request to try, with the answer that it must get.
type example struct {
	what    string
	command string
	want    string
}

// examples are the five requests that show what the ready policy does.
func examples(base string) []example {
	return []example{
		{"a clean request", "curl -i " + base + "/", "200"},
		{"an SQL injection", "curl -i '" + base + "/?id=1%27+UNION+SELECT+password+FROM+users--+-'", "403"},
		{"a blocked country, told by a trusted proxy", "curl -i -H 'X-Forwarded-For: 175.45.176.1' " + base + "/", "403"},
		{"a burst over a tier", "for i in 1 2 3 4 5 6; do curl -s -o /dev/null -w '%{http_code} ' -d user=anna " + base + "/login; done", "200 200 200 200 200 403"},
		{"a missing token", "curl -i " + base + "/private/", "401"},
	}
}

// baseURL returns the URL under which a client on this machine reaches a server
// that listens on addr.
func baseURL(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "http://" + addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// printBanner says what runs: where it listens, by which policy, with how much
// loaded, and what to try.
func printBanner(w io.Writer, o serveOptions, ready *readyFiles) {
	var b strings.Builder
	if len(o.decide.addrs) > 0 {
		b.WriteByte('\n')
		o.decide.describe(&b)
	} else {
		fmt.Fprintf(&b, "\nmoat listens on   %s\n", o.listen)
	}
	if o.admin != "" && o.admin != "off" && !strings.HasPrefix(o.admin, "unix/") && !isLoopback(o.admin) {
		fmt.Fprintf(&b, "WARNING           whoever reaches %s may read the state of moat and reload it\n", o.admin)
	}
	switch {
	case len(o.decide.addrs) > 0:
	case o.upstream == "":
		fmt.Fprintf(&b, "upstream          built in: /  /private/  /login  /echo\n")
	default:
		fmt.Fprintf(&b, "upstream          %s\n", o.upstream)
	}
	if o.admin != "" && o.admin != "off" {
		fmt.Fprintf(&b, "admin             %s/metrics  %[1]s/moat/status\n", baseURL(o.admin))
	}
	for _, rt := range moatcaddy.Running() {
		s := rt.Status()
		name := s.File
		if ready != nil {
			name = "ready policy (moat serve --print-policy)"
		}
		fmt.Fprintf(&b, "policy            %s\n", name)
		fmt.Fprintf(&b, "loaded            %d access rules, %d tiers, %d payload rules, %d lists with %d entries, %d countries\n",
			s.Summary.AccessRules, s.Summary.Tiers, s.Summary.PayloadRules, s.Summary.Lists, s.Summary.ListEntries, s.Summary.Countries)
	}
	if ready != nil && o.upstream == "" && len(o.decide.addrs) == 0 {
		fmt.Fprintf(&b, "\nTry:\n")
		for _, e := range examples(baseURL(o.listen)) {
			fmt.Fprintf(&b, "  # %s: %s\n  %s\n", e.what, e.want, e.command)
		}
	}
	if ready != nil && len(o.decide.addrs) == 0 {
		fmt.Fprintf(&b, "\nCredentials for /private/, good until the end of this process:\n")
		fmt.Fprintf(&b, "  curl -u demo:%s %s/private/\n", ready.password, baseURL(o.listen))
		fmt.Fprintf(&b, "  curl -H 'Authorization: Bearer %s' %s/private/\n", ready.token, baseURL(o.listen))
	}
	b.WriteByte('\n')
	_, _ = io.WriteString(w, b.String())
}

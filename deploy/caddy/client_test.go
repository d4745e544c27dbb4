package moatcaddy

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestCaddyKeepsItsTrustedProxies fails if Caddy renames the field by which the
// handler knows who derives the client's address.
func TestCaddyKeepsItsTrustedProxies(t *testing.T) {
	field, ok := reflect.TypeFor[caddyhttp.Server]().FieldByName(trustedProxiesField)
	if !ok || field.Type.Kind() != reflect.Interface {
		t.Fatalf("caddyhttp.Server.%s: %v, %v", trustedProxiesField, field, ok)
	}
}

// TestClientAddress holds that the client's address is Caddy's where Caddy was told
// whom to trust, the policy's where it was not, and never a mixture.
func TestClientAddress(t *testing.T) {
	const rule = "rules: [{id: blocked, match: {ip: [203.0.113.66, \"2001:db8::66\"]}, action: block}]\n"
	const policyTrusts = "client_ip: {trusted_proxies: [127.0.0.0/8], header: X-Forwarded-For}\n"
	const policyForwarded = "client_ip: {trusted_proxies: [127.0.0.0/8], header: Forwarded}\n"
	const trustLoopback = "trusted_proxies static 127.0.0.0/8\n\t\ttrusted_proxies_strict\n"
	const trustOthers = "trusted_proxies static 10.0.0.0/8\n\t\ttrusted_proxies_strict\n"
	blocked := "X-Forwarded-For: 203.0.113.66"

	for _, tt := range []struct {
		name, policy, servers string
		fields                []string
		client                string // empty: refused
	}{
		{"nobody trusts", "", "", []string{blocked}, "127.0.0.1"},
		{"policy trusts", policyTrusts, "", []string{blocked}, ""},
		{"policy trusts, another client", policyTrusts, "", []string{"X-Forwarded-For: 203.0.113.7"}, "203.0.113.7"},
		{"policy trusts another header", policyForwarded, "", []string{blocked}, "127.0.0.1"},
		{"policy trusts Forwarded", policyForwarded, "", []string{"Forwarded: for=203.0.113.66"}, ""},
		{"policy trusts Forwarded, client writes X-Forwarded-For", policyForwarded, "",
			[]string{"Forwarded: for=203.0.113.7", "X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 198.51.100.2"}, "203.0.113.7"},

		{"Caddy trusts", "", trustLoopback, []string{blocked}, ""},
		{"Caddy trusts, another client", "", trustLoopback, []string{"X-Forwarded-For: 203.0.113.7"}, "203.0.113.7"},
		{"Caddy trusts, mapped address", "", trustLoopback, []string{"X-Forwarded-For: ::ffff:203.0.113.66"}, ""},
		{"Caddy trusts, IPv6", "", trustLoopback, []string{"X-Forwarded-For: 2001:db8::66"}, ""},
		{"Caddy trusts, no address", "", trustLoopback, []string{"X-Forwarded-For: unknown"}, "127.0.0.1"},
		{"Caddy trusts, client writes to the left", "", trustLoopback, []string{"X-Forwarded-For: 198.51.100.1, 203.0.113.66"}, ""},
		{"Caddy trusts, two lines", "", trustLoopback, []string{"X-Forwarded-For: 198.51.100.1", blocked}, ""},
		{"Caddy trusts another header", "", trustLoopback + "\t\tclient_ip_headers X-Real-IP\n", []string{blocked, "X-Real-Ip: 203.0.113.7"}, "203.0.113.7"},

		{"both trust, one header", policyTrusts, trustLoopback, []string{blocked}, ""},
		{"both trust, Caddy's header counts", policyForwarded, trustLoopback, []string{"Forwarded: for=203.0.113.66"}, "127.0.0.1"},
		{"both trust, two headers", policyForwarded, trustLoopback, []string{"Forwarded: for=203.0.113.66", "X-Forwarded-For: 203.0.113.7"}, "203.0.113.7"},
		{"Caddy trusts others, policy this peer", policyTrusts, trustOthers, []string{blocked}, "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got http.Header
			up := upstream(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
			servers := ""
			if tt.servers != "" {
				servers = "servers {\n\t\t" + tt.servers + "\t}\n"
			}
			s := startCaddy(t, "{\nGLOBAL"+servers+"}\nADDR {\nmoat "+writePolicy(t, noWAF+rule+tt.policy)+"\nreverse_proxy "+up+" {\nheader_up X-Seen {client_ip}\n}\n}\n")
			a := s.get(t, "/", tt.fields...)
			if tt.client == "" {
				if a.status != 403 || got != nil {
					t.Errorf("%d, upstream saw %v", a.status, got)
				}
				return
			}
			if a.status != 200 || got.Get("X-Seen") != tt.client {
				t.Fatalf("%d, upstream saw %v, want the client %s", a.status, got, tt.client)
			}
			// What the upstream reads in X-Forwarded-For is the same finding.
			chain := strings.Split(got.Get("X-Forwarded-For"), ", ")
			if want := tt.client; chain[0] != want && tt.name != "both trust, Caddy's header counts" && !strings.Contains(tt.name, "another header") {
				if tt.name != "Caddy trusts, no address" {
					t.Errorf("X-Forwarded-For %q, want %s first", chain, want)
				}
			}
		})
	}
}

// TestUnixSocket holds that a client without an address is not taken for one.
func TestUnixSocket(t *testing.T) {
	socket := t.TempDir() + "/caddy.sock"
	policy := writePolicy(t, noWAF+"client_ip: {trusted_proxies: [0.0.0.0/0, \"::/0\"]}\nrules: [{id: blocked, match: {ip: 203.0.113.66}, action: block}]\n")
	for name, tt := range map[string]struct {
		servers string
		status  int
	}{
		"untrusted": {"", 200},
		"trusted":   {"servers {\ntrusted_proxies_unix\ntrusted_proxies static 10.0.0.0/8\n}\n", 403},
	} {
		t.Run(name, func(t *testing.T) {
			s := startCaddy(t, "{\nGLOBAL"+tt.servers+"}\nhttp:// {\nbind unix/"+socket+"\nmoat "+policy+"\nrespond {http.moat.verdict}\n}\n")
			s.client.Transport = unixTransport(socket)
			if a := s.get(t, "/", "X-Forwarded-For: 203.0.113.66"); a.status != tt.status {
				t.Errorf("%+v, want %d", a, tt.status)
			}
		})
	}
}

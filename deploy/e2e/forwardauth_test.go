package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// forwardAuthHost is a proxy that asks the daemon by subrequests.
type forwardAuthHost struct {
	name     string
	gone     []int // what it may answer without a daemon
	ownPages bool  // it does not pass the daemon's pages on
	start    func(t *testing.T, snippet, socket, upstream string) (addr string)
}

var forwardAuthHosts = []forwardAuthHost{
	{name: "nginx", gone: []int{500}, ownPages: true, start: startNginx},
	{name: "caddyfile", gone: []int{502}, start: startForwardingCaddy},
}

// snippet returns the text of a language in deploy/forwardauth/README.md.
func snippet(t *testing.T, language string) string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "forwardauth", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), "\n```"+language+"\n")
	text, _, closed := strings.Cut(text, "\n```\n")
	if !found || !closed {
		t.Fatalf("README.md has no text in %s", language)
	}
	return text + "\n"
}

// startNginx starts nginx with a server block and returns its address.
func startNginx(t *testing.T, block, socket, upstream string) string {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		if os.Getenv("MOAT_TEST_ALL") != "" {
			t.Fatal("nginx is missing, and MOAT_TEST_ALL is set")
		}
		t.Skip("skipped: no nginx here; apt-get install nginx-light")
	}
	addr, dir := freeAddr(t), t.TempDir()
	block = replaceOnce(t, block, "/run/moat/moat.sock", socket)
	block = replaceOnce(t, block, "listen 80;", "listen "+addr+";")
	block = replaceOnce(t, block, "127.0.0.1:9000", upstream)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // the socket is root's here
	}
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "\t%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	config := filepath.Join(dir, "nginx.conf")
	writeFile(t, config, fmt.Appendf(nil, "%s\npid %s/pid;\nerror_log stderr;\ndaemon off;\nworker_processes 2;\nevents {}\nhttp {\n\taccess_log off;\n%s%s}\n", user, dir, temp.String(), block))
	startProcess(t, dir, path, "-e", "stderr", "-p", dir, "-c", config).accepts(t, "tcp", addr)
	return addr
}

// startForwardingCaddy starts Caddy with a Caddyfile and returns its address.
func startForwardingCaddy(t *testing.T, caddyfile, socket, upstream string) string {
	t.Helper()
	addr := freeAddr(t)
	port := addr[strings.LastIndexByte(addr, ':')+1:]
	caddyfile = replaceOnce(t, caddyfile, "/run/moat/moat.sock", socket)
	caddyfile = replaceOnce(t, caddyfile, "http://:80 {", "http://:"+port+" {\n\tbind 127.0.0.1")
	caddyfile = replaceOnce(t, caddyfile, "127.0.0.1:9000", upstream)
	config := filepath.Join(t.TempDir(), "Caddyfile")
	writeFile(t, config, []byte("{\n\tadmin off\n\tauto_https off\n}\n"+caddyfile))
	startMoat(t, addr, "run", "--config", config)
	return addr
}

// startForwardingTraefik starts the whole Traefik with a dynamic configuration.
func startForwardingTraefik(t *testing.T, dynamic, decide, certificate, upstream string) string {
	t.Helper()
	dynamic = replaceOnce(t, dynamic, "https://127.0.0.1:9443", "https://"+decide)
	dynamic = replaceOnce(t, dynamic, "/etc/traefik/moat.pem", certificate)
	dynamic = replaceOnce(t, dynamic, "http://127.0.0.1:9000", "http://"+upstream)
	g := &traefikTarget{whole: true, socket: socketPath(t)}
	g.change = func(string) string { return dynamic }
	return g.startTraefik(t, "http://"+upstream)
}

// identities answers with what the upstream got to know of the client.
func identities(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "user %q", r.Header.Values("X-Remote-User"))
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// TestForwardAuth starts each proxy with the configuration that
// deploy/forwardauth/README.md shows, and the daemon.
func TestForwardAuth(t *testing.T) {
	skipShort(t)
	for _, host := range forwardAuthHosts {
		t.Run(host.name, func(t *testing.T) {
			f := newFixtures(t)
			d := &traefikTarget{policy: f.policy, socket: socketPath(t)}
			d.startDaemon(t)
			addr := host.start(t, snippet(t, host.name), d.socket, identities(t))
			forwardAuthScenario(t, host, f.vars, addr)
			d.daemon.stop(t)
			forwardAuthWithoutDaemon(t, host, f.vars, addr)
			d.startDaemon(t)
			if status, _, _ := askForward(t, addr, forwardAuthCase{token: f.vars["TOKEN_OK"], path: "/api/me"}); status != http.StatusOK {
				t.Errorf("with a new daemon: %d", status)
			}
		})
	}
	t.Run("traefik", func(t *testing.T) {
		if os.Getenv("MOAT_TEST_TRAEFIK") == "" {
			t.Skip("skipped: MOAT_TEST_TRAEFIK=1 runs the whole Traefik")
		}
		f := newFixtures(t)
		certificate, key := selfSigned(t)
		decide := lowAddr(t)
		d := &traefikTarget{policy: f.policy, socket: socketPath(t)}
		d.daemonArgs = []string{"--decide", "https://" + decide, "--decide-cert", certificate, "--decide-key", key}
		d.startDaemon(t)
		host := forwardAuthHost{name: "traefik", gone: []int{500}}
		addr := startForwardingTraefik(t, snippet(t, "yaml"), decide, certificate, identities(t))
		forwardAuthScenario(t, host, f.vars, addr)
		d.daemon.stop(t)
		forwardAuthWithoutDaemon(t, host, f.vars, addr)
	})
}

// forwardAuthCase is a request, and what is to become of it.
type forwardAuthCase struct {
	name, path, token, src string
	fields                 []string // more field lines
	status                 int
	challenge              string // expression that WWW-Authenticate matches; empty: there is none
	upstream               string // what the upstream got to know; empty: it saw nothing
}

func askForward(t *testing.T, addr string, c forwardAuthCase) (status int, header http.Header, body string) {
	t.Helper()
	lines := append([]string{"GET " + c.path + " HTTP/1.1", "Host: localhost", "Connection: close", "Accept: application/json"}, c.fields...)
	if c.token != "" {
		lines = append(lines, "Authorization: Bearer "+c.token)
	}
	a, err := Send(t.Context(), addr, Message{Method: http.MethodGet, Src: c.src, Head: []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")})
	if err != nil {
		t.Fatal(err)
	}
	return a.Status, a.Header, string(a.Body)
}

func forwardAuthScenario(t *testing.T, host forwardAuthHost, vars Vars, addr string) {
	for _, c := range []forwardAuthCase{
		{name: "open path", path: "/", status: 200, upstream: "user []"},
		{name: "attack", path: "/?q=%3Cscript%3Ealert(document.cookie)%3C/script%3E", status: 403},
		{name: "attack without credentials", path: "/api/me?q=1%27+UNION+SELECT+password+FROM+users--+-", status: 403},
		{name: "attack with credentials", path: "/api/me?q=1%27+UNION+SELECT+password+FROM+users--+-", token: vars["TOKEN_OK"], status: 403},
		{name: "no credentials", path: "/api/me", status: 401, challenge: `(?i)^bearer realm="api"`},
		{name: "expired token", path: "/api/me", token: vars["TOKEN_EXPIRED"], status: 401, challenge: `error="invalid_token"`},
		{name: "good token", path: "/api/me", token: vars["TOKEN_OK"], status: 200, upstream: `user ["anna"]`},
		{name: "no scope", path: "/api/admin/report", token: vars["TOKEN_NOSCOPE"], status: 403, challenge: `error="insufficient_scope"`},
		{name: "identity by the client", path: "/", fields: []string{"X-Remote-User: admin"}, status: 200, upstream: "user []"},
		{name: "identity by the client, with a token", path: "/api/me", token: vars["TOKEN_OK"], fields: []string{"X-Remote-User: admin"}, status: 200, upstream: `user ["anna"]`},
		{name: "blocked peer", path: "/", src: vars["SRC_BLOCKED"], status: 403},
		{name: "blocked peer that claims another address", path: "/", src: vars["SRC_BLOCKED"],
			fields: []string{"X-Forwarded-For: 198.51.100.1", "X-Real-Ip: 198.51.100.1"}, status: 403},
		{name: "peer that claims a blocked address", path: "/", src: vars["SRC_UNTRUSTED"],
			fields: []string{"X-Forwarded-For: " + vars["IP_BLOCKED"]}, status: 200, upstream: "user []"},
		{name: "another method and path by the client", path: "/api/me",
			fields: []string{"X-Forwarded-Method: OPTIONS", "X-Forwarded-Uri: /", "X-Original-Uri: /", "X-Original-Method: OPTIONS"}, status: 401, challenge: "."},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, header, body := askForward(t, addr, c)
			challenge := strings.Join(header.Values("WWW-Authenticate"), ", ")
			if status != c.status {
				t.Fatalf("%d, want %d: %.200q", status, c.status, body)
			}
			if c.status == http.StatusOK && body != c.upstream {
				t.Errorf("the upstream: %q, want %q", body, c.upstream)
			}
			if host.ownPages && c.status == http.StatusForbidden {
				return
			}
			if c.challenge == "" && challenge != "" || c.challenge != "" && !regexp.MustCompile(c.challenge).MatchString(challenge) {
				t.Errorf("challenge %q, want %s", challenge, c.challenge)
			}
			if !host.ownPages && status != http.StatusOK && !strings.Contains(header.Get("Content-Type"), "json") {
				t.Errorf("the daemon's page did not come through: %q", body)
			}
		})
	}
}

// forwardAuthWithoutDaemon holds that nobody gets in when nobody decides.
func forwardAuthWithoutDaemon(t *testing.T, host forwardAuthHost, vars Vars, addr string) {
	for _, c := range []forwardAuthCase{{path: "/"}, {path: "/api/me", token: vars["TOKEN_OK"]}} {
		start := time.Now()
		status, _, body := askForward(t, addr, c)
		if !slices.Contains(host.gone, status) || strings.Contains(body, "user [") {
			t.Errorf("%s without a daemon: %d %.200q, want %v", c.path, status, body, host.gone)
		}
		if d := time.Since(start); d > exchangeTime {
			t.Errorf("%s without a daemon: after %v", c.path, d)
		}
	}
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// decider is a running "moat serve --decide".
type decider struct {
	cmd    *exec.Cmd
	admin  string
	stderr lockedBuffer
	stdout lockedBuffer
	exited chan error
}

// startDecide starts a process and waits until its admin address answers.
func startDecide(t *testing.T, home string, args ...string) *decider {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &decider{admin: freeAddr(t), exited: make(chan error, 1)}
	p.cmd = exec.Command(self)
	p.cmd.Args = append([]string{"moat", "serve", "--admin", p.admin}, args...)
	p.cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home, "STATE_DIRECTORY=")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	t.Cleanup(func() { p.end(t) })
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if strings.Contains(p.stderr.String(), "loaded   ") {
			return p
		}
		select {
		case err := <-p.exited:
			p.exited <- err
			t.Fatalf("moat ended: %v\n%s", err, p.stderr.String())
		default:
		}
	}
	t.Fatalf("moat does not start\n%s", p.stderr.String())
	return nil
}

// end ends the process, once.
func (p *decider) end(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.exited:
		p.exited <- err
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		t.Error("moat did not end on SIGTERM")
	}
}

func unixClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
}

// askAbout asks for a decision about a GET and returns the verdict and the status.
func askAbout(t *testing.T, client *http.Client, base, target, peer string) (verdict, status string) {
	t.Helper()
	head := "GET\n" + target + "\nHTTP/1.1\nwww.example.com\n" + peer + "\n-\n\nUser-Agent: test\r\nAccept: */*\r\n\r\n"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/decide", strings.NewReader(head))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Moat-Protocol": {"1"}, "Moat-Head": {fmt.Sprint(len(head))}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		b, _ := io.ReadAll(res.Body)
		t.Fatalf("%s: %s", res.Status, b)
	}
	return res.Header.Get("Moat-Verdict"), res.Header.Get("Moat-Status")
}

// TestServeDecide runs the daemon: every kind of address, the policy and what it
// learns, the admin address, and the end.
func TestServeDecide(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the real daemon")
	}
	home := t.TempDir()
	socket := filepath.Join(home, "moat.sock")
	plain, secure := freeAddr(t), freeAddr(t)
	policy := filepath.Join(home, "policy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("version: 1\nwaf: {mode: 'off'}\nrules:\n  - {id: bad, match: {path: /bad}, action: block}\n")
	args := []string{"--policy", policy, "--decide", "unix:" + socket, "--decide", "http://" + plain, "--decide", "https://" + secure, "--decide-mode", "0600"}
	p := startDecide(t, home, args...)

	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	pemFile := regexp.MustCompile(`certificate +(\S+),`).FindStringSubmatch(p.stderr.String())
	if pemFile == nil || !strings.Contains(p.stderr.String(), "SHA-256") {
		t.Fatalf("no certificate is named:\n%s", p.stderr.String())
	}
	pool := x509.NewCertPool()
	cert, err := os.ReadFile(pemFile[1])
	if err != nil || !pool.AppendCertsFromPEM(cert) {
		t.Fatalf("the certificate: %v", err)
	}
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	overUnix := unixClient(socket)

	for name, client := range map[string]*http.Client{"http://moat": overUnix, "http://" + plain: http.DefaultClient, "https://" + secure: trusting} {
		if verdict, _ := askAbout(t, client, name, "/", "192.0.2.7:1"); verdict != "pass" {
			t.Errorf("%s: %s", name, verdict)
		}
		if verdict, status := askAbout(t, client, name, "/bad", "192.0.2.7:1"); verdict != "answer" || status != "403" {
			t.Errorf("%s: %s %s", name, verdict, status)
		}
	}

	t.Run("forward authentication over HTTP/2", func(t *testing.T) {
		for uri, want := range map[string]int{"/": 200, "/bad": 403} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+secure+"/v1/forward-auth", nil)
			req.Header = http.Header{"X-Forwarded-Method": {"POST"}, "X-Forwarded-Uri": {uri}, "X-Forwarded-Host": {"www.example.com"}, "X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}}
			res, err := trusting.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != want || res.ProtoMajor != 2 {
				t.Errorf("%s: %s %d, want %d", uri, res.Proto, res.StatusCode, want)
			}
		}
	})

	t.Run("the admin address, audit lines and metrics are those of every serve", func(t *testing.T) {
		status, body := get(t, "http://"+p.admin+"/moat/status")
		if status != 200 || !strings.Contains(body, "policy.yaml") {
			t.Errorf("%d %s", status, body)
		}
		_, metrics := get(t, "http://"+p.admin+"/metrics")
		if !strings.Contains(metrics, "moat_") {
			t.Error("no metrics")
		}
		waitFor(t, func() bool { return strings.Contains(p.stdout.String(), `"rule":"bad"`) }, "no audit line")
	})

	t.Run("an edited policy comes into force", func(t *testing.T) {
		write("version: 1\nwaf: {mode: 'off'}\nrules:\n  - {id: worse, match: {path: /worse}, action: block}\n")
		waitFor(t, func() bool {
			verdict, _ := askAbout(t, overUnix, "http://moat", "/worse", "192.0.2.7:1")
			return verdict == "answer"
		}, "it does not")
	})

	t.Run("a second process takes nothing away", func(t *testing.T) {
		self, _ := os.Executable()
		cmd := exec.Command(self)
		cmd.Args = []string{"moat", "serve", "--policy", policy, "--decide", "unix:" + socket, "--admin", "off"}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "another process does") {
			t.Errorf("%v: %s", err, out)
		}
		if verdict, _ := askAbout(t, overUnix, "http://moat", "/", "192.0.2.7:1"); verdict != "pass" {
			t.Error(verdict)
		}
	})

	p.end(t)
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}

	t.Run("what a dead process left is replaced, and the certificate stays", func(t *testing.T) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		_ = l.Close()
		q := startDecide(t, home, args...)
		if verdict, _ := askAbout(t, unixClient(socket), "http://moat", "/", "192.0.2.7:1"); verdict != "pass" {
			t.Error(verdict)
		}
		again, err := os.ReadFile(pemFile[1])
		if err != nil || string(again) != string(cert) {
			t.Errorf("another certificate, %v", err)
		}
		q.end(t)
	})
}

func TestOwnCertificate(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("STATE_DIRECTORY", dir)
	now := time.Now()
	at := func(addr string) []decideListener {
		return []decideListener{{Network: "tcp", Address: addr, TLS: true}}
	}
	first, err := decideCertificate("", "", at("127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.Stat(filepath.Join(dir, "decide.key"))
	if err != nil || key.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", key, err)
	}
	same, err := decideCertificate("", "", at("localhost:1"))
	if err != nil || !same.Leaf.Equal(first.Leaf) {
		t.Errorf("another one was made: %v", err)
	}
	other, err := decideCertificate("", "", at("moat.example.com:1"))
	if err != nil || other.Leaf.Equal(first.Leaf) || other.Leaf.VerifyHostname("moat.example.com") != nil || other.Leaf.VerifyHostname("127.0.0.1") != nil {
		t.Errorf("a new name: %v", err)
	}
	if covers(first.Leaf, nil, now.Add(certificateTime)) || !covers(first.Leaf, nil, now) {
		t.Error("its time is not looked at")
	}
	if err := os.WriteFile(filepath.Join(dir, "decide.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("garbage")}), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := decideCertificate("", "", at("127.0.0.1:1")); err != nil || c.Leaf.Equal(first.Leaf) {
		t.Errorf("a broken file: %v", err)
	}
}

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// restartLoad is how many requests are sent over how many restarts of the daemon:
// MOAT_TEST_RESTARTS=100000/50 is the whole measure.
func restartLoad(t *testing.T) (requests, restarts int64) {
	t.Helper()
	requests, restarts = 3000, 5
	if s := os.Getenv("MOAT_TEST_RESTARTS"); s != "" {
		if _, err := fmt.Sscanf(s, "%d/%d", &requests, &restarts); err != nil || requests < 1 || restarts < 1 {
			t.Fatalf("MOAT_TEST_RESTARTS=%s: want requests/restarts", s)
		}
	}
	return requests, restarts
}

// patient has the plugin wait longer for a daemon than deploy/traefik does: the
// machine of a test may be a slow one.
func patient(s string) string {
	return strings.NewReplacer("timeout: 3s", "timeout: 30s", "retry: 2s", "retry: 30s").Replace(s)
}

// TestTraefikDaemonRestarts ends the daemon and starts a new one again and again
// while requests flow. None fails, and each gets the verdict that it deserves.
func TestTraefikDaemonRestarts(t *testing.T) {
	skipShort(t)
	requests, restarts := restartLoad(t)
	for _, target := range traefikTargets(t) {
		t.Run(target.Name(), func(t *testing.T) {
			f := newFixtures(t)
			u := newUpstream(t)
			g := target.(*traefikTarget)
			g.change = patient
			addr := g.Start(t, f.policy, u.URL)

			var sent, failed, wrong atomic.Int64
			perRestart := requests / restarts
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var load sync.WaitGroup
			for worker := range 8 {
				load.Go(func() {
					client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: 2 * startTime}
					defer client.CloseIdleConnections()
					for n := worker; ctx.Err() == nil && sent.Load() < requests; n++ {
						switch got, want, err := restartRequest(t.Context(), client, addr, n, f.vars); {
						case err != nil:
							if failed.Add(1) <= 5 {
								t.Errorf("request %d: %v", n, err)
							}
						case got != want:
							if wrong.Add(1) <= 5 {
								t.Errorf("request %d: %d, want %d", n, got, want)
							}
						}
						sent.Add(1)
					}
				})
			}
			longest := time.Duration(0)
			for n := range restarts {
				for sent.Load() < n*perRestart && !t.Failed() {
					time.Sleep(time.Millisecond)
				}
				start := time.Now()
				g.daemon.stop(t)
				g.startDaemon(t)
				longest = max(longest, time.Since(start))
			}
			load.Wait()
			t.Logf("%d requests over %d restarts (the longest took %v): %d failed, %d wrong",
				sent.Load(), restarts, longest.Round(time.Millisecond), failed.Load(), wrong.Load())
		})
	}
}

// restartRequest sends request n and returns the status and the one that is right.
func restartRequest(ctx context.Context, client *http.Client, addr string, n int, vars Vars) (got, want int, err error) {
	method, target, body, token := http.MethodGet, "/api/me", "", vars["TOKEN_OK"]
	want = http.StatusOK
	switch n % 5 {
	case 1: // an attack
		target, want = "/?id=1%27+UNION+SELECT+password+FROM+users--+-", http.StatusForbidden
	case 2: // nobody
		token, want = "", http.StatusUnauthorized
	case 3: // a body that is read
		method, target, body = http.MethodPost, "/echo", `{"n": `+strconv.Itoa(n)+`}`
	case 4: // a body that is not, and is refused
		method, target, body, token, want = http.MethodPost, "/api/me", "id=1'+UNION+SELECT+password+FROM+users--+-", "", http.StatusForbidden
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+target, strings.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	switch n % 5 {
	case 3:
		req.Header.Set("Content-Type", "application/json")
	case 4:
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	buffer := make([]byte, 4096)
	read := 0
	for {
		n, err := resp.Body.Read(buffer[read:])
		read += n
		if err != nil || read == len(buffer) {
			break
		}
	}
	if n%5 == 3 && string(buffer[:read]) != body {
		return 0, 0, fmt.Errorf("the body came back as %q", buffer[:read])
	}
	return resp.StatusCode, want, nil
}

// TestTraefikWithoutDaemon holds what becomes of requests when nobody decides, and
// that the log says so once and not for each of them.
func TestTraefikWithoutDaemon(t *testing.T) {
	skipShort(t)
	for _, target := range traefikTargets(t) {
		for _, onUnavailable := range []string{"block", "pass"} {
			t.Run(target.Name()+" "+onUnavailable, func(t *testing.T) {
				f := newFixtures(t)
				u := newUpstream(t)
				g := &traefikTarget{whole: target.(*traefikTarget).whole}
				g.change = func(s string) string {
					return strings.NewReplacer("onUnavailable: block", "onUnavailable: "+onUnavailable, "timeout: 3s", "timeout: 500ms", "retry: 2s", "retry: 300ms").Replace(s)
				}
				addr := g.Start(t, f.policy, u.URL)
				client := newClient(t)
				ask := func() (int, time.Duration) {
					t.Helper()
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/api/me", nil)
					if err != nil {
						t.Fatal(err)
					}
					start := time.Now()
					status, _ := do(t, client, req)
					return status, time.Since(start)
				}
				if status, _ := ask(); status != http.StatusUnauthorized {
					t.Fatalf("with the daemon: %d, want 401", status)
				}
				g.daemon.stop(t)
				want := map[string]int{"block": http.StatusServiceUnavailable, "pass": http.StatusOK}[onUnavailable]
				for range 20 {
					// Not the bare timeout: the machine of a test may be a slow one.
					if status, took := ask(); status != want || took > 10*time.Second {
						t.Errorf("without the daemon: %d after %v, want %d", status, took, want)
					}
				}
				if n := strings.Count(string(g.traefik.log.tail()), "no decision from"); n != 1 {
					t.Errorf("the log says it %d times, want once:\n%s", n, g.traefik.log.tail())
				}
				g.startDaemon(t)
				if status, _ := ask(); status != http.StatusUnauthorized {
					t.Errorf("with a new daemon: %d, want 401", status)
				}

				// A daemon that takes questions and does not answer.
				suspend(t, g.daemon.cmd.Process)
				for range 3 {
					if status, took := ask(); status != want || took < 400*time.Millisecond || took > 10*time.Second {
						t.Errorf("a daemon that hangs: %d after %v, want %d after 500ms", status, took, want)
					}
				}
				if err := g.daemon.cmd.Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
				if status, _ := ask(); status != http.StatusUnauthorized {
					t.Errorf("a daemon that goes on: %d, want 401", status)
				}
			})
		}
	}
}

// suspend stops a child process and returns when all its threads have stopped: a
// signal is only on its way when the call that sends it returns, and a thread on the
// other core may answer one more request.
func suspend(t *testing.T, p *os.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for {
		var status syscall.WaitStatus
		switch _, err := syscall.Wait4(p.Pid, &status, syscall.WUNTRACED, nil); {
		case err == syscall.EINTR:
		case err != nil:
			t.Fatalf("process %d: %v", p.Pid, err)
		case !status.Stopped():
			t.Fatalf("process %d ended instead of stopping: %v", p.Pid, status)
		default:
			return
		}
	}
}

// TestTraefikIdentityHeaders holds that an upstream never gets an identity that the
// client made up: with a decision, and without where requests pass unjudged.
func TestTraefikIdentityHeaders(t *testing.T) {
	skipShort(t)
	for _, target := range traefikTargets(t) {
		t.Run(target.Name(), func(t *testing.T) {
			f := newFixtures(t)
			g := target.(*traefikTarget)
			g.change = strings.NewReplacer("onUnavailable: block", "onUnavailable: pass", "retry: 2s", "retry: 0s").Replace
			addr := g.Start(t, f.policy, "http://"+identities(t))
			made := []string{"X-Remote-User: admin", "X_Remote_User: admin", "X-Remote-user: admin"}
			for _, c := range []forwardAuthCase{
				{name: "open path", path: "/", fields: made, upstream: "user []"},
				{name: "with a token", path: "/api/me", token: f.vars["TOKEN_OK"], fields: made, upstream: `user ["anna"]`},
				{name: "without a daemon", path: "/", fields: made, upstream: "user []"},
			} {
				if c.name == "without a daemon" {
					g.daemon.stop(t)
				}
				if status, _, body := askForward(t, addr, c); status != http.StatusOK || body != c.upstream {
					t.Errorf("%s: %d %q, want 200 %q", c.name, status, body, c.upstream)
				}
			}
		})
	}
}

// TestTraefikReload has Traefik build its middlewares anew while requests flow: no
// connection to the daemon or to a client is lost.
func TestTraefikReload(t *testing.T) {
	skipShort(t)
	for _, target := range traefikTargets(t) {
		t.Run(target.Name(), func(t *testing.T) {
			f := newFixtures(t)
			u := newUpstream(t)
			g := target.(*traefikTarget)
			if g.whole { // it puts changes off by 2 s that follow each other
				g.static = func(s string) string {
					return strings.Replace(s, "providers:\n", "providers:\n  providersThrottleDuration: 50ms\n", 1)
				}
			}
			addr := g.Start(t, f.policy, u.URL)
			s := &reloadScene{t: t, f: f, url: "http://" + addr, client: newClient(t)}
			stop := s.load()
			defer stop()
			dynamic, err := os.ReadFile(g.file("dynamic.yml"))
			if err != nil {
				t.Fatal(err)
			}
			away := probe{path: "/away/", client: "192.0.2.7"}
			for n := range 5 {
				changed := strings.Replace(string(dynamic), "  routers:\n", fmt.Sprintf("  routers:\n    away%d:\n      entryPoints: [web]\n      rule: PathPrefix(`/away/`)\n      middlewares: [moat, password]\n      service: app\n", n), 1)
				replaceFile(t, g.file("dynamic.yml"), []byte(changed))
				s.becomes("router with another middleware", away, http.StatusUnauthorized)
				replaceFile(t, g.file("dynamic.yml"), dynamic)
				s.becomes("router gone", away, http.StatusNotFound)
			}
			if sent := stop(); sent < 50 {
				t.Errorf("only %d requests flowed beside the reloads", sent)
			}
		})
	}
}

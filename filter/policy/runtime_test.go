package policy

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules"
)

// house is a policy with its files in a folder of its own.
type house struct {
	t   *testing.T
	dir string
	log lockedBuffer
	rt  *Runtime
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// noPayload keeps tests quick that are not about payload rules.
const noPayload = "waf: {mode: off}\naudit: {file: \"off\"}\n"

func newHouse(t *testing.T, policy string) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir()}
	h.write("policy.yaml", "version: 1\n"+noPayload+policy)
	return h
}

func (h *house) write(name, content string) {
	h.t.Helper()
	// As editors do: a new file takes the place of the old one.
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path+"~", []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) policy(policy string) { h.write("policy.yaml", "version: 1\n"+noPayload+policy) }

func (h *house) start(watch bool) *house {
	h.t.Helper()
	rt, err := Start(h.t.Context(), Options{
		File:     filepath.Join(h.dir, "policy.yaml"),
		CacheDir: filepath.Join(h.dir, "cache"),
		Watch:    watch,
		Logger:   slog.New(slog.NewTextHandler(&h.log, nil)),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.rt = rt
	h.t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			h.t.Error(err)
		}
		if h.t.Failed() {
			h.t.Log(h.log.String())
		}
	})
	return h
}

// ask returns the status that a request from client gets; 0 if it is let through.
func (h *house) ask(client, target string) int {
	hr := httptest.NewRequest(http.MethodGet, target, nil)
	hr.RemoteAddr = net.JoinHostPort(client, "4711")
	r := filter.NewRequest(hr, time.Now())
	defer r.Release()
	return h.rt.Engine().Decide(r).StatusCode()
}

func (h *house) want(client, target string, status int) {
	h.t.Helper()
	if got := h.ask(client, target); got != status {
		h.t.Errorf("%s from %s: %d, want %d", target, client, got, status)
	}
}

// soon waits until the answer is status: two seconds, which is what operators
// are promised, and what a loaded machine needs on top.
func (h *house) soon(client, target string, status int) {
	h.t.Helper()
	start := time.Now()
	for time.Since(start) < 10*time.Second {
		if h.ask(client, target) == status {
			if took := time.Since(start); took > 2*time.Second {
				h.t.Logf("live after %v", took)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	h.t.Fatalf("%s from %s does not become %d", target, client, status)
}

func (h *house) reload() error { return h.rt.Reload(h.t.Context()) }

const dropFile = `
lists: {drop: {file: drop.netset}}
rules:
  - {id: drop, match: {ip: $drop}, action: block}
`

func TestReload(t *testing.T) {
	h := newHouse(t, dropFile)
	h.write("drop.netset", "192.0.2.1\n")
	h.start(false)
	h.want("192.0.2.1", "/", 403)
	h.want("192.0.2.2", "/", 0)
	first := h.rt.Status()

	t.Run("without a change nothing happens", func(t *testing.T) {
		before := h.rt.Engine().Pipeline()
		if err := h.reload(); err != nil {
			t.Fatal(err)
		}
		if h.rt.Engine().Pipeline() != before || h.rt.Status().Reloads != 0 {
			t.Error("the pipeline was swapped")
		}
	})
	t.Run("a changed list", func(t *testing.T) {
		h.write("drop.netset", "192.0.2.2\n")
		if err := h.reload(); err != nil {
			t.Fatal(err)
		}
		h.want("192.0.2.1", "/", 0)
		h.want("192.0.2.2", "/", 403)
		if s := h.rt.Status(); s.Reloads != 1 || s.Digest == first.Digest {
			t.Errorf("status %+v", s)
		}
	})
	t.Run("a bad list changes nothing", func(t *testing.T) {
		h.write("drop.netset", "192.0.2.3\nnobody\n")
		err := h.reload()
		var faults rules.Errors
		if !errors.As(err, &faults) || len(faults) != 1 || faults[0].Pos.Line != 2 || !strings.HasSuffix(faults[0].Pos.File, "drop.netset") {
			t.Errorf("error %v", err)
		}
		h.want("192.0.2.2", "/", 403)
		h.want("192.0.2.3", "/", 0)
		if s := h.rt.Status(); s.Failures != 1 || !strings.Contains(s.LastError, "drop.netset:2:1") {
			t.Errorf("status %+v", s)
		}
		if !strings.Contains(h.log.String(), "the running one stays") || !strings.Contains(h.log.String(), "drop.netset:2:1") {
			t.Error("the log does not say so with the place")
		}
	})
	t.Run("a mended list takes the fault from the status", func(t *testing.T) {
		h.write("drop.netset", "192.0.2.4\n")
		if err := h.reload(); err != nil {
			t.Fatal(err)
		}
		h.want("192.0.2.4", "/", 403)
		if s := h.rt.Status(); s.LastError != "" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestClosedRuntimeFailsClosed(t *testing.T) {
	h := newHouse(t, "")
	rt, err := Start(t.Context(), Options{File: filepath.Join(h.dir, "policy.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	h.rt = rt
	h.want("192.0.2.1", "/", 0)
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
	h.want("192.0.2.1", "/", 503)
}

func TestBucketsSurviveAReload(t *testing.T) {
	tier := "tiers:\n  - {id: all, rate: 1/h, burst: 3}\n"
	h := newHouse(t, tier).start(false)
	for range 3 {
		h.want("192.0.2.1", "/", 0)
	}
	h.want("192.0.2.1", "/", 403)

	h.policy(tier + "rules:\n  - {id: other, match: {ip: 198.51.100.1}, action: block}\n")
	if err := h.reload(); err != nil {
		t.Fatal(err)
	}
	h.want("198.51.100.1", "/", 403)
	h.want("192.0.2.1", "/", 403)
	h.want("192.0.2.9", "/", 0)
}

func TestWatch(t *testing.T) {
	h := newHouse(t, dropFile)
	h.write("drop.netset", "192.0.2.1\n")
	h.start(true)
	h.want("192.0.2.1", "/", 403)

	// Requests flow all the while, and none may be lost.
	var asked, lost atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status := h.ask("192.0.2.200", "/"); status != 0 {
					lost.Add(1)
				}
				asked.Add(1)
			}
		})
	}
	defer func() {
		close(stop)
		clients.Wait()
		if lost.Load() != 0 || asked.Load() == 0 {
			t.Errorf("%d of %d requests were refused during reloads", lost.Load(), asked.Load())
		}
	}()

	h.write("drop.netset", "192.0.2.2\n")
	h.soon("192.0.2.2", "/", 403)
	h.want("192.0.2.1", "/", 0)

	// A policy that names a file which is not there yet is refused, and taken
	// when the file appears.
	h.policy(dropFile + "  - {id: more, match: {ip: $more}, action: block}\n")
	h.policy("lists: {drop: {file: drop.netset}, more: {file: more.netset}}\nrules:\n  - {id: more, match: {ip: [$drop, $more]}, action: block}\n")
	waitFor(t, func() bool { return strings.Contains(h.rt.Status().LastError, "more.netset") })
	h.want("192.0.2.2", "/", 403)
	h.write("more.netset", "192.0.2.3\n")
	h.soon("192.0.2.3", "/", 403)
	h.want("192.0.2.2", "/", 403)

	// A folder of SecLang files: a new file in it is noticed.
	if err := os.Mkdir(filepath.Join(h.dir, "waf"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("policy.yaml", "version: 1\naudit: {file: \"off\"}\nwaf: {include: [\"waf/*.conf\"]}\n")
	h.soon("192.0.2.3", "/", 0)
	h.want("192.0.2.200", "/?probe=moat", 0)
	h.write("waf/local.conf", `SecRule ARGS:probe "@streq moat" "id:1001,phase:1,deny,status:403,msg:'probe'"`+"\n")
	h.soon("192.0.2.200", "/?probe=moat", 403)
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("it does not happen")
}

// countries returns a database that knows one network.
func countries(t *testing.T, network, country string) string {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-Country", RecordSize: 24, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	_, n, err := net.ParseCIDR(network)
	if err != nil {
		t.Fatal(err)
	}
	record := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(country)}}
	if err := tree.Insert(n, record); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGeoIsSwappedWhileItRuns(t *testing.T) {
	h := newHouse(t, "geo: {country: country.mmdb}\nrules:\n  - {id: norway, match: {country: NO}, action: block}\n")
	good := countries(t, "192.0.2.0/24", "NO")
	h.write("country.mmdb", good)
	h.start(true)
	h.want("192.0.2.1", "/", 403)
	h.want("198.51.100.1", "/", 0)

	for name, broken := range map[string]string{
		"truncated": good[:len(good)/2],
		"garbage":   strings.Repeat("garbage", 1000),
		"empty":     "",
	} {
		failures := h.rt.Status().Failures
		h.write("country.mmdb", broken)
		waitFor(t, func() bool { return h.rt.Status().Failures > failures })
		if !strings.Contains(h.rt.Status().LastError, "country.mmdb") {
			t.Errorf("%s: %s", name, h.rt.Status().LastError)
		}
		h.want("192.0.2.1", "/", 403)
	}
	h.write("country.mmdb", countries(t, "198.51.100.0/24", "NO"))
	h.soon("198.51.100.1", "/", 403)
	h.want("192.0.2.1", "/", 0)
}

func TestListFromURL(t *testing.T) {
	var up atomic.Bool
	up.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, "192.0.2.0/24 ; SBL1\n")
	}))
	defer server.Close()
	policy := "lists: {feed: {url: \"" + server.URL + "/drop.txt\", every: 1m}}\nrules:\n  - {id: feed, match: {ip: $feed}, action: block}\n"

	t.Run("without a copy and without an answer the policy is refused", func(t *testing.T) {
		up.Store(false)
		defer up.Store(true)
		h := newHouse(t, policy)
		_, err := Check(t.Context(), Options{File: filepath.Join(h.dir, "policy.yaml"), CacheDir: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), "policy.yaml:4:") {
			t.Errorf("error %v", err)
		}
	})

	h := newHouse(t, policy).start(false)
	h.want("192.0.2.7", "/", 403)
	h.want("198.51.100.7", "/", 0)

	t.Run("the last good copy serves a start while the server is down", func(t *testing.T) {
		up.Store(false)
		again := &house{t: t, dir: h.dir}
		again.start(false)
		again.want("192.0.2.7", "/", 403)
	})
	t.Run("a reload does not ask again", func(t *testing.T) {
		h.policy(policy + "  - {id: one, match: {ip: 203.0.113.1}, action: block}\n")
		if err := h.reload(); err != nil {
			t.Fatal(err)
		}
		h.want("203.0.113.1", "/", 403)
		h.want("192.0.2.7", "/", 403)
	})
}

func TestStageOrder(t *testing.T) {
	h := newHouse(t, "")
	good, err := filepath.Abs("testdata/good")
	if err != nil {
		t.Fatal(err)
	}
	h.write("policy.yaml", `version: 1
audit: {file: "off"}
rules:
  - {id: friend, match: {ip: 192.0.2.10}, action: allow}
  - {id: foe, match: {ip: 192.0.2.66}, action: block}
tiers:
  - {id: slow, match: {path: /private/slow}, rate: 1/h, burst: 1}
auth:
  methods: [{basic: {htpasswd: `+good+`/users.htpasswd}}]
  require:
    - {match: {path: /private/*}, auth: required}
`)
	h.start(false)
	attack := "/private/?q=<script>alert(1)</script>"
	h.want("192.0.2.66", attack, 403)
	h.want("192.0.2.1", attack, 403)
	h.want("192.0.2.1", "/private/", 401)
	h.want("192.0.2.1", "/private/slow", 401)
	h.want("192.0.2.1", "/private/slow", 403)
	// An allow rule skips the filter, never the auth stage.
	h.want("192.0.2.10", "/?q=<script>alert(1)</script>", 0)
	h.want("192.0.2.10", attack, 401)
}

func TestDetectReportsAndLetsThrough(t *testing.T) {
	h := newHouse(t, "")
	h.write("policy.yaml", `version: 1
audit: {file: audit.jsonl}
rules:
  - {id: watched, match: {ip: 192.0.2.66}, action: block, mode: detect}
tiers:
  - {id: counted, rate: 1/h, burst: 1, mode: detect}
waf: {mode: detect}
`)
	h.start(false)
	for range 2 {
		h.want("192.0.2.66", "/?q=<script>alert(1)</script>", 0)
	}
	waitFor(t, func() bool { return h.rt.AuditStats().Written == 5 })
	lines, err := os.ReadFile(filepath.Join(h.dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for want, times := range map[string]int{`"verdict":"detect"`: 5, `"stage":"access"`: 2, `"stage":"payload"`: 2, `"rule":"counted"`: 1} {
		if got := strings.Count(string(lines), want); got != times {
			t.Errorf("%s stands %d times, want %d\n%s", want, got, times, lines)
		}
	}
}

func TestPolicyFromMemory(t *testing.T) {
	files := map[string]string{
		"in/policy.yaml": "version: 1\n" + noPayload + "lists: {drop: {file: drop.netset}}\nrules:\n  - {id: drop, match: {ip: $drop}, action: block}\n",
		"in/drop.netset": "192.0.2.1\n",
	}
	rt, err := Start(t.Context(), Options{File: "in/policy.yaml", ReadFile: func(name string) ([]byte, error) {
		if content, ok := files[filepath.ToSlash(name)]; ok {
			return []byte(content), nil
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	h := &house{t: t, rt: rt}
	h.want("192.0.2.1", "/", 403)
	h.want("192.0.2.2", "/", 0)
}

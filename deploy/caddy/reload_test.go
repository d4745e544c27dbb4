package moatcaddy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/time/rate"
)

const limited = noWAF + "tiers: [{id: slow, match: {path: /slow}, key: ip, rate: 1/h, burst: 1}]\n"

// site is a configuration with one site, which moves to another place of the
// Caddyfile with every number, so that Caddy does not take it for unchanged.
func site(n int, moat string) string {
	return fmt.Sprintf("{\nGLOBAL\n}\nADDR {\n%s\nheader X-Version %d\nrespond through\n}\n", moat, n)
}

// TestCaddyReload holds that buckets and counters outlive reloads of Caddy's
// configuration, of the policy, and of options in front of it.
func TestCaddyReload(t *testing.T) {
	policy := writePolicy(t, limited)
	s := startCaddy(t, site(0, "moat "+policy))
	counted := counterValue(t, s, `moat_requests_total{reason="rate-limit",stage="tier",verdict="block"}`)
	if a := s.get(t, "/slow"); a.status != 200 {
		t.Fatalf("the first request: %+v", a)
	}
	for i, step := range []struct {
		name string
		do   func() error
	}{
		{"nothing", func() error { return nil }},
		{"configuration", func() error { return s.load(t, site(1, "moat "+policy)) }},
		{"option", func() error { return s.load(t, site(2, "moat "+policy+" {\nmode detect\n}")) }},
		{"other option", func() error { return s.load(t, site(3, "moat {\npolicy "+policy+"\nparanoia 3\n}")) }},
		{"policy and configuration", func() error {
			rewrite(t, policy, limited+"rules: [{id: x, match: {path: /x}, action: block}]\n")
			return s.load(t, site(4, "moat "+policy))
		}},
		{"tier beside", func() error {
			rewrite(t, policy, strings.Replace(limited, "[{", "[{id: new, match: {path: /new}, rate: 9/h}, {", 1))
			return s.load(t, site(5, "moat "+policy))
		}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if a := s.get(t, "/slow"); a.status != 403 {
			t.Errorf("%s: the client got a fresh bucket: %+v", step.name, a)
		}
		if a := s.get(t, "/"); a.status != 200 {
			t.Errorf("%s: %+v", step.name, a)
		}
		if got := counterValue(t, s, `moat_requests_total{reason="rate-limit",stage="tier",verdict="block"}`); got != counted+float64(i+1) {
			t.Errorf("%s: %v refusals are counted, want %v", step.name, got, counted+float64(i+1))
		}
	}
	if n := len(Running()); n != 1 {
		t.Errorf("%d policies run, want 1", n)
	}
	// A changed tier begins anew.
	rewrite(t, policy, strings.Replace(limited, "1/h", "2/h", 1))
	if err := s.load(t, site(6, "moat "+policy)); err != nil {
		t.Fatal(err)
	}
	if a := s.get(t, "/slow"); a.status != 200 {
		t.Errorf("a changed tier: %+v", a)
	}
}

// TestEverythingIsGivenBack holds that nothing runs on without a configuration.
func TestEverythingIsGivenBack(t *testing.T) {
	eventually(t, "the end of what other tests have left", func() bool { return poolSize() == 0 })
	policy := writePolicy(t, limited)
	s := startCaddy(t, site(0, "moat "+policy))
	for i, config := range []string{"moat " + policy, "moat " + policy + " {\nparanoia 2\n}", "moat " + writePolicy(t, limited)} {
		if err := s.load(t, site(i+1, config)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "one policy", func() bool { return len(Running()) == 1 && poolSize() == 1 })
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no policy, and nothing known of clients", func() bool {
		states := 0
		clientStates.Range(func(_, _ any) bool { states++; return true })
		return len(Running()) == 0 && poolSize() == 0 && states == 0
	})
}

// poolSize returns the number of runtimes, those that drain included.
func poolSize() (n int) {
	runtimes.Range(func(_, _ any) bool { n++; return true })
	return n
}

// counterValue reads a series from Caddy's own metrics; 0 if it is not there.
func counterValue(t *testing.T, s *server, series string) (value float64) {
	t.Helper()
	for line := range strings.Lines(s.get(t, "http://"+s.admin+"/metrics").body) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				t.Fatal(err)
			}
		}
	}
	return value
}

// TestBadEdit holds that a bad edit keeps the policy and is told in the log, the
// metrics, the admin API and an event; and that a bad policy keeps Caddy's old
// configuration.
func TestBadEdit(t *testing.T) {
	const good = noWAF + "rules: [{id: x, match: {path: /x}, action: block}]\n"
	policy := writePolicy(t, good)
	events := listen(t)
	config := func(n int) string {
		return strings.Replace(site(n, "moat "+policy), "GLOBAL", "GLOBAL\nevents {\non moat_policy_failed moat_test\non moat_policy_loaded moat_test\n}", 1)
	}
	s := startCaddy(t, config(0))
	failed := counterValue(t, s, `moat_policy_reloads_total{result="failed"}`)

	rewrite(t, policy, good+"surprise: true\n")
	s.logged(t, "not reloaded", "policy.yaml:5:1", "surprise", `"logger":"http.handlers.moat"`)
	if a := s.get(t, "/x"); a.status != 403 {
		t.Errorf("after a bad edit: %+v", a)
	}
	if got := counterValue(t, s, `moat_policy_reloads_total{result="failed"}`); got != failed+1 {
		t.Errorf("%v failed reloads are counted, want %v", got, failed+1)
	}
	status := s.get(t, "http://"+s.admin+"/moat/status")
	var answer struct {
		Policies []struct {
			File      string
			LastError string `json:"last_error"`
			Failures  int
		}
	}
	if err := json.Unmarshal([]byte(status.body), &answer); err != nil || len(answer.Policies) != 1 ||
		answer.Policies[0].File != policy || answer.Policies[0].Failures != 1 || !strings.Contains(answer.Policies[0].LastError, "policy.yaml:5:1: surprise") {
		t.Errorf("admin status: %v, %s", err, status.body)
	}
	event := events.next(t, eventPolicyFailed)
	if text, _ := event["error"].(string); !strings.Contains(text, "surprise") || event["policy"] != policy {
		t.Errorf("event %v", event)
	}

	if err := s.load(t, config(1)); err == nil || !strings.Contains(err.Error(), "policy.yaml:5:1") {
		t.Errorf("Caddy takes a configuration with a bad policy: %v", err)
	}
	if a := s.get(t, "/"); a.status != 200 || a.header.Get("X-Version") != "0" {
		t.Errorf("after a refused configuration: %+v", a)
	}
	events.next(t, eventPolicyFailed)

	a := s.ask(t, http.MethodPost, "http://"+s.admin+"/moat/reload")
	if a.status != 422 || !strings.Contains(a.body, `"line": 5`) {
		t.Errorf("reload: %+v", a)
	}
	events.next(t, eventPolicyFailed)
	rewrite(t, policy, strings.Replace(good, "/x", "/y", 1))
	s.logged(t, "policy reloaded", policy)
	events.next(t, eventPolicyLoaded)
	if a := s.get(t, "/y"); a.status != 403 {
		t.Errorf("after a good edit: %+v", a)
	}
	if a := s.get(t, "http://"+s.admin+"/moat/status"); strings.Contains(a.body, "surprise") {
		t.Errorf("admin status tells of a fault that is mended: %s", a.body)
	}
	// A page in a browser is not the operator.
	if a := s.ask(t, http.MethodPost, "http://"+s.admin+"/moat/reload", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"); a.status != 403 {
		t.Errorf("reload from another origin: %d", a.status)
	}
	if a := s.get(t, "/moat/status"); a.body != "through" {
		t.Errorf("the status is on the public address: %+v", a)
	}
}

// TestLogOfTheNewestConfiguration holds that a policy which outlives a reload does
// not write into the log of the configuration before.
func TestLogOfTheNewestConfiguration(t *testing.T) {
	policy := writePolicy(t, limited)
	s := startCaddy(t, site(0, "moat "+policy))
	first := s.log
	s.log = first + ".second"
	if err := s.load(t, site(1, "moat "+policy)); err != nil {
		t.Fatal(err)
	}
	rewrite(t, policy, limited+"rules: [{id: x, match: {path: /x}, action: block}]\n")
	s.logged(t, "policy reloaded", policy)
}

// TestSitesShare holds that sites with one file share its policy, and that those
// with the same payload rules share these.
func TestSitesShare(t *testing.T) {
	one, other := writePolicy(t, ""), writePolicy(t, "rules: [{id: x, match: {path: /x}, action: block}]\n")
	var b strings.Builder
	b.WriteString("{\nGLOBAL\n}\n")
	for i := range 20 {
		policy := one
		if i%2 == 1 {
			policy = other
		}
		fmt.Fprintf(&b, "http://site%d.example:PORT {\nmoat %s\nrespond through\n}\n", i, policy)
	}
	s := startCaddy(t, b.String())
	if n := len(Running()); n != 2 {
		t.Errorf("%d policies run, want 2", n)
	}
	for i := range 20 {
		host := fmt.Sprintf("Host: site%d.example", i)
		if a := s.get(t, "/?q=<script>alert(1)</script>", host); a.status != 403 {
			t.Errorf("site %d lets an attack through: %+v", i, a)
		}
		if a := s.get(t, "/x", host); a.status != []int{200, 403}[i%2] {
			t.Errorf("site %d has the rules of another: %+v", i, a)
		}
	}
}

// received are events, as a module of Caddy got them.
var received struct {
	sync.Mutex
	to *listener
}

// listener keeps events for a test.
type listener struct{ events chan caddy.Event }

// eventHandler is events.handlers.moat_test.
type eventHandler struct{}

func init() { caddy.RegisterModule(eventHandler{}) }

func (eventHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.moat_test", New: func() caddy.Module { return new(eventHandler) }}
}

func (*eventHandler) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (eventHandler) Handle(_ context.Context, e caddy.Event) error {
	received.Lock()
	defer received.Unlock()
	if received.to != nil {
		select {
		case received.to.events <- e:
		default:
		}
	}
	return nil
}

// TestCleanedUpWhileRequestsRun holds that a configuration which Caddy has cleaned
// up goes on deciding: Caddy does not wait for its requests.
func TestCleanedUpWhileRequestsRun(t *testing.T) {
	defer func(before time.Duration) { drain = before }(drain)
	drain = time.Second
	policy := writePolicy(t, noWAF+"rules: [{id: x, match: {path: /x}, action: block}]\n")
	h := provisioned(t, policy)
	if err := h.Cleanup(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/": 200, "/x": 403} {
		hr := httptest.NewRequest("GET", path, nil)
		w := httptest.NewRecorder()
		err := h.ServeHTTP(w, caddyhttp.PrepareRequest(hr, caddy.NewReplacer(), w, new(caddyhttp.Server)), end)
		if err != nil || w.Code != want {
			t.Errorf("%s: %d, %v, want %d", path, w.Code, err, want)
		}
	}
	h.release = nil // done
}

// listen has events of this test kept.
func listen(t *testing.T) *listener {
	l := &listener{events: make(chan caddy.Event, 1000)}
	set := func(to *listener) {
		received.Lock()
		defer received.Unlock()
		received.to = to
	}
	set(l)
	t.Cleanup(func() { set(nil) })
	return l
}

// next returns the data of the next event, which must have the name.
func (l *listener) next(t *testing.T, name string) map[string]any {
	t.Helper()
	select {
	case e := <-l.events:
		if e.Name() != name {
			t.Fatalf("event %s %v, want %s", e.Name(), e.Data, name)
		}
		return e.Data
	case <-time.After(5 * time.Second):
		t.Fatalf("no event %s", name)
		return nil
	}
}

// TestRefusalEvents holds that refusals are told, without what the client wrote,
// and that a flood of them is not.
func TestRefusalEvents(t *testing.T) {
	eventBounds.refusals = rate.NewLimiter(refusalsPerSecond, refusalsBurst) // other tests have used the process's
	events := listen(t)
	s := startCaddy(t, strings.Replace(site(0, "moat "+writePolicy(t, noWAF+"rules: [{id: x, match: {path: /x/*}, action: block}]\n")),
		"GLOBAL", "GLOBAL\nevents {\non moat_refused moat_test\n}", 1))
	s.get(t, "/")
	s.get(t, "/x/$(reboot)?q=$(reboot)", "X-Forwarded-For: $(reboot)", "User-Agent: $(reboot)")
	e := events.next(t, eventRefused)
	if e["verdict"] != "block" || e["stage"] != "access" || e["rule"] != "x" || e["client"] != "127.0.0.1" || e["status"] != 403 || e["policy"] != "policy.yaml" {
		t.Errorf("event %v", e)
	}
	if text := fmt.Sprint(e); strings.Contains(text, "reboot") {
		t.Errorf("the client's words are in the event: %s", text)
	}
	const flood = 500
	for range flood {
		s.get(t, "/x/y")
	}
	time.Sleep(2 * time.Second / refusalsPerSecond)
	s.get(t, "/x/y")
	told, missing := 0, int64(0)
	eventually(t, "every refusal, as an event or as missing", func() bool {
		for len(events.events) > 0 {
			told++
			missing += (<-events.events).Data["missing"].(int64)
		}
		return int64(told)+missing == flood+1
	})
	if told > flood/2 || missing == 0 {
		t.Errorf("%d events for %d refusals, %d are told as missing", told, flood, missing)
	}
}

package policy

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

// inTime fails the test if f does not return soon.
func inTime(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s does not return", what)
	}
}

func TestFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip("no named pipes here:", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "huge"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "huge"), maxFile+1); err != nil {
		t.Fatal(err)
	}
	use := "rules: [{id: a, match: {ip: $l}, action: block}]\n"
	for name, tt := range map[string]struct{ policy, want string }{
		"list from a pipe":         {noPayload + "lists: {l: {file: pipe}}\n" + use, "no regular file"},
		"list from a device":       {noPayload + "lists: {l: {file: /dev/zero}}\n" + use, "no regular file"},
		"list from a folder":       {noPayload + "lists: {l: {file: folder}}\n" + use, "is a directory"},
		"list that is huge":        {noPayload + "lists: {l: {file: huge}}\n" + use, "larger than 1 GiB"},
		"database from a pipe":     {noPayload + "geo: {country: pipe}\n", "no regular file"},
		"payload rules from pipes": {"waf: {include: [crs, 'pip?']}\n", "no regular file"},
		"audit into a folder":      {"waf: {mode: off}\naudit: {file: folder}\n", "is a directory"},
		"audit into nowhere":       {"waf: {mode: off}\naudit: {file: missing/audit.jsonl}\n", "no such file"},
		"audit into a pipe":        {"waf: {mode: off}\naudit: {file: pipe}\n", "no such device"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".yaml")
			if err := os.WriteFile(file, []byte("version: 1\n"+tt.policy), 0o600); err != nil {
				t.Fatal(err)
			}
			inTime(t, "Start", func() {
				rt, err := Start(t.Context(), Options{File: file, CacheDir: t.TempDir()})
				if err == nil {
					t.Error("accepted")
					_ = rt.Close()
				} else if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v\nwant %q", err, tt.want)
				}
			})
		})
	}
	for _, file := range []string{pipe, "/dev/zero", filepath.Join(dir, "huge"), filepath.Join(dir, "folder")} {
		inTime(t, "Check", func() {
			if _, err := Check(t.Context(), Options{File: file}); err == nil {
				t.Errorf("%s is a good policy", file)
			}
		})
	}
}

// TestFullAuditDisk changes the audit file away from a disk that is full.
func TestFullAuditDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	block := "rules: [{id: a, match: {path: /*}, action: block}]\n"
	h := &house{t: t, dir: t.TempDir()}
	h.write("policy.yaml", "version: 1\nwaf: {mode: off}\naudit: {file: /dev/full}\n"+block)
	h.start(false)
	for range 10 {
		h.want("192.0.2.1", "/", http.StatusForbidden)
	}
	h.write("policy.yaml", "version: 1\nwaf: {mode: off}\naudit: {file: audit.jsonl}\n"+block)
	inTime(t, "Reload", func() {
		began := time.Now()
		if err := h.reload(); err != nil {
			t.Errorf("the new policy is refused for what the old log did not write: %v", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the reload waited %v for the old log", took)
		}
	})
	h.want("192.0.2.1", "/", http.StatusForbidden)
	if h.rt.Status().Reloads != 1 {
		t.Errorf("status %+v", h.rt.Status())
	}
}

func TestReloadBehindClose(t *testing.T) {
	h := newHouse(t, "").start(false)
	h.want("192.0.2.1", "/", 0)
	if err := h.rt.Close(); err != nil {
		t.Fatal(err)
	}
	h.policy("rules: [{id: a, match: {path: /x}, action: block}]\n")
	if err := h.reload(); err == nil {
		t.Error("a closed runtime was reloaded")
	}
	h.want("192.0.2.1", "/", http.StatusServiceUnavailable)
}

func TestReloadWithoutAChangeIsNone(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "192.0.2.1") }))
	defer s.Close()
	h := newHouse(t, "lists: {feed: {url: '"+s.URL+"'}}\nrules: [{id: a, match: {ip: $feed}, action: block}]\n").start(false)
	before := h.rt.Status()
	if err := h.reload(); err != nil {
		t.Fatal(err)
	}
	if after := h.rt.Status(); after.Reloads != 0 || after.Digest != before.Digest {
		t.Errorf("%d reloads, digest %s, before %s", after.Reloads, after.Digest, before.Digest)
	}
}

// TestCloseDoesNotWaitForAServer ends a runtime while a reload asks a server that
// does not answer.
func TestCloseDoesNotWaitForAServer(t *testing.T) {
	asked := make(chan struct{}, 1)
	end := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-end
	}))
	defer s.Close()
	defer close(end)
	h := newHouse(t, "").start(false)
	h.policy("lists: {feed: {url: '" + s.URL + "'}}\nrules: [{id: a, match: {ip: $feed}, action: block}]\n")
	reloaded := make(chan error, 1)
	go func() { reloaded <- h.rt.Reload(context.Background()) }()
	<-asked
	inTime(t, "Close", func() { _ = h.rt.Close() })
	if err := <-reloaded; err == nil {
		t.Error("the reload says that it was good")
	}
}

// TestReloadUnderRequests swaps policies, and at last closes the runtime, while
// requests run.
func TestReloadUnderRequests(t *testing.T) {
	h := newHouse(t, "rules: [{id: a, match: {path: /blocked}, action: block}]\n").start(true)
	stop := make(chan struct{})
	var requests sync.WaitGroup
	for range 4 {
		requests.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				hr := httptest.NewRequest(http.MethodPost, "/blocked", strings.NewReader("a=b"))
				r := filter.NewRequest(hr, time.Now())
				if d := h.rt.Engine().Decide(r); !d.Refuses() {
					t.Error("a request came through")
				}
				r.Release()
			}
		})
	}
	for i := range 40 {
		switch i % 4 {
		case 0:
			h.write("policy.yaml", "version: 1\nrules: [") // broken
		case 1:
			if err := os.Remove(filepath.Join(h.dir, "policy.yaml")); err != nil {
				t.Fatal(err)
			}
		default:
			h.policy(fmt.Sprintf("# %d\nrules: [{id: a, match: {path: /blocked}, action: block}]\n", i))
		}
		_ = h.reload()
	}
	if err := h.rt.Close(); err != nil {
		t.Error(err)
	}
	close(stop)
	requests.Wait()
}

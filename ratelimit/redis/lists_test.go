package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/rules/list"
)

func openList(t *testing.T, s *Store, o ListOptions) *List {
	t.Helper()
	l, err := s.List("abuse", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func entries(texts ...string) (all []list.Entry) {
	for _, text := range texts {
		all = append(all, list.Entry{Text: text})
	}
	return all
}

func doEdit(t *testing.T, l *List, add []list.Entry, remove []string, want int) {
	t.Helper()
	n, err := l.Edit(t.Context(), add, remove)
	if err != nil || n != want {
		t.Fatalf("%v %v: %d changed, %v; want %d", add, remove, n, err, want)
	}
}

// holds reports whether a list decides by just these entries.
func holds(l *List, texts ...string) bool {
	_, all := l.Entries()
	var got []string
	for _, e := range all {
		got = append(got, e.Text)
		first, _, _ := strings.Cut(strings.Split(e.Text, "/")[0], "-")
		if !l.Contains(netip.MustParseAddr(first)) {
			return false
		}
	}
	slices.Sort(got)
	slices.Sort(texts)
	return slices.Equal(got, texts) && l.Len() == len(texts)
}

// TestListSpreads: an edit on one node is in force on the other within a second, on a
// node that comes later, and stays where the server is away, or has lost it.
func TestListSpreads(t *testing.T) {
	srv := startServer(t)
	a := openList(t, open(t, Options{URL: srv.url()}), ListOptions{})
	b := openList(t, open(t, Options{URL: srv.url()}), ListOptions{})
	for _, l := range []*List{a, b} {
		select {
		case <-l.Ready():
		case <-time.After(10 * time.Second):
			t.Fatal("no copy")
		}
	}
	doEdit(t, a, entries("192.0.2.0/24", "::ffff:198.51.100.1"), nil, 2)
	start := time.Now()
	waitFor(t, time.Second, "an addition", func() bool { return holds(b, "192.0.2.0/24", "198.51.100.1") })
	t.Logf("an addition took %s", time.Since(start).Round(time.Millisecond))
	doEdit(t, a, entries("192.0.2.0/24"), []string{"203.0.113.1"}, 0) // nothing new
	doEdit(t, b, nil, []string{"198.51.100.1/32"}, 1)
	start = time.Now()
	waitFor(t, time.Second, "a removal", func() bool { return holds(a, "192.0.2.0/24") })
	t.Logf("a removal took %s", time.Since(start).Round(time.Millisecond))

	late := openList(t, open(t, Options{URL: srv.url()}), ListOptions{})
	waitFor(t, 5*time.Second, "a late node", func() bool { return holds(late, "192.0.2.0/24") })

	// An entry with an end, and one that is renewed.
	doEdit(t, a, []list.Entry{{Text: "203.0.113.7", Until: time.Now().Add(2 * time.Second)}, {Text: "203.0.113.8", Until: time.Now().Add(time.Hour)}}, nil, 2)
	waitFor(t, time.Second, "entries with an end", func() bool { return holds(late, "192.0.2.0/24", "203.0.113.7", "203.0.113.8") })
	doEdit(t, b, []list.Entry{{Text: "203.0.113.8", Until: time.Now().Add(2 * time.Hour)}}, nil, 1)
	waitFor(t, 5*time.Second, "the end of one", func() bool {
		return holds(late, "192.0.2.0/24", "203.0.113.8") && holds(a, "192.0.2.0/24", "203.0.113.8")
	})
	doEdit(t, b, nil, []string{"203.0.113.8"}, 1)
	waitFor(t, time.Second, "its removal", func() bool { return holds(a, "192.0.2.0/24") && holds(late, "192.0.2.0/24") })

	// The server dies: the copies stay, an edit is refused, and nothing of it is
	// in force later. It comes back empty, and gets the list again.
	srv.kill()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := a.Edit(ctx, entries("198.51.100.9"), nil); !errors.Is(err, ErrListAway) {
		t.Errorf("an edit without a server: %v", err)
	}
	waitFor(t, 5*time.Second, "the failure to be noticed", func() bool { return !a.Synced() || !a.Contains(netip.MustParseAddr("198.51.100.9")) })
	if !holds(a, "192.0.2.0/24") || !holds(b, "192.0.2.0/24") {
		t.Error("the copies did not stay")
	}
	srv.start()
	waitFor(t, 15*time.Second, "an edit to be taken", func() bool {
		_, err := b.Edit(t.Context(), entries("198.51.100.2"), nil)
		return err == nil
	})
	waitFor(t, 15*time.Second, "all nodes to agree", func() bool {
		for _, l := range []*List{a, b, late} {
			if !holds(l, "192.0.2.0/24", "198.51.100.2") {
				return false
			}
		}
		return true
	})
	fresh := openList(t, open(t, Options{URL: srv.url()}), ListOptions{})
	waitFor(t, 5*time.Second, "the server to have the list again", func() bool { return holds(fresh, "192.0.2.0/24", "198.51.100.2") })
}

// TestListNodesAgree: edits of two nodes at once, in any order, leave both with the
// same list, which is the server's.
func TestListNodesAgree(t *testing.T) {
	srv := startServer(t)
	var nodes [2]*List
	for i := range nodes {
		nodes[i] = openList(t, open(t, Options{URL: srv.url()}), ListOptions{})
		<-nodes[i].Ready()
	}
	done := make(chan error, len(nodes))
	for i, l := range nodes {
		go func() {
			rng := rand.New(rand.NewPCG(9, uint64(i)))
			for range 300 {
				text := fmt.Sprintf("10.0.0.%d", rng.IntN(40))
				var err error
				if rng.IntN(2) == 0 {
					_, err = l.Edit(t.Context(), entries(text), nil)
				} else {
					_, err = l.Edit(t.Context(), nil, []string{text})
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range nodes {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	third := openList(t, open(t, Options{URL: srv.url()}), ListOptions{})
	<-third.Ready()
	_, want := third.Entries()
	if len(want) == 0 {
		t.Fatal("nothing is left")
	}
	waitFor(t, 2*time.Second, "the nodes to agree", func() bool {
		for _, l := range nodes {
			if _, got := l.Entries(); !slices.Equal(got, want) || l.Version() != third.Version() {
				return false
			}
		}
		return true
	})
}

// TestListBounds: what is no entry, what is too many, and what others have written.
func TestListBounds(t *testing.T) {
	srv := startServer(t)
	s := open(t, Options{URL: srv.url()})
	l := openList(t, s, ListOptions{})
	<-l.Ready()
	for _, bad := range []string{"", "everybody", "0.0.0.0/0", "192.0.2.1/24", "version"} {
		if _, err := l.Edit(t.Context(), entries(bad), nil); err == nil || errors.Is(err, ErrListAway) {
			t.Errorf("%q is added: %v", bad, err)
		}
		if _, err := l.Edit(t.Context(), nil, []string{bad}); err == nil || errors.Is(err, ErrListAway) {
			t.Errorf("%q is removed: %v", bad, err)
		}
	}
	if _, err := l.Edit(t.Context(), make([]list.Entry, MaxEdit+1), nil); err == nil {
		t.Error("too many at once are taken")
	}
	for i := 0; i < list.MaxLive; i += MaxEdit {
		some := make([]list.Entry, MaxEdit)
		for j := range some {
			n := i + j
			some[j].Text = netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String()
		}
		doEdit(t, l, some, nil, MaxEdit)
	}
	if _, err := l.Edit(t.Context(), entries("192.0.2.1"), nil); !errors.Is(err, ErrListFull) {
		t.Errorf("one more: %v", err)
	}
	doEdit(t, l, []list.Entry{{Text: "10.0.0.1", Until: time.Now().Add(time.Hour)}}, nil, 1) // no more than before
	other := openList(t, s, ListOptions{})
	<-other.Ready()
	if other.Len() != list.MaxLive {
		t.Errorf("another node has %d", other.Len())
	}
	// Somebody writes by hand, past the version.
	c, err := s.get()
	if err != nil {
		t.Fatal(err)
	}
	for field, value := range map[string]string{"no address": "0", "192.0.2.9": "soon", "192.0.2.10": "-5", "10.0.0.2": "1", strings.Repeat("x", 5000): "0"} {
		if err := c.Do(t.Context(), c.B().Hset().Key("moat:list:abuse").FieldValue().FieldValue(field, value).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	told := make(chan error, 10)
	third := openList(t, s, ListOptions{OnSync: func(_ int, err error) { told <- err }})
	<-third.Ready()
	if third.Len() != list.MaxLive-1 || third.Contains(netip.MustParseAddr("192.0.2.9")) {
		t.Errorf("a third node has %d", third.Len())
	}
	if err := <-told; err == nil {
		t.Error("what is no entry is not told")
	}
	if n, err := c.Do(t.Context(), c.B().Hexists().Key("moat:list:abuse").Field("10.0.0.2").Build()).AsBool(); n || err != nil {
		t.Errorf("an entry that ended long ago is kept: %v, %v", n, err)
	}
	for _, bad := range []string{"", "a b", "../x", "a:b", strings.Repeat("a", 65)} {
		if _, err := s.List(bad, ListOptions{}); err == nil {
			t.Errorf("the name %q is taken", bad)
		}
	}
	third.heard("not a message")
	third.heard("99 {")
	third.heard("99")
	third.heard("99 " + strings.Repeat(" ", maxListMessage))
}

// TestListSnapshot: a node that starts without a server has the list of its last run,
// and a server that lost it gets it from there. An older copy gives way.
func TestListSnapshot(t *testing.T) {
	srv := startServer(t)
	file := filepath.Join(t.TempDir(), "lists", "abuse.json")
	s := open(t, Options{URL: srv.url()})
	l, err := s.List("abuse", ListOptions{Snapshot: file})
	if err != nil {
		t.Fatal(err)
	}
	<-l.Ready()
	doEdit(t, l, entries("192.0.2.0/24", "2001:db8::-2001:db8::7:1"), nil, 2)
	l.Close()
	srv.kill()

	without, err := Open(Options{URL: srv.url()})
	if err != nil {
		t.Fatal(err)
	}
	defer without.Close()
	l = openList(t, without, ListOptions{Snapshot: file})
	<-l.Ready()
	if !holds(l, "192.0.2.0/24", "2001:db8::-2001:db8::7:1") || l.Synced() {
		_, got := l.Entries()
		t.Errorf("the copy holds %v", got)
	}
	srv.start() // empty
	waitFor(t, 10*time.Second, "the server to be reached", l.Synced)
	other := openList(t, open(t, Options{URL: srv.url()}), ListOptions{})
	waitFor(t, 5*time.Second, "the server to have it again", func() bool { return holds(other, "192.0.2.0/24", "2001:db8::-2001:db8::7:1") })
	doEdit(t, other, nil, []string{"192.0.2.0/24"}, 1)

	// The copy of a machine that was off, with whatever version: the server's counts.
	old := filepath.Join(t.TempDir(), "old.json")
	if err := writeSnapshot(old, snapshot{Version: 900, Entries: map[string]int64{"198.51.100.0/24": 0}}); err != nil {
		t.Fatal(err)
	}
	l = openList(t, open(t, Options{URL: srv.url()}), ListOptions{Snapshot: old})
	waitFor(t, 5*time.Second, "the server's list", func() bool { return holds(l, "2001:db8::-2001:db8::7:1") && holds(other, "2001:db8::-2001:db8::7:1") })

	for name, text := range map[string]string{"empty": "", "other": "[]", "no version": `{"entries":{"192.0.2.1":0}}`, "huge": `{"version":1,"x":"` + strings.Repeat("x", maxSnapshot) + `"}`} {
		bad := filepath.Join(t.TempDir(), "bad.json")
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readSnapshot(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

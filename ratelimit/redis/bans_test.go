package redis

import (
	"net/netip"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter/ban"
)

func prefix(s string) netip.Prefix {
	a := netip.MustParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen())
}

func add(t *testing.T, table *ban.Table, address string, d time.Duration) {
	t.Helper()
	if _, err := table.Add(prefix(address), d, ban.Manual); err != nil {
		t.Fatal(err)
	}
}

// has reports whether a table holds just the bans of these addresses.
func has(table *ban.Table, addresses ...string) bool {
	list := table.List()
	if len(list) != len(addresses) {
		return false
	}
	for _, a := range addresses {
		found := false
		for _, b := range list {
			found = found || b.Prefix == prefix(a)
		}
		if !found {
			return false
		}
	}
	return true
}

// TestBansSpread: bans and lifts reach the other node within a second, a node that
// comes later, and one that was cut off.
func TestBansSpread(t *testing.T) {
	srv := startServer(t)
	a, b := ban.NewTable(nil, nil), ban.NewTable(nil, nil)
	add(t, a, "192.0.2.1", time.Hour) // before there is a store
	one, two := open(t, Options{URL: srv.url()}), open(t, Options{URL: srv.url()})
	one.ShareBans(a)
	two.ShareBans(b)
	waitFor(t, 5*time.Second, "the first ban", func() bool { return has(b, "192.0.2.1") })

	start := time.Now()
	add(t, b, "192.0.2.2", time.Hour)
	waitFor(t, time.Second, "a ban of the second node", func() bool { return has(a, "192.0.2.1", "192.0.2.2") })
	t.Logf("a ban took %s", time.Since(start).Round(time.Millisecond))
	a.Lift(prefix("192.0.2.1"))
	waitFor(t, time.Second, "a lift", func() bool { return has(b, "192.0.2.2") })

	// A node that comes later.
	late := ban.NewTable(nil, nil)
	three := open(t, Options{URL: srv.url()})
	three.ShareBans(late)
	waitFor(t, 5*time.Second, "the late node", func() bool { return has(late, "192.0.2.2") })

	// The server dies and comes back empty. What happened meanwhile is told then.
	srv.kill()
	add(t, a, "192.0.2.3", time.Hour)
	b.Lift(prefix("192.0.2.2"))
	time.Sleep(300 * time.Millisecond)
	srv.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("a: %+v\nb: %+v\nlate: %+v", a.List(), b.List(), late.List())
		}
	})
	waitFor(t, 15*time.Second, "all nodes to agree", func() bool {
		return has(a, "192.0.2.3") && has(b, "192.0.2.3") && has(late, "192.0.2.3")
	})
}

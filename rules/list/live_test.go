package list

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "192.0.2.1/32": "192.0.2.1", "192.0.2.0/24": "192.0.2.0/24",
		"192.0.2.0-192.0.2.255": "192.0.2.0/24", "192.0.2.0 - 192.0.2.254": "192.0.2.0-192.0.2.254",
		"::ffff:192.0.2.0/120": "192.0.2.0/24", "2001:DB8:0::1": "2001:db8::1", "2001:db8::/32": "2001:db8::/32",
	} {
		if got, err := Canonical(text); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "everybody", "192.0.2.1/24", "0.0.0.0/0", "::/0", "0.0.0.0-255.255.255.255", "fe80::1%eth0", "192.0.2.2-192.0.2.1", "version"} {
		if got, err := Canonical(bad); err == nil {
			t.Errorf("%s is taken as %q", bad, got)
		}
	}
}

func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLive(nil)
		defer l.Close()
		has := func(addr string, want bool) {
			t.Helper()
			if got := l.Contains(netip.MustParseAddr(addr)); got != want {
				t.Errorf("%s: %v", addr, got)
			}
		}
		has("192.0.2.1", false)
		if n := l.Replace(7, []Entry{{Text: "192.0.2.0/24"}, {Text: "no address"}, {Text: strings.Repeat("1", 100)}}); n != 2 || l.Version() != 7 {
			t.Errorf("%d refused, version %d", n, l.Version())
		}
		has("192.0.2.1", true)
		if l.Change(9, []Entry{{Text: "198.51.100.1"}}, nil) {
			t.Error("a change was missed, and it is not told")
		}
		if !l.Change(7, []Entry{{Text: "198.51.100.1"}}, nil) {
			t.Error("an old change is told as a missed one")
		}
		if !l.Change(8, []Entry{{Text: "198.51.100.1", Until: time.Now().Add(3 * time.Hour)}}, []string{"192.0.2.0/24"}) {
			t.Error("the next change is not taken")
		}
		time.Sleep(settle)
		synctest.Wait()
		has("192.0.2.1", false)
		has("198.51.100.1", true)
		if v, all := l.Entries(); v != 8 || len(all) != 1 || all[0].Until.IsZero() || l.Len() != 1 {
			t.Errorf("version %d, %v, %d", v, all, l.Len())
		}
		time.Sleep(3*time.Hour + time.Second)
		synctest.Wait()
		has("198.51.100.1", false)
		if _, all := l.Entries(); len(all) != 0 || l.Len() != 0 {
			t.Errorf("%v", all)
		}
		// What waits is in force at the end, and nothing runs on.
		l.Change(9, []Entry{{Text: "203.0.113.1", Until: time.Now().Add(time.Hour)}}, nil)
		l.Close()
		has("203.0.113.1", true)
	})
}

func TestLiveIsBounded(t *testing.T) {
	l := NewLive(nil)
	defer l.Close()
	all := make([]Entry, MaxLive+10)
	for i := range all {
		all[i].Text = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()
	}
	if n := l.Replace(1, all); n != 10 || l.Len() != MaxLive {
		t.Errorf("%d refused, %d in force", n, l.Len())
	}
	l.Change(2, []Entry{{Text: "192.0.2.1"}, {Text: "10.0.0.1", Until: time.Now().Add(time.Hour)}}, nil)
	if _, got := l.Entries(); len(got) != MaxLive {
		t.Errorf("%d entries", len(got))
	}
	if n := testing.AllocsPerRun(100, func() { l.Contains(netip.MustParseAddr("10.0.0.1")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestLiveTwin holds random changes against a plain map of addresses.
func TestLiveTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 7))
		l := NewLive(nil)
		defer l.Close()
		twin := map[string]time.Time{}
		for version := uint64(1); version < 400; version++ {
			text := fmt.Sprintf("10.0.0.%d", rng.IntN(64))
			if rng.IntN(3) == 0 {
				l.Change(version, nil, []string{text})
				delete(twin, text)
			} else {
				e := Entry{Text: text}
				if rng.IntN(2) == 0 {
					e.Until = time.Now().Truncate(time.Second).Add(time.Duration(1+rng.IntN(600)) * time.Second)
				}
				l.Change(version, []Entry{e}, nil)
				twin[text] = e.Until
			}
			time.Sleep(time.Duration(rng.IntN(10)) * time.Second)
			time.Sleep(settle)
			synctest.Wait()
			for i := range 64 {
				text := fmt.Sprintf("10.0.0.%d", i)
				until, ok := twin[text]
				want := ok && (until.IsZero() || until.Unix() > time.Now().Unix())
				if got := l.Contains(netip.MustParseAddr(text)); got != want {
					t.Fatalf("version %d: %s is %v, want %v (until %s, now %s)", version, text, got, want, until, time.Now())
				}
			}
		}
	})
}

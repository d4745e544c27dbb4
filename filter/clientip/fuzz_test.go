package clientip

import (
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

var fuzzTrusted = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("10.9.0.0/16"),
	netip.MustParsePrefix("2001:db8:ffff::/48"),
}

func fuzzResolver(f testing.TB, header string) *Resolver {
	r, err := New(Config{TrustedProxies: fuzzTrusted, Header: header})
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// checkList holds ClientAddr against the reference. The header comes as one
// string, lines apart by LF, which no field line holds.
func checkList(t *testing.T, r *Resolver, header string) {
	lines := strings.Split(header, "\n")
	peer := netip.MustParseAddr("127.0.0.1")
	got, err := r.ClientAddr(peer, http.Header{"X-Forwarded-For": lines})
	elements := refList(lines)
	if strings.Count(header, ",")+len(lines) > maxElements || len(header) > maxBytes {
		return // the reference has no bounds
	}
	want, ok := reference{fuzzTrusted}.walk(peer, elements)
	if ok != (err == nil) || got != want {
		t.Fatalf("%q: got %v, %v; the reference says %v, %v", lines, got, err, want, ok)
	}
}

func checkForwarded(t *testing.T, r *Resolver, header string) {
	lines := strings.Split(header, "\n")
	peer := netip.MustParseAddr("127.0.0.1")
	got, err := r.ClientAddr(peer, http.Header{"Forwarded": lines})

	// Whatever a client sends, what a trusted proxy adds to it decides.
	last := len(lines) - 1
	added := append(lines[:last:last], lines[last]+`, for="198.51.100.9:80";by=_a`)
	if a, err := r.ClientAddr(peer, http.Header{"Forwarded": added}); err != nil || a != netip.MustParseAddr("198.51.100.9") {
		t.Fatalf("%q: got %v, %v; want the address that the proxy added", added, a, err)
	}

	elements, ok := refForwarded(lines)
	if !ok || strings.Count(header, ",")+len(lines) > maxElements || len(header) > maxBytes {
		return
	}
	want, ok := reference{fuzzTrusted}.walk(peer, elements)
	if ok != (err == nil) || got != want {
		t.Fatalf("%q: got %v, %v; the reference says %v, %v", lines, got, err, want, ok)
	}
}

func FuzzXForwardedFor(f *testing.F) {
	for _, s := range []string{
		"", ",", "198.51.100.1", "198.51.100.1, 10.0.0.1", "198.51.100.1:80,10.0.0.1:1\n127.0.0.1",
		"[2001:db8::1%25eth0]:80", "2001:db8::1", "::ffff:203.0.113.66", "unknown", "[::1", "1.2.3.4:", "fe80::1%", "[1.2.3.4]",
		"10.0.0.1,10.9.0.1, 2001:db8:ffff::1", "\x00,\xff", "1.2.3.4:65536", "[::ffff:1.2.3.4]:5",
	} {
		f.Add(s)
	}
	r := fuzzResolver(f, "X-Forwarded-For")
	f.Fuzz(func(t *testing.T, header string) { checkList(t, r, header) })
}

func FuzzForwarded(f *testing.F) {
	for _, s := range []string{
		"", ",;,", "for=198.51.100.1", `for="[2001:db8::1]:4711";proto=https, for=10.0.0.1`, `For="_mdn";by=unknown`,
		"for=unknown\nfor=10.0.0.1", `for="198.51.100.1`, `for=1.2.3.4;host="a\\", for=10.0.0.1`, `host="a\", for=1.2.3.4"`,
		"for=1.2.3.4;for=1.2.3.4", `for="unknown:_p"`, `for=[::1`, "proto=https", `for="\1.2.3.4"`, `for=1.2.3.4:_p`, `\"`, "for=_",
	} {
		f.Add(s)
	}
	r := fuzzResolver(f, "Forwarded")
	f.Fuzz(func(t *testing.T, header string) { checkForwarded(t, r, header) })
}

// TestAgainstReference holds the resolver against the slow twin on random
// headers made of the pieces that matter.
func TestAgainstReference(t *testing.T) {
	pieces := []string{
		",", ",", ", ", ";", "\n", " ", "\t", `"`, `\`, "=", "for=", "for=", "For=", "by=", "proto=https", "host=",
		"198.51.100.1", "10.0.0.1", "10.9.1.1", "127.0.0.1", "2001:db8::1", "2001:db8:ffff::1", "[2001:db8::1]", "[2001:db8:ffff::2]",
		"::ffff:10.0.0.1", "::ffff:203.0.113.66", ":80", ":_p", ":65536", "%eth0", "[", "]", "unknown", "_hidden", "x", "\xff", "\x01",
		`"10.0.0.1"`, `"[2001:db8:ffff::1]:80"`, `"a,b"`, `"a\"b"`,
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	list, forwarded := fuzzResolver(t, "X-Forwarded-For"), fuzzResolver(t, "Forwarded")
	for range 40_000 {
		var b strings.Builder
		for range rnd.IntN(12) {
			b.WriteString(pieces[rnd.IntN(len(pieces))])
		}
		checkList(t, list, b.String())
		checkForwarded(t, forwarded, b.String())
	}
}

// TestNetworksAgainstPrefixes holds the sorted ranges against a scan over the
// prefixes.
func TestNetworksAgainstPrefixes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	addr := func() netip.Addr {
		if rnd.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(rnd.IntN(4)), byte(rnd.Uint32()), byte(rnd.Uint32())})
		}
		return netip.AddrFrom16([16]byte{0x20, 1, byte(rnd.IntN(4)), byte(rnd.Uint32()), 15: byte(rnd.Uint32())})
	}
	for range 300 {
		var (
			set      networks
			prefixes []netip.Prefix
		)
		for range rnd.IntN(30) {
			a := addr()
			p := netip.PrefixFrom(a, rnd.IntN(a.BitLen()+1)).Masked()
			if rnd.IntN(8) != 0 && p.Bits() < 10 {
				continue // few prefixes that hold everything
			}
			prefixes = append(prefixes, p)
			set.add(p)
		}
		set.compile()
		for range 300 {
			a := addr()
			if got, want := set.contains(a), (reference{prefixes}).trusts(a); got != want {
				t.Fatalf("%v in %v: got %v, want %v", a, prefixes, got, want)
			}
		}
		for _, p := range prefixes {
			for _, a := range []netip.Addr{p.Addr(), lastAddr(p)} {
				if !set.contains(a) {
					t.Fatalf("%v, at the edge of %v, is not in the set", a, p)
				}
			}
		}
	}
}

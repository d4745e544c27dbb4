package clientip

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
)

var _ filter.AddrResolver = (*Resolver)(nil)

// The addresses of the tests: two trusted networks, a proxy of each family in
// them, a client, and an address that a rule blocks.
const (
	proxy4   = "127.0.0.1"
	proxy6   = "2001:db8:ffff::1"
	stranger = "127.1.0.55" // talks to us directly, trusted by nobody
	client   = "198.51.100.1"
	client6  = "2001:db8::1"
	blocked  = "203.0.113.66"
)

func testResolver(t testing.TB, header string) *Resolver {
	t.Helper()
	r, err := New(Config{
		TrustedProxies: []netip.Prefix{
			netip.MustParsePrefix("127.0.0.0/24"),
			netip.MustParsePrefix("10.0.0.0/8"),
			netip.MustParsePrefix("10.1.0.0/16"),
			netip.MustParsePrefix("2001:db8:ffff::/48"),
			netip.MustParsePrefix("::ffff:192.0.2.0/120"),
		},
		Header: header,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lines returns header fields: name, value, name, value ...
func lines(kv ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(kv); i += 2 {
		h.Add(kv[i], kv[i+1])
	}
	return h
}

func TestClientAddr(t *testing.T) {
	const xff, fwd, real = "X-Forwarded-For", "Forwarded", "X-Real-IP"
	for _, tt := range []struct {
		name   string
		header string // what the policy reads
		peer   string
		fields http.Header
		want   string // empty: an error
	}{
		// Conformance rows.
		{"IP-1 blocked peer, no header", xff, blocked, nil, blocked},
		{"IP-7 headers of an untrusted peer claim another", xff, blocked, lines(xff, client, real, client, fwd, "for="+client), blocked},
		{"IP-7 with Forwarded", fwd, blocked, lines(xff, client, real, client, fwd, "for="+client), blocked},
		{"IP-7 with one address", real, blocked, lines(xff, client, real, client, fwd, "for="+client), blocked},
		{"IP-8 untrusted peer claims a blocked address", xff, stranger, lines(xff, blocked), stranger},
		{"IP-9 two lines, blocked left of a trusted hop", xff, proxy4, lines(xff, blocked, xff, proxy4), blocked},
		{"IP-10 client-sent address left of the blocked one", xff, proxy4, lines(xff, client+", "+blocked), blocked},
		{"IP-11 IPv4 in IPv6", xff, proxy4, lines(xff, "::ffff:"+blocked), blocked},
		{"IP-12 Connection names the header", xff, proxy4, lines("Connection", xff, xff, blocked), blocked},
		{"IP-12 Connection names the header, direct", xff, blocked, lines("Connection", xff), blocked},

		// Who is trusted.
		{"no header from a proxy", xff, proxy4, nil, proxy4},
		{"another header from a proxy", xff, proxy4, lines(real, client), proxy4},
		{"empty header", xff, proxy4, lines(xff, ""), proxy4},
		{"only separators", xff, proxy4, lines(xff, " ,\t, ,"), proxy4},
		{"IPv6 proxy", xff, proxy6, lines(xff, client), client},
		{"proxy as IPv4 in IPv6", xff, "::ffff:127.0.0.1", lines(xff, client), client},
		{"proxy in a prefix written as IPv4 in IPv6", xff, "192.0.2.7", lines(xff, client), client},
		{"proxy with zone", xff, "2001:db8:ffff::1%eth0", lines(xff, client), client},
		{"first address of a trusted network", xff, "10.0.0.0", lines(xff, client), client},
		{"last address of a trusted network", xff, "10.255.255.255", lines(xff, client), client},
		{"address before a trusted network", xff, "9.255.255.255", lines(xff, client), "9.255.255.255"},
		{"address after a trusted network", xff, "11.0.0.0", lines(xff, client), "11.0.0.0"},
		{"unmapped peer that nobody trusts", xff, "::ffff:203.0.113.66", lines(xff, client), blocked},

		// Lists.
		{"one element", xff, proxy4, lines(xff, client), client},
		{"chain of proxies", xff, proxy4, lines(xff, client+", 10.1.1.1, 10.200.0.1, 2001:db8:ffff::9"), client},
		{"chain over several lines", xff, proxy4, lines(xff, blocked, xff, client+",10.1.1.1", xff, "10.0.0.9"), client},
		{"all trusted: the leftmost", xff, proxy4, lines(xff, "10.0.0.1, 10.0.0.2"), "10.0.0.1"},
		{"all trusted over lines: the leftmost", xff, proxy4, lines(xff, "10.0.0.1", xff, "10.0.0.2"), "10.0.0.1"},
		{"empty elements", xff, proxy4, lines(xff, client+",, ,10.0.0.1,", xff, ""), client},
		{"tabs and spaces", xff, proxy4, lines(xff, "\t "+client+" \t,\t10.0.0.1 "), client},
		{"garbage left of the client is not read", xff, proxy4, lines(xff, "<script>, "+client), client},
		{"garbage line left of the client is not read", xff, proxy4, lines(xff, "\x00\xff", xff, client), client},
		{"garbage at the place to be read", xff, proxy4, lines(xff, client+", nonsense"), ""},
		{"garbage behind a trusted hop", xff, proxy4, lines(xff, client+", nonsense, 10.0.0.1"), ""},
		{"unknown is no address here", xff, proxy4, lines(xff, "unknown"), ""},
		{"two addresses without a comma", xff, proxy4, lines(xff, client+" "+client), ""},
		{"other case of the field name in the policy", "x-forwarded-FOR", proxy4, lines(xff, client), client},

		// Forms of one address.
		{"IPv4 with port", xff, proxy4, lines(xff, client+":51234"), client},
		{"IPv4 with port 65535", xff, proxy4, lines(xff, client+":65535"), client},
		{"IPv4 with port 65536", xff, proxy4, lines(xff, client+":65536"), ""},
		{"IPv4 with an empty port", xff, proxy4, lines(xff, client+":"), ""},
		{"IPv4 with a word as port", xff, proxy4, lines(xff, client+":http"), ""},
		{"IPv4 with an obfuscated port", xff, proxy4, lines(xff, client+":_p"), ""},
		{"IPv4 with leading zeros", xff, proxy4, lines(xff, "198.051.100.1"), ""},
		{"IPv4 as one number", xff, proxy4, lines(xff, "3325256705"), ""},
		{"IPv4 in brackets", xff, proxy4, lines(xff, "["+client+"]"), ""},
		{"IPv4 with zone", xff, proxy4, lines(xff, client+"%eth0"), ""},
		{"IPv6", xff, proxy4, lines(xff, client6), client6},
		{"IPv6 in capitals", xff, proxy4, lines(xff, "2001:DB8::1"), client6},
		{"IPv6 in brackets", xff, proxy4, lines(xff, "["+client6+"]"), client6},
		{"IPv6 with port", xff, proxy4, lines(xff, "["+client6+"]:443"), client6},
		{"IPv6 with junk behind the bracket", xff, proxy4, lines(xff, "["+client6+"]443"), ""},
		{"IPv6 without the closing bracket", xff, proxy4, lines(xff, "["+client6), ""},
		{"IPv6 with zone", xff, proxy4, lines(xff, "fe80::1%eth0"), "fe80::1"},
		{"IPv6 with escaped zone in brackets", xff, proxy4, lines(xff, "[fe80::1%25eth0]:80"), "fe80::1"},
		{"IPv6 with an empty zone", xff, proxy4, lines(xff, "fe80::1%"), ""},
		{"IPv6 with a zone that is none", xff, proxy4, lines(xff, "fe80::1%a b"), ""},
		{"IPv4 in IPv6, in brackets with port", xff, proxy4, lines(xff, "[::ffff:203.0.113.66]:1"), blocked},
		{"IPv4 in IPv6, in hexadecimal", xff, proxy4, lines(xff, "::ffff:cb00:7142"), blocked},
		{"mapped trusted hop is skipped", xff, proxy4, lines(xff, client+", ::ffff:10.0.0.1"), client},
		{"host name", xff, proxy4, lines(xff, "localhost"), ""},
		{"quoted address", xff, proxy4, lines(xff, `"`+client+`"`), ""},
		{"prefix", xff, proxy4, lines(xff, "198.51.100.0/24"), ""},

		// Bounds.
		{"64 elements", xff, proxy4, lines(xff, client+strings.Repeat(",10.0.0.1", 63)), client},
		{"65 elements", xff, proxy4, lines(xff, client+strings.Repeat(",10.0.0.1", 64)), ""},
		{"65 lines", xff, proxy4, http.Header{xff: append([]string{client}, repeat("10.0.0.1", 64)...)}, ""},
		{"65 empty elements", xff, proxy4, lines(xff, client+strings.Repeat(",", 65)), ""},
		{"a long list whose end decides", xff, proxy4, lines(xff, strings.Repeat("1.1.1.1,", 5000)+client), client},
		{"8 KiB of spaces", xff, proxy4, lines(xff, client+","+strings.Repeat(" ", 8<<10)), ""},
		{"a megabyte without separator", xff, proxy4, lines(xff, strings.Repeat("1", 1<<20)), ""},
		{"8 KiB over several lines", xff, proxy4, http.Header{xff: append([]string{client}, repeat("10.0.0.1"+strings.Repeat(" ", 1000), 9)...)}, ""},

		// Forwarded.
		{"Forwarded", fwd, proxy4, lines(fwd, "for="+client), client},
		{"Forwarded reads no X-Forwarded-For", fwd, proxy4, lines(xff, client), proxy4},
		{"Forwarded, capitals and parameters", fwd, proxy4, lines(fwd, "proto=https;For="+client+";by=_edge;HOST=example.com"), client},
		{"Forwarded, quoted IPv6 with port", fwd, proxy4, lines(fwd, `for="[2001:db8::1]:4711"`), client6},
		{"Forwarded, IPv6 without quotes", fwd, proxy4, lines(fwd, `for=[2001:db8::1]`), client6},
		{"Forwarded, bare IPv6 in quotes", fwd, proxy4, lines(fwd, `for="2001:db8::1"`), client6},
		{"Forwarded, escapes in quotes", fwd, proxy4, lines(fwd, `for="\1\9\8.51.100.1"`), client},
		{"Forwarded, obfuscated port", fwd, proxy4, lines(fwd, `for="198.51.100.1:_port"`), client},
		{"Forwarded, chain", fwd, proxy4, lines(fwd, `for=203.0.113.66, for=198.51.100.1;by="a,b", for=10.0.0.1`), client},
		{"Forwarded, chain over lines", fwd, proxy4, lines(fwd, "for="+blocked, fwd, "for=10.0.0.1, for="+client, fwd, "for=10.0.0.2"), client},
		{"Forwarded, all trusted", fwd, proxy4, lines(fwd, "for=10.0.0.1, for=10.0.0.2"), "10.0.0.1"},
		{"Forwarded, comma in quotes", fwd, proxy4, lines(fwd, `for=198.51.100.1;host="a, for=203.0.113.66"`), client},
		{"Forwarded, semicolon in quotes", fwd, proxy4, lines(fwd, `host="a;for=203.0.113.66";for=198.51.100.1`), client},
		{"Forwarded, escaped mark in quotes", fwd, proxy4, lines(fwd, `host="a\", for=203.0.113.66";for=198.51.100.1`), client},
		{"Forwarded, escaped backslash ends the quotes", fwd, proxy4, lines(fwd, `for=203.0.113.66;host="a\\", for=198.51.100.1`), client},
		{"Forwarded, unknown: the hop that says so", fwd, proxy4, lines(fwd, "for="+blocked+", for=unknown, for=10.0.0.7"), "10.0.0.7"},
		{"Forwarded, unknown in capitals", fwd, proxy4, lines(fwd, "for=UNKNOWN"), proxy4},
		{"Forwarded, obfuscated: the hop that says so", fwd, proxy4, lines(fwd, "for="+blocked+", for=_gazonk"), proxy4},
		{"Forwarded, obfuscated with port", fwd, proxy4, lines(fwd, `for="_gazonk:_p"`), proxy4},
		{"Forwarded, unknown with port", fwd, proxy4, lines(fwd, `for="unknown:80"`), proxy4},
		{"Forwarded, no for parameter", fwd, proxy4, lines(fwd, "for="+blocked+", proto=https"), proxy4},
		{"Forwarded, empty elements", fwd, proxy4, lines(fwd, "for="+client+", ,"), client},
		{"Forwarded, empty pairs", fwd, proxy4, lines(fwd, ";for="+client+";"), client},
		{"Forwarded, client's open quote does not swallow the proxy's element", fwd, proxy4, lines(fwd, `for="203.0.113.66, for=198.51.100.1`), client},
		{"Forwarded, open quote at the place to be read", fwd, proxy4, lines(fwd, `for="198.51.100.1`), ""},
		{"Forwarded, open quote behind a trusted hop", fwd, proxy4, lines(fwd, `for="198.51.100.1, for=10.0.0.1`), ""},
		{"Forwarded, backslash outside quotes", fwd, proxy4, lines(fwd, `for=\"198.51.100.1"`), ""},
		{"Forwarded, for twice", fwd, proxy4, lines(fwd, "for="+client+";for="+blocked), ""},
		{"Forwarded, empty for", fwd, proxy4, lines(fwd, "for="), ""},
		{"Forwarded, empty quotes", fwd, proxy4, lines(fwd, `for=""`), ""},
		{"Forwarded, junk behind quotes", fwd, proxy4, lines(fwd, `for="198.51.100.1"x`), ""},
		{"Forwarded, space around equals", fwd, proxy4, lines(fwd, "for = "+client), ""},
		{"Forwarded, only a word", fwd, proxy4, lines(fwd, client), ""},
		{"Forwarded, only an underscore", fwd, proxy4, lines(fwd, "for=_"), ""},
		{"Forwarded, host name", fwd, proxy4, lines(fwd, "for=example.com"), ""},
		{"Forwarded, control character in quotes", fwd, proxy4, lines(fwd, "for="+client+";host=\"a\x01\""), ""},
		{"Forwarded, 65 elements", fwd, proxy4, lines(fwd, "for="+client+strings.Repeat(", for=10.0.0.1", 64)), ""},
		{"Forwarded, a quoted string over the bound", fwd, proxy4, lines(fwd, "for="+client+`;host="`+strings.Repeat("x", 9000)+`"`), ""},

		// One address.
		{"X-Real-IP", real, proxy4, lines(real, " "+client+" "), client},
		{"X-Real-IP, IPv6 with port", real, proxy4, lines(real, "[2001:db8::1]:80"), client6},
		{"X-Real-IP, empty", real, proxy4, lines(real, ""), proxy4},
		{"X-Real-IP, twice the same", real, proxy4, lines(real, client, real, "::ffff:"+client), client},
		{"X-Real-IP, two addresses", real, proxy4, lines(real, client, real, blocked), ""},
		{"X-Real-IP, a list", real, proxy4, lines(real, client+", "+blocked), ""},
		{"X-Real-IP, no address", real, proxy4, lines(real, "unknown"), ""},
		{"X-Real-IP, a trusted address", real, proxy4, lines(real, "10.0.0.1"), "10.0.0.1"},
		{"X-Real-IP, 65 lines", real, proxy4, http.Header{"X-Real-Ip": repeat(client, 65)}, ""},
		{"CF-Connecting-IP", "cf-connecting-ip", proxy4, lines("CF-Connecting-IP", client), client},

		// No header is read.
		{"no header in the policy", "", proxy4, lines(xff, client), proxy4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := testResolver(t, tt.header)
			got, err := r.ClientAddr(netip.MustParseAddr(tt.peer), tt.fields)
			if tt.want == "" {
				var he *HeaderError
				if !errors.As(err, &he) || got.IsValid() {
					t.Fatalf("got %v, %v; want a *HeaderError", got, err)
				}
				if len(err.Error()) > 400 {
					t.Errorf("error of %d bytes", len(err.Error()))
				}
				return
			}
			if err != nil || got != netip.MustParseAddr(tt.want) {
				t.Errorf("got %v, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func repeat(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

func TestPeerWithoutAddressIsTrustedByNobody(t *testing.T) {
	r, err := New(Config{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
		Header:         "X-Forwarded-For",
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.ClientAddr(netip.Addr{}, lines("X-Forwarded-For", client))
	if err != nil || got.IsValid() {
		t.Errorf("got %v, %v; want the zero address", got, err)
	}
}

func TestZeroResolverTrustsNobody(t *testing.T) {
	var r Resolver
	peer := netip.MustParseAddr(proxy4)
	got, err := r.ClientAddr(peer, lines("X-Forwarded-For", client, "", client))
	if err != nil || got != peer {
		t.Errorf("got %v, %v; want %v", got, err, peer)
	}
	if r.Trusts(peer) {
		t.Error("the zero resolver trusts an address")
	}
}

func TestNewRefuses(t *testing.T) {
	_, err := New(Config{Header: "X Real\nIP", TrustedProxies: []netip.Prefix{netip.MustParsePrefix("::1/128"), {}}})
	want := `client address header "X Real\nIP" is no field name` + "\n" + "trusted proxy 2 is no prefix"
	if err == nil || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestErrorTextIsEscapedAndBounded(t *testing.T) {
	r := testResolver(t, "X-Forwarded-For")
	_, err := r.ClientAddr(netip.MustParseAddr(proxy4), lines("X-Forwarded-For", "1.1.1.1, \x1b[31m\u202e"+strings.Repeat("A", 5000)))
	want := `X-Forwarded-For of a trusted proxy holds no address where one is due: " \x1b[31m\u202e` + strings.Repeat("A", 39) + `"...`
	if err == nil || err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestClientAddrDoesNotAllocate(t *testing.T) {
	peer := netip.MustParseAddr(proxy4)
	for _, tt := range []struct {
		header string
		fields http.Header
	}{
		{"X-Forwarded-For", lines("X-Forwarded-For", "198.51.100.1, 10.0.0.1", "X-Forwarded-For", "10.0.0.2:443")},
		{"X-Forwarded-For", lines("X-Forwarded-For", "[2001:db8::1%eth0]:80")},
		{"Forwarded", lines("Forwarded", `for="[2001:db8::1]:4711";proto=https, for=10.0.0.1`)},
		{"X-Real-IP", lines("X-Real-IP", "198.51.100.1")},
		{"X-Forwarded-For", nil},
	} {
		r := testResolver(t, tt.header)
		if n := testing.AllocsPerRun(100, func() { _, _ = r.ClientAddr(peer, tt.fields) }); n != 0 {
			t.Errorf("%v: %v allocations", tt.fields, n)
		}
	}
}

func BenchmarkClientAddr(b *testing.B) {
	peer := netip.MustParseAddr(proxy4)
	for _, bb := range []struct {
		name   string
		header string
		fields http.Header
	}{
		{"no-header", "X-Forwarded-For", nil},
		{"one", "X-Forwarded-For", lines("X-Forwarded-For", "198.51.100.1")},
		{"chain", "X-Forwarded-For", lines("X-Forwarded-For", "2001:db8::1, 10.0.0.1, 10.0.0.2")},
		{"forwarded", "Forwarded", lines("Forwarded", `for="[2001:db8::1]:4711";proto=https, for=10.0.0.1`)},
		{"hostile-64-hops", "X-Forwarded-For", lines("X-Forwarded-For", client+strings.Repeat(",10.0.0.1", 64))},
		{"hostile-1MiB", "X-Forwarded-For", lines("X-Forwarded-For", strings.Repeat("1", 1<<20))},
		{"hostile-quotes", "Forwarded", lines("Forwarded", strings.Repeat(`\"`, 1<<19))},
	} {
		b.Run(bb.name, func(b *testing.B) {
			r := testResolver(b, bb.header)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = r.ClientAddr(peer, bb.fields)
			}
		})
	}
}

func TestUnixPeerIsTrustedIfTold(t *testing.T) {
	for _, tt := range []struct{ header, value, want string }{
		{"X-Forwarded-For", "198.51.100.1, 203.0.113.9", "203.0.113.9"},
		{"X-Forwarded-For", "203.0.113.9, 10.0.0.1", "203.0.113.9"},
		{"X-Real-IP", "203.0.113.9", "203.0.113.9"},
		{"Forwarded", `for="[2001:db8::1]:80"`, "2001:db8::1"},
		{"X-Forwarded-For", "", ""},
		{"X-Forwarded-For", "nobody", "error"},
	} {
		r, err := New(Config{TrustUnix: true, Header: tt.header, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		h.Set(tt.header, tt.value)
		got, err := r.ClientAddr(netip.Addr{}, h)
		switch {
		case (err != nil) != (tt.want == "error"):
			t.Errorf("%s: %s: %v", tt.header, tt.value, err)
		case err == nil && tt.want == "" && got.IsValid(), err == nil && tt.want != "" && got.String() != tt.want:
			t.Errorf("%s: %s: client %v, want %q", tt.header, tt.value, got, tt.want)
		}
		// Whoever has an address is no Unix socket.
		if got, err := r.ClientAddr(netip.MustParseAddr("192.0.2.1"), h); err != nil || got.String() != "192.0.2.1" {
			t.Errorf("a peer with an address: %v, %v", got, err)
		}
	}
}

package geo_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/oschwald/geoip2-golang/v2"
	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/moatwaf/moat/geo"
)

// TestTwinReader holds the compiled ranges against a look-up in the search tree,
// on random databases of every shape that the writer makes.
func TestTwinReader(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	countries := geo.Countries()
	for round := range 40 {
		o := mmdbwriter.Options{
			IPVersion:           []int{4, 6}[round%2],
			RecordSize:          []int{24, 28, 32}[round%3],
			DisableIPv4Aliasing: round%5 == 0,
		}
		t.Run(fmt.Sprintf("v%d, %d bits, aliases %t, round %d", o.IPVersion, o.RecordSize, !o.DisableIPv4Aliasing, round), func(t *testing.T) {
			var networks []network
			for range 1 + rng.IntN(400) {
				p := randomPrefix(rng, o.IPVersion == 6)
				for o.IPVersion == 6 && !o.DisableIPv4Aliasing && inAlias(p) {
					p = randomPrefix(rng, true)
				}
				networks = append(networks, network{p.String(), m{"country_code": s(countries[rng.IntN(len(countries))])}})
			}
			data := build(t, o, networks...)
			compare(t, rng, data, 1000)
		})
	}
}

// TestTwinWideNetworks is about trees without a node of their own for IPv4.
func TestTwinWideNetworks(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, prefixes := range [][]string{
		{"::/1", "8000::/1"}, {"::/0"}, {"8000::/1"}, {"::/1"}, {"::/96"}, {"::/95", "2000::/3"}, {"4000::/2", "2400::/8"},
	} {
		var networks []network
		for i, p := range prefixes {
			networks = append(networks, network{p, m{"country_code": s([]string{"DE", "FR"}[i%2])}})
		}
		// The same record at two places must not be taken for an alias.
		networks = append(networks, network{"a000::/8", m{"country_code": s("DE")}})
		t.Run(fmt.Sprint(prefixes), func(t *testing.T) {
			compare(t, rng, build(t, mmdbwriter.Options{DisableIPv4Aliasing: true}, networks...), 1000)
		})
	}
}

// TestTwinShipped holds the shipped database against the reader at the borders
// of its networks.
func TestTwinShipped(t *testing.T) {
	db, err := geo.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	reader := openReader(t, geo.ShippedBytes(t))
	twin := make(map[uintptr]string)
	checked, i := 0, 0
	for n := range reader.Networks(maxminddb.IncludeNetworksWithoutData()) {
		if i++; i%7 != 0 {
			continue
		}
		want, ok := twin[n.Offset()]
		if !ok {
			want = lookup(t, n)
			twin[n.Offset()] = want
		}
		for _, a := range []netip.Addr{n.Prefix().Addr(), last(n.Prefix())} {
			checked++
			if got := db.Locate(a).Country; got != want {
				t.Fatalf("Locate(%s) = %q, want %q, of %s", a, got, want, n.Prefix())
			}
		}
	}
	if checked < 200_000 {
		t.Errorf("compared %d addresses only", checked)
	}
}

// TestTwinGeoIP2 holds the nested layouts against the typed reader of geoip2-golang.
func TestTwinGeoIP2(t *testing.T) {
	data := smallDatabase(t)
	twin, err := geoip2.OpenBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	db, err := geo.FromBytes("small.mmdb", data)
	if err != nil {
		t.Fatal(err)
	}
	asnData := build(t, mmdbwriter.Options{DatabaseType: "GeoLite2-ASN"},
		network{"192.0.2.0/25", m{"autonomous_system_number": mmdbtype.Uint32(64500), "autonomous_system_organization": s("One")}},
		network{"2001:db8::/33", m{"autonomous_system_number": mmdbtype.Uint32(4200000001)}},
	)
	asnTwin, err := geoip2.OpenBytes(asnData)
	if err != nil {
		t.Fatal(err)
	}
	asn, err := geo.FromBytes("asn.mmdb", asnData)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	seen := make(map[string]int)
	for range 20_000 {
		a := near(rng, []string{"192.0.2.0/23", "198.51.100.0/23", "203.0.113.0/28", "2001:db8::/30", "2001:db8:1::/47"}[rng.IntN(5)])
		record, err := twin.Country(a)
		if err != nil {
			t.Fatal(err)
		}
		want := record.Country.ISOCode
		if want == "" {
			want = record.RegisteredCountry.ISOCode
		}
		if got := db.Locate(a).Country; got != want {
			t.Fatalf("Locate(%s) = %q, want %q", a, got, want)
		}
		asnRecord, err := asnTwin.ASN(a)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := asn.Locate(a).ASN, uint32(asnRecord.AutonomousSystemNumber); got != want {
			t.Fatalf("Locate(%s).ASN = %d, want %d", a, got, want)
		}
		seen[want]++
	}
	if len(seen) != 5 {
		t.Errorf("met countries %v, want all four and none", seen)
	}
}

// compare holds a compiled database against the reader on n random addresses and
// on the borders of all networks.
func compare(t *testing.T, rng *rand.Rand, data []byte, n int) {
	t.Helper()
	db, err := geo.FromBytes("random.mmdb", data)
	if err != nil {
		t.Fatal(err)
	}
	reader := openReader(t, data)
	check := func(a netip.Addr) {
		t.Helper()
		want := ""
		switch v := a.Unmap(); {
		case v.Is6() && reader.Metadata.IPVersion == 4:
		case v.Is6() && v.Less(netip.MustParseAddr("::1:0:0")):
			// IPv4-compatible: in the tree it is IPv4 itself, to us nobody's
			// unless a wider network covers it.
			if got := db.Locate(v).Country; got != "" && got != lookup(t, reader.Lookup(v)) {
				t.Fatalf("Locate(%s) = %q", v, got)
			}
			return
		default:
			want = lookup(t, reader.Lookup(v))
		}
		if got := db.Locate(a).Country; got != want {
			t.Fatalf("Locate(%s) = %q, want %q", a, got, want)
		}
	}
	for network := range reader.Networks(maxminddb.IncludeNetworksWithoutData(), maxminddb.IncludeAliasedNetworks()) {
		p := network.Prefix()
		check(p.Addr())
		check(last(p))
		if before := p.Addr().Prev(); before.IsValid() {
			check(before)
		}
		if after := last(p).Next(); after.IsValid() {
			check(after)
		}
	}
	for range n {
		check(near(rng, "0.0.0.0/0"))
		check(near(rng, "::/0"))
		check(near(rng, "2000::/3"))
		check(near(rng, "2002::/16"))
		check(near(rng, "2001::/32"))
		check(near(rng, "::ffff:0:0/96"))
	}
}

func openReader(t testing.TB, data []byte) *maxminddb.Reader {
	t.Helper()
	r, err := maxminddb.OpenBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func lookup(t testing.TB, r maxminddb.Result) string {
	t.Helper()
	var record struct {
		CountryCode string `maxminddb:"country_code"`
	}
	if err := r.Decode(&record); err != nil {
		t.Fatal(err)
	}
	if !geo.ValidCountry(record.CountryCode) { // AP and EU are regions
		return ""
	}
	return record.CountryCode
}

func inAlias(p netip.Prefix) bool {
	for _, alias := range []string{"::ffff:0:0/96", "2001::/32", "2002::/16"} {
		if p.Overlaps(netip.MustParsePrefix(alias)) {
			return true
		}
	}
	return false
}

func randomPrefix(rng *rand.Rand, v6 bool) netip.Prefix {
	if v6 && rng.IntN(2) == 0 {
		p, _ := near(rng, []string{"::/0", "2000::/3", "2001:db8::/32"}[rng.IntN(3)]).Prefix(4 + rng.IntN(125))
		return p
	}
	p, _ := near(rng, []string{"0.0.0.0/0", "192.0.2.0/20"}[rng.IntN(2)]).Prefix(4 + rng.IntN(29))
	return p
}

// near returns a random address of a prefix.
func near(rng *rand.Rand, prefix string) netip.Addr {
	p := netip.MustParsePrefix(prefix)
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] ^= byte(rng.IntN(2)) << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

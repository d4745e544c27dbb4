package geo_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"golang.org/x/text/language"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/geo"
)

func TestShipped(t *testing.T) {
	db, err := geo.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	again, err := geo.Shipped()
	if err != nil || again != db {
		t.Errorf("second call: %p, %v, want the same database %p", again, err, db)
	}
	got := db.Metadata()
	if got.Countries < 200 || !got.HasCountry || got.HasASN || got.Source != "shipped country database" {
		t.Errorf("Metadata = %+v", got)
	}
	for addr, country := range map[string]string{
		"129.132.1.1":        "CH", // ETH Zürich
		"133.11.1.1":         "JP", // University of Tokyo
		"139.18.1.1":         "DE", // Universität Leipzig
		"18.7.22.69":         "US", // MIT
		"::ffff:139.18.1.1":  "DE",
		"2001:638::1":        "DE", // DFN
		"2001:1458:201::1":   "CH", // CERN
		"127.0.0.1":          "",
		"10.0.0.1":           "",
		"::1":                "",
		"fe80::1%eth0":       "",
		"2001:db8::1":        "",
		"255.255.255.255":    "",
		"ff02::1":            "",
		"2002:8b12:0101::1":  "", // this database has no aliases
		"0.0.0.0":            "",
		"::":                 "",
		"::ffff:192.168.1.1": "",
	} {
		if got := db.Locate(netip.MustParseAddr(addr)).Country; got != country {
			t.Errorf("Locate(%s) = %q, want %q", addr, got, country)
		}
	}
}

// TestShippedOrigin holds the note beside the embedded file against the file.
func TestShippedOrigin(t *testing.T) {
	db, err := geo.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	note, err := os.ReadFile("shipped/origin.json")
	if err != nil {
		t.Fatal(err)
	}
	var origin struct {
		Licence, SHA256, Type string
		Size                  int64
		Countries             int
	}
	if err := json.Unmarshal(note, &origin); err != nil {
		t.Fatal(err)
	}
	got := db.Metadata()
	if origin.Licence != "PDDL-1.0" || origin.SHA256 != got.Digest || origin.Size != got.Size || origin.Type != got.Type || origin.Countries != got.Countries {
		t.Errorf("origin.json says %+v, the database %+v; run go generate", origin, got)
	}
}

func TestLocator(t *testing.T) {
	open := func(name string, data m) *geo.Database {
		t.Helper()
		db, err := geo.FromBytes(name, build(t, mmdbwriter.Options{}, network{"192.0.2.0/24", data}))
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	country := open("country.mmdb", m{"country_code": s("DE")})
	asn := open("asn.mmdb", m{"autonomous_system_number": mmdbtype.Uint32(64500)})
	both := open("both.mmdb", m{"country_code": s("FR"), "asn": s("AS64501")})

	digests := make(map[string]string)
	for _, c := range []struct {
		name         string
		country, asn *geo.Database
		want         filter.Location
		err          string
	}{
		{name: "country alone", country: country, want: filter.Location{Country: "DE"}},
		{name: "two files", country: country, asn: asn, want: filter.Location{Country: "DE", ASN: 64500}},
		{name: "one file for both", country: both, want: filter.Location{Country: "FR", ASN: 64501}},
		{name: "asn file before the country file's own", country: both, asn: asn, want: filter.Location{Country: "FR", ASN: 64500}},
		{name: "asn alone", asn: asn, want: filter.Location{ASN: 64500}},
		{name: "asn file as country", country: asn, err: "geo database asn.mmdb: has no countries"},
		{name: "country file as asn", country: country, asn: country, err: "geo database country.mmdb: has no autonomous system numbers"},
		{name: "none", err: "geo: no database"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := geo.NewLocator(c.country, c.asn)
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("NewLocator = %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := l.Locate(netip.MustParseAddr("192.0.2.9")); got != c.want {
				t.Errorf("Locate = %+v, want %+v", got, c.want)
			}
			if got := l.Locate(netip.Addr{}); got != (filter.Location{}) {
				t.Errorf("Locate(zero Addr) = %+v, want nothing", got)
			}
			if other, taken := digests[l.Digest()]; taken {
				t.Errorf("digest is that of %q", other)
			}
			digests[l.Digest()] = c.name
			if l.Country() != c.country || l.ASN() != c.asn {
				t.Errorf("Country, ASN = %p, %p, want %p, %p", l.Country(), l.ASN(), c.country, c.asn)
			}
			same, err := geo.NewLocator(c.country, c.asn)
			if err != nil || same.Digest() != l.Digest() {
				t.Errorf("digest of the same databases differs (%v)", err)
			}
		})
	}
	for name, l := range map[string]*geo.Locator{"nil": nil, "zero": new(geo.Locator)} {
		if got := l.Locate(netip.MustParseAddr("192.0.2.9")); got != (filter.Location{}) {
			t.Errorf("%s Locator: Locate = %+v, want nothing", name, got)
		}
	}
}

// TestCountries holds the table against the regions of golang.org/x/text, which
// come from CLDR and count what CLDR knows as countries beside ISO's.
func TestCountries(t *testing.T) {
	codes := geo.Countries()
	if len(codes) != 250 { // 249 of ISO 3166-1, and XK
		t.Errorf("%d codes, want 250", len(codes))
	}
	for i, code := range codes {
		region, err := language.ParseRegion(code)
		if err != nil || !region.IsCountry() || region.String() != code {
			t.Errorf("%s is no country (%v)", code, err)
		}
		if i > 0 && codes[i-1] >= code {
			t.Errorf("%s stands after %s", code, codes[i-1])
		}
	}
	valid := make(map[string]bool)
	for _, code := range codes {
		valid[code] = true
	}
	// Reserved in ISO 3166-1, or withdrawn, and known to CLDR.
	reserved := make(map[string]bool)
	for code := range strings.SplitSeq("AC AN CP CQ CS DG EA EZ FQ IC NT PC SU TA UN YU", " ") {
		reserved[code] = true
	}
	for a := byte('A'); a <= 'Z'; a++ {
		for b := byte('A'); b <= 'Z'; b++ {
			code := string([]byte{a, b})
			if got := geo.ValidCountry(code); got != valid[code] {
				t.Errorf("ValidCountry(%q) = %t, want %t", code, got, valid[code])
			}
			region, err := language.ParseRegion(code)
			if err == nil && region.IsCountry() && region.String() == code && region.Canonicalize() == region && !valid[code] && !reserved[code] {
				t.Errorf("%s is a country of CLDR and missing", code)
			}
		}
	}
	for _, code := range []string{"", "D", "DEU", "de", "De", "A1", "T1", "\x00\x00", "日", "EU", "UK", "AN", "ZZ", "XX", "AP"} {
		if geo.ValidCountry(code) {
			t.Errorf("ValidCountry(%q) = true", code)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	db, err := geo.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(9, uint64(worker)))
			for range 20_000 {
				a := near(rng, "0.0.0.0/0")
				if first, second := db.Locate(a), db.Locate(a); first != second {
					t.Errorf("Locate(%s) = %+v, then %+v", a, first, second)
				}
			}
		})
	}
	wg.Wait()
}

func TestLocateAllocations(t *testing.T) {
	db, err := geo.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	l, err := geo.NewLocator(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"139.18.1.1", "2001:638::1", "::ffff:139.18.1.1", "fe80::1%eth0", "10.0.0.1"} {
		a := netip.MustParseAddr(addr)
		if n := testing.AllocsPerRun(1000, func() { l.Locate(a) }); n != 0 {
			t.Errorf("Locate(%s) allocates %v times", addr, n)
		}
	}
}

// TestMemory measures what the shipped database keeps.
func TestMemory(t *testing.T) {
	data := geo.ShippedBytes(t)
	before := heap()
	db, err := geo.FromBytes("shipped", data)
	if err != nil {
		t.Fatal(err)
	}
	grown := int64(heap()) - int64(before)
	t.Logf("%d ranges of %d bytes of file hold %d KiB", db.Metadata().Ranges, len(data), grown>>10)
	if grown > 12<<20 {
		t.Errorf("holds %d KiB, want under 12 MiB", grown>>10)
	}
	runtime.KeepAlive(data)
	runtime.KeepAlive(db)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func BenchmarkLocate(b *testing.B) {
	db, err := geo.Shipped()
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(10, 11))
	for _, c := range []struct{ name, within string }{
		{"v4", "0.0.0.0/0"}, {"v6", "2a00::/12"}, {"v4in6", "::ffff:0:0/96"},
	} {
		addrs := make([]netip.Addr, 1<<16)
		for i := range addrs {
			addrs[i] = near(rng, c.within)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				db.Locate(addrs[i&(len(addrs)-1)])
				i++
			}
		})
		b.Run(c.name+"/one", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				db.Locate(addrs[0])
			}
		})
	}
}

// BenchmarkReader is the look-up in the search tree that BenchmarkLocate replaces.
func BenchmarkReader(b *testing.B) {
	reader := openReader(b, geo.ShippedBytes(b))
	rng := rand.New(rand.NewPCG(10, 11))
	addrs := make([]netip.Addr, 1<<16)
	for i := range addrs {
		addrs[i] = near(rng, "0.0.0.0/0")
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		var record struct {
			CountryCode string `maxminddb:"country_code"`
		}
		if err := reader.Lookup(addrs[i&(len(addrs)-1)]).Decode(&record); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkLoad is the cost of the first Shipped, without unpacking.
func BenchmarkLoad(b *testing.B) {
	data := geo.ShippedBytes(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := geo.FromBytes("shipped", data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		geo.ShippedBytes(b)
	}
}

func TestErrorNamesSource(t *testing.T) {
	_, err := geo.FromBytes("asn.mmdb", []byte("x"))
	if err == nil || !strings.HasPrefix(err.Error(), "geo database asn.mmdb: ") {
		t.Errorf("FromBytes = %v", err)
	}
}

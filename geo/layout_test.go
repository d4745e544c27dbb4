package geo_test

import (
	"net/netip"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/geo"
)

func TestLayouts(t *testing.T) {
	u16, u32, u64, i32 := func(n uint16) mmdbtype.Uint16 { return mmdbtype.Uint16(n) },
		func(n uint32) mmdbtype.Uint32 { return mmdbtype.Uint32(n) },
		func(n uint64) mmdbtype.Uint64 { return mmdbtype.Uint64(n) },
		func(n int32) mmdbtype.Int32 { return mmdbtype.Int32(n) }
	for _, c := range []struct {
		name string
		data mmdbtype.DataType
		want filter.Location
	}{
		{"MaxMind country", nested("DE", "NL"), filter.Location{Country: "DE"}},
		{"MaxMind registered country only", nested("", "NL"), filter.Location{Country: "NL"}},
		{"MaxMind country without code", m{"country": m{"names": m{"en": s("Nowhere")}}, "registered_country": m{"iso_code": s("FR")}}, filter.Location{Country: "FR"}},
		{"MaxMind city", m{"city": m{"names": m{"en": s("Bonn")}}, "country": m{"iso_code": s("DE")}, "location": m{"latitude": mmdbtype.Float64(50.7)}, "subdivisions": mmdbtype.Slice{m{"iso_code": s("NW")}}}, filter.Location{Country: "DE"}},
		{"MaxMind enterprise", m{"country": m{"iso_code": s("SE")}, "traits": m{"autonomous_system_number": u32(64500), "isp": s("x")}}, filter.Location{Country: "SE", ASN: 64500}},
		{"MaxMind ASN", m{"autonomous_system_number": u32(64500), "autonomous_system_organization": s("Example")}, filter.Location{ASN: 64500}},
		{"DB-IP ASN", m{"autonomous_system_number": u16(64500)}, filter.Location{ASN: 64500}},
		{"ip-location-db country", m{"country_code": s("NO")}, filter.Location{Country: "NO"}},
		{"ip-location-db both", m{"country_code": s("NO"), "autonomous_system_number": u64(4200000000)}, filter.Location{Country: "NO", ASN: 4200000000}},
		{"IPinfo lite", m{"country": s("Norway"), "country_code": s("NO"), "asn": s("AS64500"), "as_name": s("Example"), "continent": s("Europe")}, filter.Location{Country: "NO", ASN: 64500}},
		{"IPinfo flat country", m{"country": s("NO"), "asn": s("AS64500")}, filter.Location{Country: "NO", ASN: 64500}},
		{"ASN as number", m{"asn": u32(64500)}, filter.Location{ASN: 64500}},
		{"ASN as signed number", m{"asn": i32(64500)}, filter.Location{ASN: 64500}},
		{"ASN as bare text", m{"as_number": s("64500")}, filter.Location{ASN: 64500}},
		{"ASN in lower case", m{"as_number": s("as64500")}, filter.Location{ASN: 64500}},
		{"country in lower case", m{"country_code": s("no")}, filter.Location{Country: "NO"}},

		// What follows says nothing of the address. The other networks of the
		// database keep it loadable.
		{"negative ASN", m{"asn": i32(-1)}, filter.Location{}},
		{"ASN of more than 32 bits", m{"asn": u64(1 << 32)}, filter.Location{}},
		{"ASN text without number", m{"asn": s("AS")}, filter.Location{}},
		{"ASN text with sign", m{"asn": s("AS-1")}, filter.Location{}},
		{"ASN as map", m{"asn": m{"asn": s("AS1")}}, filter.Location{}},
		{"country by name", m{"country": s("Norway")}, filter.Location{}},
		{"country of three letters", m{"country_code": s("NOR")}, filter.Location{}},
		{"unassigned country", m{"country_code": s("ZZ")}, filter.Location{}},
		{"reserved country", m{"country": m{"iso_code": s("EU")}}, filter.Location{}},
		{"country code as number", m{"country": m{"iso_code": u16(49)}}, filter.Location{}},
		{"country code in bytes that are no letters", m{"country_code": s("\x0e\x0f")}, filter.Location{}},
		{"country as list", m{"country": mmdbtype.Slice{s("NO")}}, filter.Location{}},
		{"record that is a string", s("NO"), filter.Location{}},
		{"empty record", m{}, filter.Location{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, err := geo.FromBytes("test.mmdb", build(t, mmdbwriter.Options{},
				network{"192.0.2.0/24", c.data},
				network{"203.0.113.0/24", m{"country_code": s("JP"), "asn": u32(1)}},
			))
			if err != nil {
				t.Fatal(err)
			}
			if got := db.Locate(netip.MustParseAddr("192.0.2.77")); got != c.want {
				t.Errorf("Locate = %+v, want %+v", got, c.want)
			}
			if got, want := db.Locate(netip.MustParseAddr("203.0.113.1")), (filter.Location{Country: "JP", ASN: 1}); got != want {
				t.Errorf("neighbour: Locate = %+v, want %+v", got, want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	db, err := geo.FromBytes("small.mmdb", smallDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ addr, country string }{
		{"192.0.2.0", "DE"},
		{"192.0.2.255", "DE"},
		{"192.0.1.255", ""},
		{"192.0.3.0", ""},
		{"198.51.100.127", "FR"},
		{"198.51.100.128", ""},
		{"203.0.113.7", "US"},
		{"203.0.113.6", ""},
		{"203.0.113.8", ""},
		{"0.0.0.0", ""},
		{"255.255.255.255", ""},
		{"::ffff:192.0.2.1", "DE"},  // v4-in-v6
		{"2002:c000:0201::1", "DE"}, // 6to4 of 192.0.2.1
		{"2001:0:c000:201::", "DE"}, // Teredo server 192.0.2.1
		{"::192.0.2.1", ""},         // IPv4-compatible, deprecated: nobody's
		{"2001:db8::", "JP"},
		{"2001:db8::1%eth0", "JP"},
		{"2001:db8:0:ffff:ffff:ffff:ffff:ffff", "JP"},
		{"2001:db8:1::", "DE"},
		{"2001:db8:1:ffff:ffff:ffff:ffff:ffff", "DE"},
		{"2001:db8:2::", "JP"},
		{"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", ""},
		{"2001:db9::", ""},
		{"::", ""},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
	} {
		if got := db.Locate(netip.MustParseAddr(c.addr)).Country; got != c.country {
			t.Errorf("Locate(%s) = %q, want %q", c.addr, got, c.country)
		}
	}
	if got := db.Locate(netip.Addr{}); got != (filter.Location{}) {
		t.Errorf("Locate(zero Addr) = %+v, want nothing", got)
	}
	if got := (*geo.Database)(nil).Locate(netip.MustParseAddr("192.0.2.1")); got != (filter.Location{}) {
		t.Errorf("nil Database: Locate = %+v, want nothing", got)
	}
	if got := new(geo.Database).Locate(netip.MustParseAddr("192.0.2.1")); got != (filter.Location{}) {
		t.Errorf("zero Database: Locate = %+v, want nothing", got)
	}
}

func TestMetadata(t *testing.T) {
	data := smallDatabase(t)
	db, err := geo.FromBytes("small.mmdb", data)
	if err != nil {
		t.Fatal(err)
	}
	got := db.Metadata()
	if got.Source != "small.mmdb" || got.Type != "GeoLite2-Country" || got.Built.Unix() != 1_700_000_000 || got.Size != int64(len(data)) {
		t.Errorf("Metadata = %+v", got)
	}
	if !got.HasCountry || got.HasASN || got.Countries != 4 || got.ASNs != 0 || len(got.Digest) != 64 {
		t.Errorf("Metadata = %+v, want 4 countries, no ASN, a digest", got)
	}
}

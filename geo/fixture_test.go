package geo_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// network is a line of a test database.
type network struct {
	prefix string
	data   mmdbtype.DataType
}

// build writes a database. Options left out are mmdbwriter's.
func build(t testing.TB, o mmdbwriter.Options, networks ...network) []byte {
	t.Helper()
	if o.DatabaseType == "" {
		o.DatabaseType = "Test"
	}
	o.BuildEpoch = 1_700_000_000
	o.IncludeReservedNetworks = true
	w, err := mmdbwriter.New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		if err := w.Insert(ipNet(netip.MustParsePrefix(n.prefix)), n.data); err != nil {
			t.Fatalf("%s: %v", n.prefix, err)
		}
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func ipNet(p netip.Prefix) *net.IPNet {
	a := p.Masked().Addr()
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(p.Bits(), a.BitLen())}
}

type (
	m = mmdbtype.Map
	s = mmdbtype.String
)

// nested is a record as MaxMind and DB-IP write it.
func nested(country, registered string) m {
	r := m{"continent": m{"code": s("EU"), "names": m{"en": s("Europe")}}}
	if country != "" {
		r["country"] = m{
			"geoname_id": mmdbtype.Uint32(2921044),
			"iso_code":   s(country),
			"names":      m{"de": s("Deutschland"), "en": s("Germany")},
		}
	}
	if registered != "" {
		r["registered_country"] = m{"is_in_european_union": mmdbtype.Bool(true), "iso_code": s(registered)}
	}
	return r
}

// smallDatabase has both address families, nested and shared records.
func smallDatabase(t testing.TB) []byte {
	return build(t, mmdbwriter.Options{DatabaseType: "GeoLite2-Country"},
		network{"192.0.2.0/24", nested("DE", "NL")},
		network{"198.51.100.0/25", nested("", "FR")},
		network{"203.0.113.7/32", nested("US", "US")},
		network{"2001:db8::/32", nested("JP", "JP")},
		network{"2001:db8:1::/48", nested("DE", "NL")},
	)
}

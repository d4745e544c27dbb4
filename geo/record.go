package geo

import (
	"strconv"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2/mmdbdata"

	"github.com/moatwaf/moat/filter"
)

// record is what is read of one record of a database. The fields of all known
// layouts stand side by side, because their names do not collide:
//
//	layout                        country                          autonomous system
//	MaxMind, DB-IP country, city  country.iso_code,                traits.autonomous_system_number
//	                              registered_country.iso_code
//	MaxMind, DB-IP ASN, ISP                                        autonomous_system_number
//	ip-location-db                country_code                     autonomous_system_number
//	IPinfo                        country_code, country            asn ("AS64500"), as_number
//
// A field of another kind than expected counts as absent.
type record struct {
	Country           countryField `maxminddb:"country"`
	RegisteredCountry countryField `maxminddb:"registered_country"`
	CountryCode       countryField `maxminddb:"country_code"`
	Traits            traits       `maxminddb:"traits"`
	ASNumber          asnField     `maxminddb:"autonomous_system_number"`
	ASN               asnField     `maxminddb:"asn"`
	ASNumberShort     asnField     `maxminddb:"as_number"`
}

// location returns what the record says. The country is where the address is
// used; the country in which its network is registered stands in for it.
func (r *record) location() filter.Location {
	var loc filter.Location
	for _, c := range [...]countryField{r.CountryCode, r.Country, r.RegisteredCountry} {
		if c != "" {
			loc.Country = string(c)
			break
		}
	}
	for _, n := range [...]asnField{r.ASNumber, r.ASN, r.ASNumberShort, r.Traits.asn} {
		if n != 0 {
			loc.ASN = uint32(n)
			break
		}
	}
	return loc
}

// maxFields bounds the entries of a nested map that are looked at. GeoIP2
// Enterprise has 20 traits, and a country has names in 8 languages.
const maxFields = 256

// countryField is a country: a code, or a map with the code in iso_code. It is
// empty where neither is there or the code is not valid: IPinfo writes the
// country's name into country and the code into country_code.
type countryField string

// UnmarshalMaxMindDBCursor implements mmdbdata.CursorUnmarshaler.
func (f *countryField) UnmarshalMaxMindDBCursor(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	kind, err := c.Kind()
	if err != nil {
		return mmdbdata.Cursor{}, err
	}
	switch kind {
	case mmdbdata.KindString:
		code, next, err := c.ReadString()
		if err == nil {
			*f = countryField(normalCountry(code))
		}
		return next, err
	case mmdbdata.KindMap:
		return eachField(c, func(key string, value mmdbdata.Cursor) (mmdbdata.Cursor, error) {
			if key != "iso_code" {
				return value.Skip()
			}
			if kind, err := value.Kind(); err != nil || kind != mmdbdata.KindString {
				return skip(value, err)
			}
			return f.UnmarshalMaxMindDBCursor(value)
		})
	}
	return c.Skip()
}

// asnField is the number of an autonomous system: an integer, or text with or
// without "AS" in front. It is 0 where there is none, or none of 32 bits.
type asnField uint32

// UnmarshalMaxMindDBCursor implements mmdbdata.CursorUnmarshaler.
func (f *asnField) UnmarshalMaxMindDBCursor(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	kind, err := c.Kind()
	if err != nil {
		return mmdbdata.Cursor{}, err
	}
	switch kind {
	case mmdbdata.KindString:
		text, next, err := c.ReadString()
		if err == nil {
			*f = asnField(parseASN(text))
		}
		return next, err
	case mmdbdata.KindUint16, mmdbdata.KindUint32, mmdbdata.KindUint64, mmdbdata.KindInt32:
		n, _, next, err := c.ReadInteger()
		*f = 0
		if err == nil && n <= 1<<32-1 { // a negative number is a huge one here
			*f = asnField(n)
		}
		return next, err
	}
	return c.Skip()
}

// traits is the map of that name in GeoIP2 Enterprise and DB-IP.
type traits struct{ asn asnField }

// UnmarshalMaxMindDBCursor implements mmdbdata.CursorUnmarshaler.
func (t *traits) UnmarshalMaxMindDBCursor(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	if kind, err := c.Kind(); err != nil || kind != mmdbdata.KindMap {
		return skip(c, err)
	}
	return eachField(c, func(key string, value mmdbdata.Cursor) (mmdbdata.Cursor, error) {
		if key != "autonomous_system_number" {
			return value.Skip()
		}
		return t.asn.UnmarshalMaxMindDBCursor(value)
	})
}

// eachField calls f for the entries of the map at c. f returns the successor of
// the value that it was given.
func eachField(c mmdbdata.Cursor, f func(key string, value mmdbdata.Cursor) (mmdbdata.Cursor, error)) (mmdbdata.Cursor, error) {
	m, err := c.Map()
	if err != nil {
		return mmdbdata.Cursor{}, err
	}
	if m.Size() > maxFields {
		return mmdbdata.Cursor{}, mmdbdata.NewInvalidDatabaseError("map of %d entries in a record, more than %d", m.Size(), maxFields)
	}
	var next mmdbdata.Cursor
	for {
		key, value, ok := m.Next(next)
		if !ok {
			return m.End()
		}
		if next, err = f(string(key), value); err != nil {
			return mmdbdata.Cursor{}, err
		}
	}
}

func skip(c mmdbdata.Cursor, err error) (mmdbdata.Cursor, error) {
	if err != nil {
		return mmdbdata.Cursor{}, err
	}
	return c.Skip()
}

// parseASN returns the number in "AS64500", "as64500" or "64500", else 0.
func parseASN(text string) uint32 {
	if len(text) > 2 && strings.EqualFold(text[:2], "AS") {
		text = text[2:]
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

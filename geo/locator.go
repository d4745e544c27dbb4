package geo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"

	"github.com/moatwaf/moat/filter"
)

// Locator is the databases of one policy: one for countries and one for
// autonomous systems, which may be the same. It is immutable; a reload makes a
// new one. The zero Locator, like a nil one, knows no address.
//
// All methods are safe for concurrent use.
type Locator struct {
	country, asn *Database
	digest       string
}

var _ filter.Locator = (*Locator)(nil)

// NewLocator returns the Locator that takes countries from country and
// autonomous systems from asn. If asn is nil, country answers for both. If
// country is nil, no country is known. The error, an *Error, is of a database
// that lacks what it is for.
func NewLocator(country, asn *Database) (*Locator, error) {
	if country == nil && asn == nil {
		return nil, errors.New("geo: no database")
	}
	if country != nil && !country.meta.HasCountry {
		return nil, &Error{country.meta.Source, errors.New("has no countries")}
	}
	if asn != nil && !asn.meta.HasASN {
		return nil, &Error{asn.meta.Source, errors.New("has no autonomous system numbers")}
	}
	sum := sha256.Sum256([]byte(country.Metadata().Digest + "\n" + asn.Metadata().Digest))
	return &Locator{country: country, asn: asn, digest: hex.EncodeToString(sum[:])}, nil
}

// Country returns the database that countries come from; nil if there is none.
func (l *Locator) Country() *Database { return l.country }

// ASN returns the database that was given for autonomous systems; nil if there
// is none.
func (l *Locator) ASN() *Database { return l.asn }

// Digest returns a hash of the content of the databases. Locators of equal
// digest answer alike.
func (l *Locator) Digest() string { return l.digest }

// Locate returns country and network of addr; see Database.Locate. It does not
// allocate.
func (l *Locator) Locate(addr netip.Addr) filter.Location {
	if l == nil {
		return filter.Location{}
	}
	loc := l.country.Locate(addr)
	if l.asn != nil {
		loc.ASN = l.asn.Locate(addr).ASN
	}
	return loc
}

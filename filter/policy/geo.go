package policy

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/geo"
	"github.com/moatwaf/moat/rules"
)

// geo opens the databases that the policy names, or the one that ships.
func (l *loader) geo() filter.Locator {
	g := l.policy.Geo
	var country, asn *geo.Database
	if g.Country.Set() {
		country = l.database(g.Country)
	} else {
		shipped, err := geo.Shipped()
		if err != nil {
			l.errs.Add(rules.Position{File: l.options.File}, "geo.country", "", "%s", err)
			return nil
		}
		country = shipped
	}
	if g.ASN.Set() {
		asn = l.database(g.ASN)
		if asn == nil {
			return nil
		}
	}
	if country == nil {
		return nil
	}
	locator, err := geo.NewLocator(country, asn)
	if err != nil {
		at := g.Country
		if asn != nil && !asn.Metadata().HasASN {
			at = g.ASN
		}
		l.add(at.Pos, at.Path, err)
		return nil
	}
	l.knowsASN = country.Metadata().HasASN || asn != nil
	l.summary.Countries = country.Metadata().Countries
	return locator
}

// database opens a file, or returns the open database of the same content.
func (l *loader) database(at rules.Located[string]) *geo.Database {
	data, ok := l.file(at)
	if !ok {
		return nil
	}
	sum := sha256.Sum256(data)
	if db := l.state.database(hex.EncodeToString(sum[:])); db != nil {
		l.databases = append(l.databases, db)
		return db
	}
	db, err := geo.FromBytes(at.Value, data)
	if err != nil {
		l.errs = append(l.errs, at.Errorf("the running database stays; is the download complete?", "%s", err))
		return nil
	}
	l.databases = append(l.databases, db)
	return db
}

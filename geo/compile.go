package geo

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/moatwaf/moat/filter"
)

// compiler turns a search tree into ranges.
type compiler struct {
	reader *maxminddb.Reader
	db     *Database

	records map[uint64]uint32          // offset of a record -> place
	places  map[filter.Location]uint32 // location -> place
	next4   uint64                     // first address that no network covered yet
	next6   v6Addr
	full6   bool // the networks have reached the last IPv6 address
}

// place 0 is the unknown one.
const unknown = 0

// compile fills db from data, which reader reads. It visits every network once.
func compile(db *Database, data []byte, reader *maxminddb.Reader) error {
	t, err := newTree(data, &reader.Metadata)
	if err != nil {
		return err
	}
	c := &compiler{
		reader:  reader,
		db:      db,
		records: make(map[uint64]uint32),
		places:  map[filter.Location]uint32{{}: unknown},
	}
	db.places = []filter.Location{{}}
	if err := t.walk(c.add); err != nil {
		return err
	}
	c.finish()
	db.sixToFour = t.aliased(sixToFour)
	db.teredo = t.aliased(teredo)

	for _, p := range db.places {
		db.meta.HasCountry = db.meta.HasCountry || p.Country != ""
		db.meta.HasASN = db.meta.HasASN || p.ASN != 0
	}
	if !db.meta.HasCountry && !db.meta.HasASN {
		return c.noData()
	}
	return nil
}

// add appends one network to the ranges.
func (c *compiler) add(addr v6Addr, depth int, offset uint64, found bool) error {
	place := uint32(unknown)
	if found {
		var err error
		if place, err = c.place(offset); err != nil {
			return err
		}
	}
	if addr.hi == 0 && addr.lo < 1<<32 {
		if depth >= v4Depth {
			c.add4(uint32(addr.lo), depth-v4Depth, place)
			return nil
		}
		c.add4(0, 0, place) // a network that holds all of IPv4
	}
	c.add6(addr, depth, place)
	return nil
}

func (c *compiler) add4(start uint32, bits int, place uint32) {
	if c.next4 < uint64(start) {
		c.db.v4.add(uint32(c.next4), unknown)
	}
	c.db.v4.add(start, place)
	c.next4 = uint64(start) + 1<<(32-bits)
}

func (c *compiler) add6(start v6Addr, bits int, place uint32) {
	if c.next6.less(start) {
		c.db.v6.add(c.next6, unknown)
	}
	c.db.v6.add(start, place)
	end := start // of the network, and with it the start of what follows
	if bits <= 64 {
		end.hi += 1 << (64 - bits) // overflows to 0 where bits is 0
		c.full6 = end.hi <= start.hi
	} else {
		end.lo += 1 << (128 - bits)
		if end.lo == 0 {
			end.hi++
			c.full6 = end.hi == 0
		}
	}
	c.next6 = end
}

// finish covers what lies behind the last network.
func (c *compiler) finish() {
	v4, v6 := &c.db.v4, &c.db.v6
	if c.next4 < 1<<32 {
		v4.add(uint32(c.next4), unknown)
	}
	if !c.full6 {
		v6.add(c.next6, unknown)
	}
	v4.index()
	v6.index()
	v4.starts, v4.values = slices.Clone(v4.starts), slices.Clone(v4.values)
	v6.starts, v6.values = slices.Clone(v6.starts), slices.Clone(v6.values)
}

// place returns the place of the record at offset.
func (c *compiler) place(offset uint64) (uint32, error) {
	if place, ok := c.records[offset]; ok {
		return place, nil
	}
	var r record
	if err := c.reader.LookupOffset(uintptr(offset)).Decode(&r); err != nil {
		// A record that is no map at all has none of the fields.
		if _, ok := errors.AsType[maxminddb.UnmarshalTypeError](err); !ok {
			return 0, fmt.Errorf("record at offset %d: %w", offset, err)
		}
		r = record{}
	}
	loc := r.location()
	place, ok := c.places[loc]
	if !ok {
		place = uint32(len(c.db.places))
		c.places[loc] = place
		c.db.places = append(c.db.places, loc)
	}
	c.records[offset] = place
	return place, nil
}

// Prefixes that many databases alias to the IPv4 tree, so that an address in
// them has the place of the IPv4 address inside.
var (
	sixToFour = netip.MustParsePrefix("2002::/16") // RFC 3056: address in bits 16 to 47
	teredo    = netip.MustParsePrefix("2001::/32") // RFC 4380: server's address in bits 32 to 63
)

// aliased reports whether prefix leads into the IPv4 tree.
func (t *tree) aliased(prefix netip.Prefix) bool {
	if !t.v6 {
		return false
	}
	v4 := t.at(v6Addr{}, v4Depth)
	return v4 < t.nodes && t.at(v6Of(prefix.Addr()), prefix.Bits()) == v4
}

// noData is the error of a database that knows neither countries nor networks.
// It names the fields of one record, as a hint of what the database is about.
func (c *compiler) noData() error {
	kind := fmt.Sprintf("type %.40q", c.reader.Metadata.DatabaseType)
	if len(c.records) > 0 {
		// The record of the lowest offset is the same one at each load.
		first := slices.Min(slices.Collect(maps.Keys(c.records)))
		var fields map[string]any
		if err := c.reader.LookupOffset(uintptr(first)).Decode(&fields); err == nil && len(fields) > 0 {
			names := slices.Sorted(maps.Keys(fields))
			kind += fmt.Sprintf(", fields %.40q", names[:min(len(names), 8)])
		}
	}
	return fmt.Errorf("no record has a country or an autonomous system number (%s)", kind)
}

package geo

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/moatwaf/moat/filter"
)

// MaxFileSize is the size, in bytes, above which a database file is refused:
// four times the largest city database that MaxMind sells.
const MaxFileSize = 1 << 30

// Error is the failure to load a database. The Database that was loaded before,
// if there is one, is not touched.
type Error struct {
	Source string // file, or name given to FromBytes
	Err    error
}

// Error returns "geo database SOURCE: cause".
func (e *Error) Error() string { return "geo database " + e.Source + ": " + e.Err.Error() }

// Unwrap returns the cause: an fs.PathError, a maxminddb.InvalidDatabaseError.
func (e *Error) Unwrap() error { return e.Err }

// Metadata is what is known of a loaded database.
type Metadata struct {
	Source     string    // file, or name given to FromBytes
	Type       string    // database_type as the file says it, at most 64 bytes
	Built      time.Time // build time as the file says it, in UTC
	Size       int64     // of the file, in bytes
	Digest     string    // SHA-256 of the file's content, in hexadecimal
	HasCountry bool      // at least one network has a country
	HasASN     bool      // at least one network has an autonomous system number
	Countries  int       // number of different countries
	ASNs       int       // number of different autonomous systems
	Ranges     int       // number of address ranges, IPv4 and IPv6, after joining equal neighbours
}

// Database is one loaded database file. It is immutable, holds no file open and
// needs no closing. The zero Database, like a nil one, knows no address.
//
// All methods are safe for concurrent use.
type Database struct {
	meta   Metadata
	places []filter.Location
	v4     v4Ranges
	v6     v6Ranges

	// The database has these prefixes as aliases of its IPv4 tree.
	sixToFour, teredo bool
}

var _ filter.Locator = (*Database)(nil)

// Open loads the database file at path. The file is read whole and closed. Any
// error is an *Error: the file cannot be read, is larger than MaxFileSize, is no
// MaxMind DB or a damaged one, or knows neither countries nor autonomous systems.
func Open(path string) (*Database, error) {
	data, err := read(path)
	if err != nil {
		return nil, &Error{path, err}
	}
	return FromBytes(path, data)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("is a directory")
	}
	if info.Size() > MaxFileSize {
		return nil, tooLarge()
	}
	// The size is a hint: the file may change while it is read.
	var buf bytes.Buffer
	buf.Grow(int(info.Size()) + bytes.MinRead)
	n, err := io.Copy(&buf, io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, err
	}
	if n > MaxFileSize {
		return nil, tooLarge()
	}
	return buf.Bytes(), nil
}

func tooLarge() error { return fmt.Errorf("is larger than %d MiB", MaxFileSize>>20) }

// FromBytes loads the database in data, as Open does. The name stands in errors
// and in Metadata. It keeps no reference to data.
func FromBytes(name string, data []byte) (*Database, error) {
	db, err := load(name, data)
	if err != nil {
		return nil, &Error{name, err}
	}
	return db, nil
}

func load(name string, data []byte) (*Database, error) {
	if err := recognise(data); err != nil {
		return nil, err
	}
	reader, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("is damaged, truncated or no MaxMind DB: %w", err)
	}
	defer reader.Close()
	m := &reader.Metadata
	if m.BinaryFormatMajorVersion != 2 {
		return nil, fmt.Errorf("has format version %d; 2 is supported", m.BinaryFormatMajorVersion)
	}
	if m.IPVersion != 4 && m.IPVersion != 6 {
		return nil, fmt.Errorf("is for IP version %d", m.IPVersion)
	}
	if m.NodeCount == 0 {
		return nil, errors.New("has no networks")
	}

	sum := sha256.Sum256(data)
	db := &Database{meta: Metadata{
		Source: name,
		Type:   m.DatabaseType[:min(len(m.DatabaseType), 64)],
		Built:  time.Unix(int64(min(m.BuildEpoch, 1<<40)), 0).UTC(),
		Size:   int64(len(data)),
		Digest: hex.EncodeToString(sum[:]),
	}}
	if err := compile(db, data, reader); err != nil {
		if invalid, ok := errors.AsType[maxminddb.InvalidDatabaseError](err); ok {
			return nil, fmt.Errorf("is damaged: %w", invalid)
		}
		return nil, err
	}
	db.count()
	return db, nil
}

// recognise refuses files that are not of the format, with the reason by which
// operators know what to do.
func recognise(data []byte) error {
	switch {
	case len(data) == 0:
		return errors.New("is empty")
	case len(data) > MaxFileSize:
		return tooLarge()
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		return errors.New("is compressed with gzip; unpack it first")
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return errors.New("is a zip archive; unpack it first")
	case bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return errors.New("is compressed with zstd; unpack it first")
	}
	return nil
}

// count fills the numbers of the metadata.
func (d *Database) count() {
	countries := make(map[string]bool)
	systems := make(map[uint32]bool)
	for _, p := range d.places {
		countries[p.Country] = true
		systems[p.ASN] = true
	}
	delete(countries, "")
	delete(systems, 0)
	d.meta.Countries, d.meta.ASNs = len(countries), len(systems)
	d.meta.Ranges = len(d.v4.starts) + len(d.v6.starts)
}

// Metadata returns what is known of the database.
func (d *Database) Metadata() Metadata {
	if d == nil {
		return Metadata{}
	}
	return d.meta
}

// Locate returns country and network of addr, empty where the database does not
// know them. A v4-in-v6 address is the IPv4 address inside; a zone is ignored;
// the zero Addr is unknown, and so are IPv4-compatible addresses (::/96,
// deprecated by RFC 4291 section 2.5.5.1). It does not allocate.
func (d *Database) Locate(addr netip.Addr) filter.Location {
	if d == nil || len(d.places) == 0 {
		return filter.Location{}
	}
	switch {
	case addr.Is4():
		b := addr.As4()
		return d.places[d.v4.find(binary.BigEndian.Uint32(b[:]))]
	case addr.Is4In6():
		b := addr.As16()
		return d.places[d.v4.find(binary.BigEndian.Uint32(b[12:]))]
	case !addr.IsValid():
		return filter.Location{}
	}
	a := v6Of(addr)
	switch {
	case d.sixToFour && a.hi>>48 == 0x2002:
		return d.places[d.v4.find(uint32(a.hi>>16))]
	case d.teredo && a.hi>>32 == 0x20010000:
		return d.places[d.v4.find(uint32(a.hi))]
	}
	return d.places[d.v6.find(a)]
}

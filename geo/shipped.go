package geo

import (
	_ "embed" // for the database
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

//go:generate go run ./shipped/renew

// shippedFile is described in shipped/README.md.
//
//go:embed shipped/country.mmdb.zst
var shippedFile []byte

// shippedName stands in errors and metadata of the shipped database.
const shippedName = "shipped country database"

// maxShippedSize bounds the shipped database when it is unpacked, in bytes. The
// generator refuses a larger one.
const maxShippedSize = 64 << 20

// Shipped returns the country database that is a part of the program. The first
// call unpacks and loads it; every call returns the same Database. See
// shipped/README.md for origin and licence.
func Shipped() (*Database, error) { return shipped() }

var shipped = sync.OnceValues(func() (*Database, error) {
	data, err := unpack(shippedFile)
	if err != nil {
		return nil, &Error{shippedName, err}
	}
	return FromBytes(shippedName, data)
})

func unpack(packed []byte) ([]byte, error) {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxShippedSize))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := r.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	return data, nil
}

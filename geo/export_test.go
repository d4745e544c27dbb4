package geo

import "testing"

// ShippedBytes returns the unpacked database that Shipped loads.
func ShippedBytes(t testing.TB) []byte {
	t.Helper()
	data, err := unpack(shippedFile)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

package ratelimit

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moatwaf/moat/filter"
)

// Kind is what requests are counted by.
type Kind uint8

const (
	_ Kind = iota // a forgotten kind is not valid
	// KeyIP counts by the prefix of the client's address.
	KeyIP
	// KeyHost counts by the host that the request is for.
	KeyHost
	// KeyPath counts by the path as rules match it.
	KeyPath
	// KeyCountry counts by the country of the client's address; unknown is one more country.
	KeyCountry
	// KeyASN counts by the autonomous system of the client's address; unknown is one more system.
	KeyASN
	// KeyHeader counts by the values of a header field. A request without the
	// field counts by address.
	KeyHeader
	// KeyIdentity counts by the verified caller. A request without one counts by address.
	KeyIdentity
	// KeyClaim counts by a claim of the verified caller: a string, number or
	// truth value. A caller without the claim counts by identity.
	KeyClaim
	// KeyGlobal counts all requests together.
	KeyGlobal
)

// Default lengths of the prefixes by which addresses are counted: an IPv6 client
// commonly has a /64 to itself.
const (
	DefaultIPv4Bits = 32
	DefaultIPv6Bits = 64
)

// Key is what the requests of a tier are counted by. It is made by ParseKey; the
// zero Key is not valid.
type Key struct {
	kind   Kind
	v4, v6 uint8  // prefix lengths, of KeyIP and where a kind falls back on the address
	name   string // canonical name of the header field, or name of the claim
	text   string // normal form
}

var kinds = map[string]Kind{
	"host": KeyHost, "path": KeyPath, "country": KeyCountry, "asn": KeyASN, "identity": KeyIdentity, "global": KeyGlobal,
}

// ParseKey reads a key:
//
//	ip            address: /32 of IPv4, /64 of IPv6
//	ip/48         IPv6 by /48 (a length over 32), or IPv4 by /24 (a length up to 32)
//	ip/24/48      IPv4 by /24, IPv6 by /48
//	header:NAME   values of a header field
//	claim:NAME    claim of the verified caller
//	host, path, country, asn, identity, global
func ParseKey(text string) (Key, error) {
	what, rest, _ := strings.Cut(text, ":")
	k := Key{v4: DefaultIPv4Bits, v6: DefaultIPv6Bits}
	switch what {
	case "header":
		if !isToken(rest) {
			return Key{}, fmt.Errorf("key %.60q: %.40q is no name of a header field", text, rest)
		}
		k.kind, k.name = KeyHeader, http.CanonicalHeaderKey(rest)
		if k.name == "Host" {
			return Key{}, errors.New("key header:Host: write host")
		}
		k.text = "header:" + k.name
		return k, nil
	case "claim":
		if rest == "" || len(rest) > 256 {
			return Key{}, fmt.Errorf("key %.60q: name of the claim is missing or too long", text)
		}
		k.kind, k.name, k.text = KeyClaim, rest, text
		return k, nil
	}
	if kind, ok := kinds[text]; ok {
		k.kind, k.text = kind, text
		return k, nil
	}
	if text == "ip" || strings.HasPrefix(text, "ip/") {
		return parseAddressKey(k, text)
	}
	return Key{}, fmt.Errorf("key %.60q is none of ip, ip/48, host, path, country, asn, header:NAME, identity, claim:NAME, global", text)
}

func parseAddressKey(k Key, text string) (Key, error) {
	lengths := strings.Split(text, "/")[1:]
	n := make([]int, len(lengths))
	for i, l := range lengths {
		var err error
		if n[i], err = strconv.Atoi(l); err != nil || n[i] < 1 || n[i] > 128 || l[0] < '1' || l[0] > '9' {
			return Key{}, fmt.Errorf("key %.60q: %.20q is no prefix length from 1 to 128", text, l)
		}
	}
	switch {
	case len(n) > 2:
		return Key{}, fmt.Errorf("key %.60q has more than two prefix lengths", text)
	case len(n) == 2 && n[0] > 32:
		return Key{}, fmt.Errorf("key %.60q: IPv4 comes first and has at most 32 bits", text)
	case len(n) == 2:
		k.v4, k.v6 = uint8(n[0]), uint8(n[1])
	case len(n) == 1 && n[0] > 32:
		k.v6 = uint8(n[0])
	case len(n) == 1:
		k.v4 = uint8(n[0])
	}
	k.kind = KeyIP
	k.text = fmt.Sprintf("ip/%d/%d", k.v4, k.v6)
	return k, nil
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return true
}

// Kind returns what the key counts by.
func (k Key) Kind() Kind { return k.kind }

// NeedsIdentity reports whether the key is known only after the auth stage.
func (k Key) NeedsIdentity() bool { return k.kind == KeyIdentity || k.kind == KeyClaim }

// String returns the key in its normal form, which ParseKey reads.
func (k Key) String() string { return k.text }

// slot is a key's value in one request: the prefix of an address as it is, else
// a keyed hash of 128 bits.
//
// Two hashes of 64 bits with seeds of their own, unknown to clients and new in
// every process, are no cryptographic hash. They need not be: a client that could
// find a collision, which the seeds prevent, would share the bucket of another
// key of its own choice, and no hash reveals anything. That prefixes and hashes
// are in one table where a key falls back on the address does no harm either: a
// hash that is the prefix of somebody's address is as improbable as a collision.
type slot struct{ hi, lo uint64 }

// seeds of this process.
var seedHi, seedLo, seedIndex = maphash.MakeSeed(), maphash.MakeSeed(), maphash.MakeSeed()

func hashed(text string) slot {
	return slot{maphash.String(seedHi, text), maphash.String(seedLo, text)}
}

func number(n uint64) slot {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	return slot{maphash.Bytes(seedHi, b[:]), maphash.Bytes(seedLo, b[:])}
}

// and returns the slot of a pair.
func (s slot) and(t slot) slot {
	return slot{bits.RotateLeft64(s.hi, 17)*0x9e3779b97f4a7c15 + t.hi, bits.RotateLeft64(s.lo, 31)*0xd1342543de82ef95 + t.lo}
}

// index returns the hash by which a table finds the slot.
func (s slot) index() uint64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], s.hi)
	binary.LittleEndian.PutUint64(b[8:], s.lo)
	return maphash.Bytes(seedIndex, b[:])
}

// of returns the key's value in r. It does not allocate.
func (k *Key) of(r *filter.Request) slot {
	switch k.kind {
	case KeyHost:
		return hashed(r.Host)
	case KeyPath:
		return hashed(r.Path)
	case KeyCountry:
		return hashed(r.Location().Country)
	case KeyASN:
		return number(uint64(r.Location().ASN))
	case KeyHeader:
		values := r.HTTP.Header[k.name]
		if len(values) == 0 {
			break
		}
		s := hashed(values[0])
		for _, v := range values[1:] {
			s = s.and(hashed(v))
		}
		return s
	case KeyIdentity:
		if r.Identity != nil {
			return identity(r.Identity)
		}
	case KeyClaim:
		if r.Identity != nil {
			if s, ok := claim(r.Identity.Claims[k.name]); ok {
				return s
			}
			return identity(r.Identity)
		}
	case KeyGlobal:
		return slot{}
	}
	return k.address(r.Client)
}

// identity returns the slot of a verified caller. One name that two methods have
// verified is two callers.
func identity(id *filter.Identity) slot { return hashed(id.Method).and(hashed(id.Subject)) }

// claim returns the slot of a claim's value, if the value is of a kind to count by.
func claim(value any) (slot, bool) {
	switch v := value.(type) {
	case string:
		return hashed(v), true
	case json.Number:
		return hashed(string(v)), true
	case float64:
		return number(math.Float64bits(v)), true
	case int:
		return number(math.Float64bits(float64(v))), true
	case int64:
		return number(math.Float64bits(float64(v))), true
	case bool:
		if v {
			return hashed("true"), true
		}
		return hashed("false"), true
	}
	return slot{}, false
}

// address returns the slot of the prefix of an address. Addresses that are none
// (a Unix socket's) share a slot.
func (k *Key) address(a netip.Addr) slot {
	if !a.IsValid() {
		return hashed("no address")
	}
	if a.Is4() || a.Is4In6() {
		b := a.As4()
		n := uint64(binary.BigEndian.Uint32(b[:]))
		return slot{0, 0xffff<<32 | n&(math.MaxUint32<<(32-k.v4))}
	}
	b := a.As16()
	s := slot{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
	if k.v6 <= 64 {
		return slot{s.hi & (math.MaxUint64 << (64 - k.v6)), 0}
	}
	return slot{s.hi, s.lo & (math.MaxUint64 << (128 - k.v6))}
}

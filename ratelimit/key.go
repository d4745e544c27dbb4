package ratelimit

import (
	"crypto/sha256"
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
	// KeyCookie counts by the value of a cookie, of several of the name all of
	// them. A request without it counts by address.
	KeyCookie
	// KeyExpr counts by the value of an expression.
	KeyExpr
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
	name   string // canonical name of the header field, or name of the claim or cookie
	text   string // normal form
	value  Valuer // of KeyExpr
	shared bool   // slots are the same in every process
}

// Valuer is an expression that requests are counted by. It is immutable and safe
// for concurrent use.
type Valuer interface {
	// Value returns what the expression is on r. The error must hold nothing
	// of the request.
	Value(r *filter.Request) (string, error)
}

// ExprKey returns the key that counts by the value of an expression. The text
// tells expressions apart over reloads.
func ExprKey(text string, v Valuer) Key {
	return Key{kind: KeyExpr, v4: DefaultIPv4Bits, v6: DefaultIPv6Bits, text: "expr:" + text, value: v}
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
//	cookie:NAME   value of a cookie
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
	case "cookie":
		if !isToken(rest) {
			return Key{}, fmt.Errorf("key %.60q: %.40q is no name of a cookie", text, rest)
		}
		k.kind, k.name, k.text = KeyCookie, rest, text
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
	return Key{}, fmt.Errorf("key %.60q is none of ip, ip/48, host, path, country, asn, header:NAME, cookie:NAME, identity, claim:NAME, global", text)
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

// AddressBits returns the lengths of the prefixes by which addresses are counted.
func (k Key) AddressBits() (v4, v6 int) { return int(k.v4), int(k.v6) }

// NeedsIdentity reports whether the key is known only after the auth stage.
func (k Key) NeedsIdentity() bool { return k.kind == KeyIdentity || k.kind == KeyClaim }

// Chosen reports whether clients choose the key of a request freely, so that a
// client that takes a new one each time meets no limit.
func (k Key) Chosen() bool {
	switch k.kind {
	case KeyHeader, KeyCookie, KeyPath, KeyHost, KeyExpr:
		return true
	}
	return false
}

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
var seedHi, seedLo = maphash.MakeSeed(), maphash.MakeSeed()

// seedIndex keys the places of slots in tables: numbers that clients do not know,
// the factors odd.
var seedIndex = func() (n [4]uint64) {
	for i := range n {
		n[i] = maphash.Bytes(maphash.MakeSeed(), nil) | uint64(i&1)
	}
	return n
}()

// hashed returns the slot of a text. For a tier whose state is shared by several
// processes it is cryptographic: nothing else keeps clients from finding keys that
// collide.
func (k *Key) hashed(text string) slot {
	if k.shared {
		sum := sha256.Sum256([]byte(text))
		return slot{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
	}
	return slot{maphash.String(seedHi, text), maphash.String(seedLo, text)}
}

func (k *Key) number(n uint64) slot {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	if k.shared {
		sum := sha256.Sum256(b[:])
		return slot{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
	}
	return slot{maphash.Bytes(seedHi, b[:]), maphash.Bytes(seedLo, b[:])}
}

// pair returns the slot of a pair.
func (k *Key) pair(s, t slot) slot {
	if k.shared {
		var b [32]byte
		for i, n := range [...]uint64{s.hi, s.lo, t.hi, t.lo} {
			binary.LittleEndian.PutUint64(b[8*i:], n)
		}
		sum := sha256.Sum256(b[:])
		return slot{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
	}
	return slot{bits.RotateLeft64(s.hi, 17)*0x9e3779b97f4a7c15 + t.hi, bits.RotateLeft64(s.lo, 31)*0xd1342543de82ef95 + t.lo}
}

// index returns the hash by which a table finds the slot: a folded multiplication
// for each half, as in wyhash, with secret operands. Clients choose the half of an
// IPv6 address that they own and see nothing of the hash.
func (s slot) index() uint64 {
	hi, lo := bits.Mul64(s.hi^seedIndex[0], seedIndex[1])
	hi, lo = bits.Mul64(s.lo^seedIndex[2]^hi^lo, seedIndex[3])
	return hi ^ lo
}

// of returns the key's value in r. It does not allocate, but for expressions. The
// error is that of an expression.
func (k *Key) of(r *filter.Request) (slot, error) {
	switch k.kind {
	case KeyHost:
		return k.hashed(r.Host), nil
	case KeyPath:
		return k.hashed(r.Path), nil
	case KeyCountry:
		return k.hashed(r.Location().Country), nil
	case KeyASN:
		return k.number(uint64(r.Location().ASN)), nil
	case KeyHeader:
		values := r.HTTP.Header[k.name]
		if len(values) == 0 {
			break
		}
		s := k.hashed(values[0])
		for _, v := range values[1:] {
			s = k.pair(s, k.hashed(v))
		}
		return s, nil
	case KeyCookie:
		if s, ok := k.cookies(r.HTTP.Header["Cookie"]); ok {
			return s, nil
		}
	case KeyIdentity:
		// Callers without a name would be one.
		if r.Identity != nil && r.Identity.Subject != "" {
			return k.identity(r.Identity), nil
		}
	case KeyClaim:
		if r.Identity != nil {
			if s, ok := k.claim(r.Identity.Claims[k.name]); ok {
				return s, nil
			}
			if r.Identity.Subject != "" {
				return k.identity(r.Identity), nil
			}
		}
	case KeyGlobal:
		return slot{}, nil
	case KeyExpr:
		text, err := k.value.Value(r)
		if err != nil {
			return slot{}, err
		}
		return k.hashed(text), nil
	}
	return k.address(r.Client), nil
}

// cookies returns the slot of all values of the key's cookie (RFC 6265 section
// 4.2.1), if there is one.
func (k *Key) cookies(lines []string) (s slot, ok bool) {
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(pair, "=")
			if strings.Trim(name, " \t") != k.name {
				continue
			}
			v := k.hashed(strings.Trim(value, " \t"))
			if ok {
				v = k.pair(s, v)
			}
			s, ok = v, true
		}
	}
	return s, ok
}

// identity returns the slot of a verified caller. One name that two methods have
// verified is two callers.
func (k *Key) identity(id *filter.Identity) slot {
	return k.pair(k.hashed(id.Method), k.hashed(id.Subject))
}

// claim returns the slot of a claim's value, if the value is of a kind to count by.
func (k *Key) claim(value any) (slot, bool) {
	switch v := value.(type) {
	case string:
		return k.hashed(v), true
	case json.Number:
		return k.hashed(string(v)), true
	case float64:
		return k.number(math.Float64bits(v)), true
	case int:
		return k.number(math.Float64bits(float64(v))), true
	case int64:
		return k.number(math.Float64bits(float64(v))), true
	case bool:
		if v {
			return k.hashed("true"), true
		}
		return k.hashed("false"), true
	}
	return slot{}, false
}

// address returns the slot of the prefix of an address. Addresses that are none
// (a Unix socket's) share a slot.
func (k *Key) address(a netip.Addr) slot {
	if !a.IsValid() {
		return k.hashed("no address")
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

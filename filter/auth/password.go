package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// passwordHash is a stored password. It is immutable.
type passwordHash interface {
	// matches reports whether the password is the stored one, in a time that
	// tells nothing of how much of it is right.
	matches(password []byte) bool
	// cost is about how long a comparison takes, in microseconds.
	cost() int
	// dummy returns a hash that costs as much and that no password matches.
	dummy() passwordHash
}

// Bounds of what one comparison may cost: more, and a login is an attack.
const (
	minCost         = 4 // of bcrypt, as a power of two
	maxCost         = 16
	minRounds       = 1000 // of SHA-crypt
	maxRounds       = 1_000_000
	maxArgon2Memory = 256 << 10 // KiB; as many at once as there are processors
	maxArgon2Time   = 32
	maxArgon2Lanes  = 32
)

// randomBytes returns n random bytes.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}

// bcryptHash is a hash of bcrypt as htpasswd -B writes it.
type bcryptHash []byte

func (h bcryptHash) matches(password []byte) bool {
	return bcrypt.CompareHashAndPassword(h, password) == nil
}

func (h bcryptHash) cost() int {
	cost, _ := bcrypt.Cost(h)
	return 50 << cost
}

func (h bcryptHash) dummy() passwordHash {
	hash := append(make([]byte, 0, bcryptLength), "$2b$"...)
	hash = append(append(hash, h[4:6]...), '$')
	for _, b := range randomBytes(bcryptLength - len(hash)) {
		hash = append(hash, cryptAlphabet[b%64])
	}
	return bcryptHash(hash)
}

// argon2Hash is a hash of Argon2 (RFC 9106) in the string format of its reference
// implementation.
type argon2Hash struct {
	id        bool // Argon2id, else Argon2i
	memory    uint32
	time      uint32
	lanes     uint8
	salt, sum []byte
}

func (h *argon2Hash) matches(password []byte) bool {
	derive := argon2.Key
	if h.id {
		derive = argon2.IDKey
	}
	got := derive(password, h.salt, h.time, h.memory, h.lanes, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(got, h.sum) == 1
}

func (h *argon2Hash) cost() int { return int(h.memory) * int(h.time) }

func (h *argon2Hash) dummy() passwordHash {
	d := *h
	d.salt, d.sum = randomBytes(len(h.salt)), randomBytes(len(h.sum))
	return &d
}

// parseHash reads a stored password. What it takes is known by its beginning.
func parseHash(hash string) (passwordHash, *keyFault) {
	const again = "make it again with htpasswd -B"
	switch {
	case hash == "":
		return nil, &keyFault{"no password hash", again}
	case strings.HasPrefix(hash, "$2x$"):
		return nil, &keyFault{"a bcrypt hash of a version with a known fault", again}
	case strings.HasPrefix(hash, "$2"):
		return parseBcrypt(hash)
	case strings.HasPrefix(hash, "$apr1$"), strings.HasPrefix(hash, "$1$"):
		return parseMD5Crypt(hash)
	case strings.HasPrefix(hash, "$5$"), strings.HasPrefix(hash, "$6$"):
		return parseSHACrypt(hash)
	case strings.HasPrefix(hash, "$argon2"):
		return parseArgon2(hash)
	case strings.HasPrefix(hash, "{SHA}"), strings.HasPrefix(hash, "{SSHA}"):
		return nil, &keyFault{"an SHA-1 hash, which is undone at once", again}
	}
	return nil, &keyFault{"not a password hash", again}
}

// bcryptLength is the length of a bcrypt hash: $2b$, two digits, $, 22 characters
// of salt and 31 of hash.
const bcryptLength = 60

func parseBcrypt(hash string) (passwordHash, *keyFault) {
	damaged := &keyFault{"the bcrypt hash is damaged", "it has 60 characters: $2y$, the cost, and 53 of ./A-Za-z0-9"}
	if len(hash) != bcryptLength || hash[6] != '$' || !isCrypt64(hash[7:]) {
		return nil, damaged
	}
	switch hash[:4] {
	case "$2a$", "$2b$", "$2y$":
	default:
		return nil, damaged
	}
	cost, err := strconv.Atoi(hash[4:6])
	if err != nil {
		return nil, damaged
	}
	if cost < minCost || cost > maxCost {
		return nil, &keyFault{"a bcrypt cost of " + strconv.Itoa(cost), "4 to 16 are taken; 10 to 12 are usual"}
	}
	return bcryptHash(hash), nil
}

func parseArgon2(hash string) (passwordHash, *keyFault) {
	damaged := &keyFault{"the Argon2 hash is damaged", "it looks like $argon2id$v=19$m=65536,t=3,p=4$SALT$HASH"}
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, damaged
	}
	h := &argon2Hash{id: parts[1] == "argon2id"}
	switch parts[1] {
	case "argon2id", "argon2i":
	case "argon2d":
		return nil, &keyFault{"an Argon2d hash, which leaks by its timing", "use Argon2id"}
	default:
		return nil, damaged
	}
	var m, t, p uint32
	// The text must be what these numbers write, and nothing behind them.
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &m, &t, &p); n != 3 || err != nil || parts[3] != fmt.Sprintf("m=%d,t=%d,p=%d", m, t, p) {
		return nil, damaged
	}
	if p < 1 || p > maxArgon2Lanes || m < 8*p || m > maxArgon2Memory || t < 1 || t > maxArgon2Time {
		return nil, &keyFault{"Argon2 parameters " + parts[3], "up to 256 MiB (m=262144), t=32 and p=32 are taken, and m is 8 times p at least"}
	}
	h.memory, h.time, h.lanes = m, t, uint8(p)
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	h.sum, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.sum) < 16 || len(h.sum) > 64 {
		return nil, damaged
	}
	return h, nil
}

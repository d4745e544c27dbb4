package auth

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"hash"
	"strconv"
	"strings"
)

// The password hashes of crypt(3) and of Apache that came before bcrypt, to be
// read from files that are there already. MD5 is kept as htpasswd has written it
// for many years: its 1000 rounds are quick to try, so passwords in it are to be
// made anew.

// cryptAlphabet is the alphabet of crypt(3), in the order of the values.
const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// isCrypt64 reports whether s is made of the alphabet of crypt(3).
func isCrypt64(s string) bool { return strings.Trim(s, cryptAlphabet) == "" }

// md5Crypt is MD5-crypt: $1$ of FreeBSD, or $apr1$ of Apache.
type md5Crypt struct{ magic, salt, sum string }

func parseMD5Crypt(hash string) (passwordHash, *keyFault) {
	magic := hash[:strings.IndexByte(hash[1:], '$')+2]
	salt, sum, ok := strings.Cut(hash[len(magic):], "$")
	if !ok || len(salt) > 8 || len(sum) != 22 || !isCrypt64(sum) || strings.ContainsAny(salt, ":\n") {
		return nil, &keyFault{"the MD5 hash is damaged", "it looks like " + magic + "SALT$ and 22 characters of ./0-9A-Za-z"}
	}
	return &md5Crypt{magic, salt, sum}, nil
}

func (h *md5Crypt) matches(password []byte) bool {
	return subtle.ConstantTimeCompare([]byte(h.derive(password)), []byte(h.sum)) == 1
}

func (*md5Crypt) cost() int { return 300 }

func (h *md5Crypt) dummy() passwordHash {
	// One character more than any hash has.
	return &md5Crypt{h.magic, h.salt, strings.Repeat("*", 23)}
}

func (h *md5Crypt) derive(password []byte) string {
	salt := []byte(h.salt)
	d := md5.New()
	d.Write(password)
	d.Write(salt)
	d.Write(password)
	sum := d.Sum(nil)

	d.Reset()
	d.Write(password)
	d.Write([]byte(h.magic))
	d.Write(salt)
	for n := len(password); n > 0; n -= md5.Size {
		d.Write(sum[:min(n, md5.Size)])
	}
	for n := len(password); n > 0; n >>= 1 {
		if n&1 == 1 {
			d.Write([]byte{0})
		} else {
			d.Write(password[:1])
		}
	}
	sum = d.Sum(sum[:0])
	for i := range 1000 {
		sum = cryptRound(d, i, sum, password, salt, password)
	}
	return crypt64(sum, []int{0, 6, 12, 1, 7, 13, 2, 8, 14, 3, 9, 15, 4, 10, 5, -1, -1, 11})
}

// cryptRound is one round of MD5-crypt and SHA-crypt.
func cryptRound(d hash.Hash, i int, sum, p, s, p2 []byte) []byte {
	d.Reset()
	if i&1 == 1 {
		d.Write(p)
	} else {
		d.Write(sum)
	}
	if i%3 != 0 {
		d.Write(s)
	}
	if i%7 != 0 {
		d.Write(p2)
	}
	if i&1 == 1 {
		d.Write(sum)
	} else {
		d.Write(p)
	}
	return d.Sum(sum[:0])
}

// crypt64 writes the bytes of a hash in the order of the indices, three of them in
// four characters, the lowest bits first. -1 stands for no byte.
func crypt64(sum []byte, order []int) string {
	var b strings.Builder
	for ; len(order) > 0; order = order[3:] {
		v, n := 0, 1
		for _, i := range order[:3] {
			v <<= 8
			if i >= 0 {
				v |= int(sum[i])
				n++
			}
		}
		for range n {
			b.WriteByte(cryptAlphabet[v&63])
			v >>= 6
		}
	}
	return b.String()
}

// shaCrypt is SHA-crypt: $5$ with SHA-256 or $6$ with SHA-512.
type shaCrypt struct {
	long   bool // SHA-512
	rounds int
	salt   string
	sum    string
}

func parseSHACrypt(hash string) (passwordHash, *keyFault) {
	h := &shaCrypt{long: hash[1] == '6', rounds: 5000}
	damaged := &keyFault{"the SHA-crypt hash is damaged", "it looks like $6$SALT$ and 86 characters of ./0-9A-Za-z, 43 behind $5$"}
	rest := hash[3:]
	if after, ok := strings.CutPrefix(rest, "rounds="); ok {
		number, behind, ok := strings.Cut(after, "$")
		rounds, err := strconv.Atoi(number)
		if !ok || err != nil || strconv.Itoa(rounds) != number {
			return nil, damaged
		}
		if rounds < minRounds || rounds > maxRounds {
			return nil, &keyFault{"SHA-crypt with " + number + " rounds", "1000 to 1000000 are taken"}
		}
		h.rounds, rest = rounds, behind
	}
	var ok bool
	h.salt, h.sum, ok = strings.Cut(rest, "$")
	length := 43
	if h.long {
		length = 86
	}
	if !ok || len(h.salt) > 16 || len(h.sum) != length || !isCrypt64(h.sum) || strings.ContainsAny(h.salt, ":\n") {
		return nil, damaged
	}
	return h, nil
}

func (h *shaCrypt) matches(password []byte) bool {
	return subtle.ConstantTimeCompare([]byte(h.derive(password)), []byte(h.sum)) == 1
}

func (h *shaCrypt) cost() int { return h.rounds / 2 }

func (h *shaCrypt) dummy() passwordHash {
	d := *h
	d.sum = strings.Repeat("*", len(h.sum)+1)
	return &d
}

func (h *shaCrypt) derive(password []byte) string {
	salt := []byte(h.salt)
	d := sha256.New()
	if h.long {
		d = sha512.New()
	}
	size := d.Size()
	d.Write(password)
	d.Write(salt)
	d.Write(password)
	sum := d.Sum(nil)

	d.Reset()
	d.Write(password)
	d.Write(salt)
	for n := len(password); n > 0; n -= size {
		d.Write(sum[:min(n, size)])
	}
	for n := len(password); n > 0; n >>= 1 {
		if n&1 == 1 {
			d.Write(sum)
		} else {
			d.Write(password)
		}
	}
	sum = d.Sum(sum[:0])
	p := repeatedHash(d, password, len(password))
	s := repeatedHash(d, salt, 16+int(sum[0]))
	for i := range h.rounds {
		sum = cryptRound(d, i, sum, p, s, p)
	}
	if h.long {
		return crypt64(sum, []int{
			0, 21, 42, 22, 43, 1, 44, 2, 23, 3, 24, 45, 25, 46, 4, 47, 5, 26, 6, 27, 48, 28, 49, 7, 50, 8, 29, 9, 30, 51, 31, 52, 10,
			53, 11, 32, 12, 33, 54, 34, 55, 13, 56, 14, 35, 15, 36, 57, 37, 58, 16, 59, 17, 38, 18, 39, 60, 40, 61, 19, 62, 20, 41, -1, -1, 63,
		})
	}
	return crypt64(sum, []int{
		0, 10, 20, 21, 1, 11, 12, 22, 2, 3, 13, 23, 24, 4, 14, 15, 25, 5, 6, 16, 26, 27, 7, 17, 18, 28, 8, 9, 19, 29, -1, 31, 30,
	})
}

// repeatedHash hashes text a number of times in a row, and stretches the result to
// the length of the text.
func repeatedHash(d hash.Hash, text []byte, times int) []byte {
	d.Reset()
	for range times {
		d.Write(text)
	}
	sum := d.Sum(nil)
	out := make([]byte, len(text))
	for n := 0; n < len(out); n += len(sum) {
		copy(out[n:], sum)
	}
	return out
}

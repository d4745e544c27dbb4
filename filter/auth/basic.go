package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"sync"
	"unicode/utf8"

	"github.com/moatwaf/moat/filter"
)

// BasicConfig is what users and passwords are held against.
type BasicConfig struct {
	// Htpasswd holds the users and the hashes of their passwords: bcrypt,
	// Argon2id and Argon2i, SHA-crypt, and MD5 as Apache and crypt(3) write it.
	Htpasswd File
	// Groups holds the roles of users as Apache's AuthGroupFile does:
	// "role: user user" a line. The zero File gives none.
	Groups File
}

// Bounds of what a client sends.
const (
	maxPassword = 72   // bytes, where a hash is of bcrypt, which looks at no more
	maxBasic    = 1024 // bytes of base64
)

// Basic is the method of RFC 7617. It is safe for concurrent use.
//
// Comparing a password is slow on purpose. No more of it runs at a time than there
// are processors, and who has waited for too many gets an error. An unknown user costs as much as a known one. A pair that was right is
// remembered for a while, as a keyed hash in memory, so that a steady client does
// not pay at every request.
//
// In a file with hashes of bcrypt a password of more than 72 bytes is refused,
// whoever the user is, because bcrypt would compare only the beginning of it.
type Basic struct {
	users  map[string]passwordHash
	roles  map[string][]string
	dummy  passwordHash
	bcrypt bool // a hash is of bcrypt
	right  *memory
	hashes *gate
}

// NewBasic reads the users. The error is rules.Errors.
func NewBasic(c BasicConfig) (*Basic, error) {
	users, dearest, err := readHtpasswd(c.Htpasswd)
	if err != nil {
		return nil, err
	}
	b := &Basic{users: users, dummy: dearest.dummy(), right: newMemory(), hashes: hashing}
	for _, h := range users {
		if _, ok := h.(bcryptHash); ok {
			b.bcrypt = true
			break
		}
	}
	if b.roles, err = readGroups(c.Groups, users); err != nil {
		return nil, err
	}
	return b, nil
}

// Name implements Method.
func (*Basic) Name() string { return "basic" }

// Find implements Method.
func (*Basic) Find(r *filter.Request) (string, Found) { return authorization(r, "Basic") }

// Challenge implements Method (RFC 7617 section 2). It has no parameter for what
// was wrong, and asking for scopes would help nobody.
func (*Basic) Challenge(realm string, p Problem) string {
	if p.Kind == MissingScope {
		return ""
	}
	b := appendParam([]byte("Basic "), "realm", realm)
	return string(appendParam(b, "charset", "UTF-8"))
}

// strictBase64 takes one writing of every pair only.
var strictBase64 = base64.StdEncoding.Strict()

// Why a user is not let in. None of it tells whether there is such a user.
var (
	errBasicTooLong  = &Rejection{Detail: "credentials too long"}
	errBasicSyntax   = &Rejection{Detail: "credentials not readable"}
	errBasicPassword = &Rejection{Detail: "password of more than 72 bytes"}
	errBasicWrong    = &Rejection{Detail: "wrong user or password"}
)

// buffers are room for credentials as they came and as they mean.
type buffers struct{ encoded, decoded [maxBasic]byte }

var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

// Verify implements Method.
func (b *Basic) Verify(r *filter.Request, credential string) (*filter.Identity, error) {
	if r.Now.IsZero() {
		return nil, errors.New("the request has no time")
	}
	if len(credential) > maxBasic {
		return nil, errBasicTooLong
	}
	buf := bufferPool.Get().(*buffers)
	defer func() {
		*buf = buffers{} // no password stays in a buffer that others get
		bufferPool.Put(buf)
	}()
	n, err := strictBase64.Decode(buf.decoded[:], buf.encoded[:copy(buf.encoded[:], credential)])
	if err != nil {
		return nil, errBasicSyntax
	}
	pair := buf.decoded[:n]
	// Only the first colon splits: names hold none, passwords may.
	user, password, ok := bytes.Cut(pair, []byte(":"))
	if !ok || !isPlain(pair) {
		return nil, errBasicSyntax
	}
	if b.bcrypt && len(password) > maxPassword {
		return nil, errBasicPassword
	}

	key := b.right.key(pair)
	if who := b.right.get(key, r.Now); who != nil {
		return who, nil
	}
	if err := b.hashes.enter(r.Context()); err != nil {
		return nil, err
	}
	defer b.hashes.leave()
	// While it waited another request may have brought the same pair.
	if who := b.right.get(key, r.Now); who != nil {
		return who, nil
	}
	hash, known := b.users[string(user)]
	if !known {
		hash = b.dummy
	}
	if !hash.matches(password) || !known {
		return nil, errBasicWrong
	}
	who := &filter.Identity{Subject: string(user), Method: b.Name(), Roles: b.roles[string(user)]}
	b.right.put(key, who, r.Now)
	return who, nil
}

// isPlain reports whether b is UTF-8 without control characters, which RFC 7617
// section 2 forbids.
func isPlain(b []byte) bool {
	for i := 0; i < len(b); {
		c, size := utf8.DecodeRune(b[i:])
		if c == utf8.RuneError && size == 1 || c < ' ' || 0x7f <= c && c <= 0x9f {
			return false
		}
		i += size
	}
	return true
}

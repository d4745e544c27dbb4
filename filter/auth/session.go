package auth

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moatwaf/moat/filter"
)

// SessionConfig configures Session.
type SessionConfig struct {
	// Cookie is the cookie's name.
	Cookie string
	// Tokens is what the cookie's token is held against. With Encryption its keys
	// may be missing; then only encrypted tokens are taken.
	Tokens TokenConfig
	// Encryption is a JWKS with the symmetric keys of encrypted tokens; the zero
	// File takes signed ones only.
	Encryption File
}

// Session is a signed or an encrypted token (RFC 7519) in a cookie, as an application
// sets it at login. The token is held against the same as one that comes as Bearer. It
// is safe for concurrent use.
//
// Keys are changed without ending a session: a second key is put beside the first, the
// application takes the second, and the first goes when no token of it is left.
//
// A cookie is sent by the browser unasked, whoever made the page that asks: what
// changes something needs a check of its origin in the application, or a cookie
// with SameSite.
type Session struct {
	cookie    string
	tokens    *tokens
	encrypted *encryptedTokens // nil: none are taken
}

// NewSession reads the keys and the revoked tokens. The error joins every fault;
// those in files are rules.Errors with file, line and column.
func NewSession(c SessionConfig) (*Session, error) {
	var errs []error
	if !isToken(c.Cookie) {
		errs = append(errs, fmt.Errorf("session: %q is no name of a cookie", c.Cookie))
	}
	isFile := c.Encryption.Name != "" || len(c.Encryption.Data) > 0
	tokens, err := newTokens("session", c.Tokens, isFile)
	errs = append(errs, err)
	s := &Session{cookie: c.Cookie, tokens: tokens}
	if isFile {
		keys, err := readSessionKeys(c.Encryption)
		errs = append(errs, err)
		s.encrypted = &encryptedTokens{tokens: tokens, keys: keys, seen: newTokenMemory()}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Name implements Method.
func (*Session) Name() string { return "session" }

// Find implements Method. An empty cookie, as some servers leave it behind at
// logout, is none.
func (s *Session) Find(r *filter.Request) (string, Found) {
	credential, found := "", Absent
	for _, line := range r.HTTP.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			if name != s.cookie || value == "" {
				continue
			}
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			if found == Present && value != credential {
				return severalSessions, Present
			}
			credential, found = value, Present
		}
	}
	return credential, found
}

// severalSessions stands for cookies of one name and different values: a
// neighbouring host has set one for its parent domain. Which of them is the
// server's own nobody can tell (RFC 6265 section 8.6).
const severalSessions = ";"

var errSessionTwice = &Rejection{Detail: "several cookies of the name"}

// Verify implements Method.
func (s *Session) Verify(r *filter.Request, credential string) (*filter.Identity, error) {
	if credential == severalSessions {
		return nil, errSessionTwice
	}
	if s.encrypted != nil && isEncrypted(credential) {
		return s.encrypted.verify(r, credential)
	}
	if s.tokens.source == nil {
		return nil, errJWESyntax
	}
	return s.tokens.verify(r, credential)
}

// Challenge implements Method. No scheme is registered for cookies, and every 401
// needs a challenge (RFC 9110 section 15.5.2): this one tells that a cookie is
// wanted. It has no parameter for what was wrong.
func (*Session) Challenge(realm string, p Problem) string {
	if p.Kind == MissingScope {
		return ""
	}
	return string(appendParam([]byte("Cookie "), "realm", realm))
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2): a name of a
// header field or a cookie.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}

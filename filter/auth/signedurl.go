package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moatwaf/moat/filter"
)

// SignedURLConfig says what signed URLs are held against.
type SignedURLConfig struct {
	// Keys is the file with the keys. See readURLKeys.
	Keys File
	// Query are the names of the query parameters that the signature covers, in
	// its order; nil covers the whole query. What is not covered anybody can add,
	// change and take away.
	Query []string
	// MaxLifetime is how far in the future a URL may expire: 0 takes
	// DefaultURLLifetime, as S3 has it.
	MaxLifetime time.Duration
}

// DefaultURLLifetime is how far in the future a signed URL may expire.
const DefaultURLLifetime = 7 * 24 * time.Hour

// The query parameters of a signed URL: the id of the key, the second since 1970
// from which the URL is not good any more, and the signature.
const (
	paramKey       = "moat_key"
	paramExpires   = "moat_expires"
	paramSignature = "moat_signature"
)

// SignedURL is a URL that carries its own permission: whoever has it may do what it
// says until it expires. The signature is HMAC-SHA256 (RFC 2104) in base64url without
// padding, over these lines, each with a line feed behind it:
//
//	moat-signed-url-1
//	GET                  the method
//	cdn.example.com      the host, in lower case and without port
//	/files/a%20b.pdf     the path, as it is written in the URL
//	2026-11              moat_key
//	1795435200           moat_expires
//	version=3&raw=1      the query as it is written, without the three parameters
//
// Path and query are signed as they are written, so unreserved characters (RFC 3986
// section 2.3) are written plain: some servers decode them on the way.
//
// Where the policy lists parameters, the last line has those alone, in the order of
// the list. A URL without moat_signature has no credentials. One that is expired, and
// one whose signature does not hold, is refused with 403 as S3 does: no challenge
// would help. It is safe for concurrent use.
type SignedURL struct {
	keys        map[string]*urlKey
	query       []string // nil: all of it
	maxLifetime time.Duration
}

// urlKey is one key: its owner and the time from which it is not good any more.
type urlKey struct {
	who     *filter.Identity
	expires time.Time // zero: never
	macs    sync.Pool // of *urlMAC
}

// urlMAC is an HMAC, and room for its result and for what goes into it.
type urlMAC struct {
	keyedHash
	text []byte
}

// NewSignedURL reads the keys. The error is rules.Errors for what is in the file.
func NewSignedURL(c SignedURLConfig) (*SignedURL, error) {
	s := &SignedURL{query: c.Query, maxLifetime: c.MaxLifetime}
	var errs []error
	for i, name := range c.Query {
		switch {
		case name == "" || name == paramKey || name == paramExpires || name == paramSignature:
			errs = append(errs, fmt.Errorf("signed_url: %q is no query parameter to list", name))
		default:
			for _, other := range c.Query[:i] {
				if other == name {
					errs = append(errs, fmt.Errorf("signed_url: the query parameter %q is there twice", name))
				}
			}
		}
	}
	if c.MaxLifetime < 0 {
		errs = append(errs, errors.New("signed_url: a negative time"))
	}
	if c.MaxLifetime == 0 {
		s.maxLifetime = DefaultURLLifetime
	}
	var err error
	if s.keys, err = readURLKeys(c.Keys); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Name implements Method.
func (*SignedURL) Name() string { return "signed_url" }

// Challenge implements Method: nobody can be asked for a URL.
func (*SignedURL) Challenge(string, Problem) string { return "" }

// maxSignedQuery is the length of a query in bytes over which a signature in it is
// not looked at.
const maxSignedQuery = 8 << 10

// signedParams are the parameters of a signed URL, as they are written.
type signedParams struct{ key, expires, signature string }

// Find implements Method. A parameter that stands twice or is missing beside the
// signature is Malformed.
func (*SignedURL) Find(r *filter.Request) (string, Found) {
	if r.HTTP.URL == nil || !strings.Contains(r.HTTP.URL.RawQuery, paramSignature+"=") {
		return "", Absent
	}
	p, ok := readSignedParams(r.HTTP.URL.RawQuery)
	switch {
	case !ok || p.signature != "" && (p.key == "" || p.expires == ""):
		return "", Malformed
	case p.signature == "":
		return "", Absent // in the value of another parameter, or empty
	}
	return p.signature, Present
}

// readSignedParams finds the parameters. Their names are compared as they are
// written: in another writing they are parameters like all others.
func readSignedParams(query string) (p signedParams, ok bool) {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		var to *string
		switch name {
		case paramKey:
			to = &p.key
		case paramExpires:
			to = &p.expires
		case paramSignature:
			to = &p.signature
		default:
			continue
		}
		if *to != "" {
			return p, false
		}
		*to = value
	}
	return p, len(query) <= maxSignedQuery
}

// Why a signed URL is not good. Asking for other credentials would help nobody.
var (
	errURLKey       = &Rejection{Detail: "unknown key", Final: true}
	errURLKeyOld    = &Rejection{Detail: "key expired", Final: true}
	errURLSignature = &Rejection{Detail: "signature does not verify", Final: true}
	errURLExpires   = &Rejection{Detail: "expiry not readable", Final: true}
	errURLExpired   = &Rejection{Detail: "URL expired", Final: true}
	errURLFar       = &Rejection{Detail: "URL expires too far in the future", Final: true}
	errURLQuery     = &Rejection{Detail: "query not readable in one way only", Final: true}
)

// rawBase64URL takes one writing of every signature only.
var rawBase64URL = base64.RawURLEncoding.Strict()

// Verify implements Method. The credential is not looked at: the signature is that of
// the request's URL.
func (s *SignedURL) Verify(r *filter.Request, _ string) (*filter.Identity, error) {
	if r.Now.IsZero() {
		return nil, errors.New("the request has no time")
	}
	query := r.HTTP.URL.RawQuery
	p, ok := readSignedParams(query)
	if !ok {
		return nil, errURLQuery
	}
	k := s.keys[p.key]
	if k == nil {
		return nil, errURLKey
	}
	var want, got [sha256.Size]byte
	if base64.RawURLEncoding.EncodedLen(len(want)) != len(p.signature) {
		return nil, errURLSignature
	}
	var encoded [64]byte
	if n, err := rawBase64URL.Decode(got[:], encoded[:copy(encoded[:], p.signature)]); err != nil || n != len(got) {
		return nil, errURLSignature
	}
	mac := k.macs.Get().(*urlMAC)
	text, ok := s.signedText(mac.text[:0], r.HTTP.Method, r.Host, r.HTTP.URL, p)
	if ok {
		mac.text = text
		mac.Reset()
		mac.Write(text)
		mac.Sum(mac.sum[:0])
		want = mac.sum
	}
	k.macs.Put(mac)
	if !ok {
		return nil, errURLQuery
	}
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return nil, errURLSignature
	}
	if !k.expires.IsZero() && !r.Now.Before(k.expires) {
		return nil, errURLKeyOld
	}
	expires, ok := parseExpires(p.expires)
	switch {
	case !ok:
		return nil, errURLExpires
	case !r.Now.Before(expires):
		return nil, errURLExpired
	case expires.Sub(r.Now) > s.maxLifetime:
		return nil, errURLFar
	}
	return k.who, nil
}

// parseExpires reads a number of seconds in the one writing that it has.
func parseExpires(s string) (time.Time, bool) {
	if len(s) == 0 || len(s) > 11 || s[0] == '0' {
		return time.Time{}, false
	}
	n, err := strconv.ParseUint(s, 10, 63)
	return time.Unix(int64(n), 0), err == nil
}

// signedText appends what a signature covers. It returns false for a query that the
// upstream could read in another way than it is covered.
func (s *SignedURL) signedText(b []byte, method, host string, u *url.URL, p signedParams) ([]byte, bool) {
	path := u.EscapedPath()
	for _, line := range [...]string{"moat-signed-url-1", method, host, path, p.key, p.expires} {
		b = append(append(b, line...), '\n')
	}
	if strings.ContainsFunc(u.RawQuery, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return nil, false
	}
	first := true
	add := func(pair string) {
		if !first {
			b = append(b, '&')
		}
		first = false
		b = append(b, pair...)
	}
	if s.query == nil {
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			switch name, _, _ := strings.Cut(pair, "="); name {
			case paramKey, paramExpires, paramSignature:
			default:
				add(pair)
			}
		}
		return append(b, '\n'), true
	}
	// Some servers part parameters at semicolons too.
	if strings.IndexByte(u.RawQuery, ';') >= 0 {
		return nil, false
	}
	for _, covered := range s.query {
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			name, _, _ := strings.Cut(pair, "=")
			decoded, err := url.QueryUnescape(name)
			if err != nil {
				return nil, false
			}
			if decoded == covered {
				add(pair)
			}
		}
	}
	return append(b, '\n'), true
}

// SignURL returns u with the parameters of a signed URL. query are the parameters
// that the policy lists; nil covers the whole query. A Request of the method for the
// URL then holds until expires.
func SignURL(u *url.URL, method, keyID string, secret []byte, expires time.Time, query []string) *url.URL {
	signed := *u
	p := signedParams{key: keyID, expires: strconv.FormatInt(expires.Unix(), 10)}
	text, _ := (&SignedURL{query: query}).signedText(nil, method, filter.CanonicalHost(u.Host), u, p)
	mac := hmac.New(sha256.New, secret)
	mac.Write(text)
	if signed.RawQuery != "" {
		signed.RawQuery += "&"
	}
	signed.RawQuery += paramKey + "=" + keyID + "&" + paramExpires + "=" + p.expires + "&" + paramSignature + "=" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	return &signed
}

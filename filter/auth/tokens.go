package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/moatwaf/moat/filter"
)

// File is a file that the operator wrote: its name for errors, and its content.
type File struct {
	Name string
	Data []byte
}

// GoString implements fmt.GoStringer. It holds the SHA-256 of the content alone: a
// configuration that is written with %#v tells no secret, and is the same as another
// one if the content is, whatever the name.
func (f File) GoString() string { return fmt.Sprintf("%x", sha256.Sum256(f.Data)) }

// TokenConfig is what tokens are held against.
type TokenConfig struct {
	// Issuer is the iss claim, compared byte by byte.
	Issuer string
	// Audience must be the aud claim, or one of its values.
	Audience string
	// JWKS holds the public keys (RFC 7517 section 5).
	JWKS File
	// Keys gives the public keys in place of JWKS; its algorithms are those of
	// this configuration.
	Keys *RemoteKeys
	// Algorithms are the signature algorithms that are taken; none takes
	// DefaultAlgorithms. Symmetric ones and "none" are refused.
	Algorithms []string
	// Revoked lists revoked tokens: a jti a line, # begins a comment. The zero
	// File revokes none.
	Revoked File
	// Skew is how far the clocks of issuer and filter may be apart: 0 takes
	// DefaultSkew, a negative one allows no difference.
	Skew time.Duration
}

// DefaultSkew is the tolerance for clocks.
const DefaultSkew = time.Minute

// maxToken is the length of a token in bytes over which it is not looked at. It
// is what fits into the header fields that servers take.
const maxToken = 16 << 10

// maxHeader bounds the encoded JOSE header, which is parsed before anything is
// verified.
const maxHeader = 4 << 10

// maxEarly bounds the encoded payload that is parsed before the signature is
// verified. Parsing more than that costs as much as verifying does.
const maxEarly = 2 << 10

// tokens verifies signed tokens (RFC 7519), wherever they come from. It is safe
// for concurrent use.
//
// A token must have a signature by a key of the set, the issuer, the audience, an
// expiry and a subject (sub, else client_id or azp). The time is Request.Now.
//
// A token that holds is remembered until it expires, and one whose signature does
// not verify is remembered as such; both in bounded room.
type tokens struct {
	method     string
	issuer     string
	audience   string
	skew       float64 // seconds
	algorithms map[string]jwa.SignatureAlgorithm
	source     keySource
	revoked    map[string]struct{}
	memory     atomic.Pointer[keysMemory]
}

// keysMemory is what is remembered of tokens under one set of keys.
type keysMemory struct {
	keys *keySet
	seen *tokenMemory
}

// under returns what is remembered under a set of keys: nothing, if it is new. A
// token by a key that was withdrawn is forgotten with the key.
func (v *tokens) under(keys *keySet) *keysMemory {
	m := v.memory.Load()
	if m != nil && m.keys == keys {
		return m
	}
	fresh := &keysMemory{keys, newTokenMemory()}
	v.memory.CompareAndSwap(m, fresh) // who was slower has one for once
	return fresh
}

// newTokens reads the keys and the revoked tokens. Where keysMayMiss says so it takes a
// configuration without keys, and then has no source. The error joins every fault;
// those in files are rules.Errors with file, line and column.
func newTokens(method string, c TokenConfig, keysMayMiss bool) (*tokens, error) {
	v := &tokens{method: method, issuer: c.Issuer, audience: c.Audience}
	var errs []error
	if c.Issuer == "" {
		errs = append(errs, fmt.Errorf("%s: the issuer is empty: any issuer's tokens would be taken", method))
	}
	if c.Audience == "" {
		errs = append(errs, fmt.Errorf("%s: the audience is empty: tokens for other services would be taken", method))
	}
	switch {
	case c.Skew == 0:
		v.skew = DefaultSkew.Seconds()
	case c.Skew > 0:
		v.skew = c.Skew.Seconds()
	}
	var err error
	if v.algorithms, err = allowedAlgorithms(method, c.Algorithms); err != nil {
		errs = append(errs, err)
	} else if c.Keys != nil {
		v.source = c.Keys
	} else if !keysMayMiss || c.JWKS.Name != "" || len(c.JWKS.Data) > 0 {
		keys, err := readKeys(c.JWKS, v.algorithms)
		if err != nil {
			errs = append(errs, err)
		}
		v.source = fixedKeys{keys}
	}
	if v.revoked, err = readRevoked(c.Revoked); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return v, nil
}

// invalid is what a client may know of a token that never held.
const invalid = "The token is not valid"

// Why a token does not hold. Expiry is told, because the remedy is the client's.
var (
	errTokenTooLong     = &Rejection{Detail: "token too long", Description: invalid}
	errTokenSyntax      = &Rejection{Detail: "not a JWT", Description: invalid}
	errTokenHeader      = &Rejection{Detail: "JOSE header not valid", Description: invalid}
	errTokenCritical    = &Rejection{Detail: "critical header parameters", Description: invalid}
	errTokenType        = &Rejection{Detail: "typ is not that of an access token", Description: invalid}
	errTokenAlgorithm   = &Rejection{Detail: "algorithm not allowed", Description: invalid}
	errTokenKey         = &Rejection{Detail: "no key for key id and algorithm", Description: invalid}
	errTokenSignature   = &Rejection{Detail: "signature does not verify", Description: invalid}
	errTokenClaims      = &Rejection{Detail: "claims not valid", Description: invalid}
	errTokenIssuer      = &Rejection{Detail: "wrong issuer", Description: invalid}
	errTokenAudience    = &Rejection{Detail: "wrong audience", Description: invalid}
	errTokenNoExpiry    = &Rejection{Detail: "no expiry", Description: invalid}
	errTokenExpired     = &Rejection{Detail: "token expired", Description: "The token has expired"}
	errTokenNotYet      = &Rejection{Detail: "token not valid yet", Description: "The token is not valid yet"}
	errTokenIssuedLater = &Rejection{Detail: "token issued in the future", Description: invalid}
	errTokenSubject     = &Rejection{Detail: "no subject", Description: invalid}
	errTokenRevoked     = &Rejection{Detail: "token revoked", Description: "The token was revoked"}
)

// verify returns whom a token belongs to. What is cheap comes first: garbage is
// told by its form, a token that was seen by its hash, and one for somebody else
// or of yesterday by its claims, so that only what could be good costs a signature.
func (v *tokens) verify(r *filter.Request, token string) (*filter.Identity, error) {
	if r.Now.IsZero() {
		return nil, errors.New("the request has no time") // every token would still be valid then
	}
	if len(token) > maxToken {
		return nil, errTokenTooLong
	}
	header, payload, signature, ok := cutToken(token)
	if !ok {
		return nil, errTokenSyntax
	}
	m := v.under(v.source.current())
	hash := m.seen.hash(token)
	if who := m.seen.get(hash, token, r.Now); who != nil {
		return who, nil
	}
	if m.seen.failed(hash) {
		return nil, errTokenSignature
	}
	if !isBase64URL(header) || !isBase64URL(payload) || !isBase64URL(signature) {
		return nil, errTokenSyntax
	}
	alg, kid, err := v.readHeader(header)
	if err != nil {
		return nil, err
	}
	candidates := m.keys.find(kid, alg)
	if len(candidates) == 0 && kid != "" {
		// What holds is remembered under the keys by which it was verified.
		m = v.under(v.source.afresh(r.Context()))
		hash = m.seen.hash(token)
		candidates = m.keys.find(kid, alg)
	}
	if len(candidates) == 0 {
		return nil, errTokenKey
	}
	length := base64.RawURLEncoding.DecodedLen(len(signature))
	if !slices.ContainsFunc(candidates, func(k verifyKey) bool { return k.fits(length) }) {
		return nil, errTokenSignature
	}
	var early []byte
	var claims map[string]any
	if len(payload) <= maxEarly {
		if early, claims, err = v.readClaims(r.Now, payload); err != nil {
			return nil, err
		}
	}
	compact := []byte(token)
	for _, k := range candidates {
		// The algorithm is the key's and the policy's, never the token's
		// alone: VerifyCompactFast refuses a key of another type, a header
		// that says something else, and critical parameters.
		signed, err := jws.VerifyCompactFast(k.public, compact, v.algorithms[alg])
		if err != nil {
			continue
		}
		// What was read before must be what is signed.
		if claims == nil || !bytes.Equal(signed, early) {
			if claims, err = v.checkClaims(r.Now, signed); err != nil {
				return nil, err
			}
		}
		who, err := v.identity(claims)
		if err == nil {
			m.seen.put(hash, token, who, r.Now, v.until(claims))
		}
		return who, err
	}
	m.seen.fail(hash)
	return nil, errTokenSignature
}

// readClaims decodes a payload and checks its claims.
func (v *tokens) readClaims(now time.Time, encoded string) ([]byte, map[string]any, error) {
	payload, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return nil, nil, errTokenSyntax
	}
	claims, err := v.checkClaims(now, payload)
	return payload, claims, err
}

// cutToken cuts a token in the compact form (RFC 7515 section 7.1): three parts,
// none of them empty, in base64url without padding.
func cutToken(token string) (header, payload, signature string, ok bool) {
	first, last := strings.IndexByte(token, '.'), strings.LastIndexByte(token, '.')
	if first <= 0 || last <= first+1 || last == len(token)-1 {
		return "", "", "", false
	}
	header, payload, signature = token[:first], token[first+1:last], token[last+1:]
	return header, payload, signature, strings.IndexByte(payload, '.') < 0
}

// base64URL is the alphabet of RFC 4648 section 5.
var base64URL = func() (in [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		in[c] = true
	}
	return in
}()

func isBase64URL(s string) bool {
	for i := range len(s) {
		if !base64URL[s[i]] {
			return false
		}
	}
	return true
}

// readHeader reads the JOSE header (RFC 7515 section 4). What it says is not
// verified yet: it only chooses among the keys and algorithms of the policy.
func (v *tokens) readHeader(encoded string) (alg, kid string, err error) {
	if len(encoded) > maxHeader {
		return "", "", errTokenHeader
	}
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return "", "", errTokenSyntax
	}
	var header map[string]any
	if json.Unmarshal(raw, &header) != nil || header == nil {
		return "", "", errTokenHeader
	}
	if _, there := header["crit"]; there {
		return "", "", errTokenCritical
	}
	if !isAccessType(header) {
		return "", "", errTokenType
	}
	alg, _ = header["alg"].(string)
	if _, allowed := v.algorithms[alg]; !allowed {
		return "", "", errTokenAlgorithm
	}
	id, there := header["kid"]
	if kid, _ = id.(string); there && kid == "" {
		return "", "", errTokenHeader
	}
	return alg, kid, nil
}

// isAccessType reports whether a JOSE header is that of an access token, by typ if it
// has one (RFC 8725 section 3.11): a logout or a DPoP token of the same issuer proves
// something else.
func isAccessType(header map[string]any) bool {
	typ, there := header["typ"]
	if !there {
		return true
	}
	s, _ := typ.(string)
	switch strings.TrimPrefix(strings.ToLower(s), "application/") {
	case "jwt", "at+jwt":
		return true
	}
	return false
}

// DefaultAlgorithms are the signature algorithms that are taken where a policy
// names none: every asymmetric one of RFC 7518 section 3.1, RFC 8037 and RFC 9864
// that the standard library has.
func DefaultAlgorithms() []string {
	return []string{
		"RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
		"ES256", "ES384", "ES512", "EdDSA", "Ed25519",
	}
}

// allowedAlgorithms returns the algorithms with the names.
func allowedAlgorithms(method string, names []string) (map[string]jwa.SignatureAlgorithm, error) {
	known := map[string]jwa.SignatureAlgorithm{
		"RS256": jwa.RS256(), "RS384": jwa.RS384(), "RS512": jwa.RS512(),
		"PS256": jwa.PS256(), "PS384": jwa.PS384(), "PS512": jwa.PS512(),
		"ES256": jwa.ES256(), "ES384": jwa.ES384(), "ES512": jwa.ES512(),
		"EdDSA": jwa.EdDSA(), "Ed25519": jwa.EdDSAEd25519(),
	}
	if len(names) == 0 {
		return known, nil
	}
	var errs []error
	allowed := make(map[string]jwa.SignatureAlgorithm, len(names))
	for _, name := range names {
		alg, ok := known[name]
		switch {
		case ok:
			allowed[name] = alg
		case name == "none" || strings.HasPrefix(name, "HS"):
			errs = append(errs, fmt.Errorf("%s: algorithm %s is not allowed: whoever can verify could sign", method, name))
		default:
			errs = append(errs, fmt.Errorf("%s: algorithm %q is not known; there are: %s", method, name, strings.Join(DefaultAlgorithms(), ", ")))
		}
	}
	return allowed, errors.Join(errs...)
}

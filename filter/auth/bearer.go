package auth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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

// BearerConfig is what tokens are held against.
type BearerConfig struct {
	// Issuer is the iss claim, compared byte by byte.
	Issuer string
	// Audience must be the aud claim, or one of its values.
	Audience string
	// JWKS holds the public keys (RFC 7517 section 5).
	JWKS File
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

// Bearer is the method of RFC 6750 section 2.1: a JWT (RFC 7519) in the
// Authorization field. Tokens in form or query are not taken (RFC 9700 section
// 4.3.2). It is immutable and safe for concurrent use.
//
// A token must have a signature by a key of the set, the issuer, the audience, an
// expiry and a subject (sub, else client_id or azp). The time is Request.Now.
type Bearer struct {
	issuer     string
	audience   string
	skew       float64 // seconds
	algorithms map[string]jwa.SignatureAlgorithm
	keys       *keySet
	revoked    map[string]struct{}
}

// NewBearer reads the keys and the revoked tokens. The error joins every fault;
// those in files are rules.Errors with file, line and column.
func NewBearer(c BearerConfig) (*Bearer, error) {
	b := &Bearer{issuer: c.Issuer, audience: c.Audience}
	var errs []error
	if c.Issuer == "" {
		errs = append(errs, errors.New("bearer: the issuer is empty: any issuer's tokens would be taken"))
	}
	if c.Audience == "" {
		errs = append(errs, errors.New("bearer: the audience is empty: tokens for other services would be taken"))
	}
	switch {
	case c.Skew == 0:
		b.skew = DefaultSkew.Seconds()
	case c.Skew > 0:
		b.skew = c.Skew.Seconds()
	}
	var err error
	if b.algorithms, err = allowedAlgorithms(c.Algorithms); err != nil {
		errs = append(errs, err)
	} else if b.keys, err = readKeys(c.JWKS, b.algorithms); err != nil {
		errs = append(errs, err)
	}
	if b.revoked, err = readRevoked(c.Revoked); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return b, nil
}

// Name implements Method.
func (*Bearer) Name() string { return "bearer" }

// Find implements Method. A scheme without a token is Malformed.
func (*Bearer) Find(r *filter.Request) (string, Found) {
	token, found := authorization(r, "Bearer")
	if found == Present && token == "" {
		return "", Malformed
	}
	return token, found
}

// Challenge implements Method (RFC 6750 section 3).
func (*Bearer) Challenge(realm string, p Problem) string {
	b := appendParam([]byte("Bearer "), "realm", realm)
	code := ""
	switch p.Kind {
	case NoProblem:
		return string(b)
	case BadRequest:
		code = "invalid_request"
	case BadCredentials:
		code = "invalid_token"
	case MissingScope:
		code = "insufficient_scope"
	}
	b = appendParam(b, "error", code)
	if p.Description != "" {
		b = appendParam(b, "error_description", p.Description)
	}
	if len(p.Scopes) > 0 {
		b = appendParam(b, "scope", strings.Join(p.Scopes, " "))
	}
	return string(b)
}

// invalid is what a client may know of a token that never held.
const invalid = "The token is not valid"

// Why a token does not hold. Expiry is told, because the remedy is the client's.
var (
	errTokenTooLong     = &Rejection{"token too long", invalid}
	errTokenSyntax      = &Rejection{"not a JWT", invalid}
	errTokenHeader      = &Rejection{"JOSE header not valid", invalid}
	errTokenCritical    = &Rejection{"critical header parameters", invalid}
	errTokenType        = &Rejection{"typ is not that of an access token", invalid}
	errTokenAlgorithm   = &Rejection{"algorithm not allowed", invalid}
	errTokenKey         = &Rejection{"no key for key id and algorithm", invalid}
	errTokenSignature   = &Rejection{"signature does not verify", invalid}
	errTokenClaims      = &Rejection{"claims not valid", invalid}
	errTokenIssuer      = &Rejection{"wrong issuer", invalid}
	errTokenAudience    = &Rejection{"wrong audience", invalid}
	errTokenNoExpiry    = &Rejection{"no expiry", invalid}
	errTokenExpired     = &Rejection{"token expired", "The token has expired"}
	errTokenNotYet      = &Rejection{"token not valid yet", "The token is not valid yet"}
	errTokenIssuedLater = &Rejection{"token issued in the future", invalid}
	errTokenSubject     = &Rejection{"no subject", invalid}
	errTokenRevoked     = &Rejection{"token revoked", "The token was revoked"}
)

// Verify implements Method.
func (b *Bearer) Verify(r *filter.Request, token string) (*filter.Identity, error) {
	if r.Now.IsZero() {
		return nil, errors.New("the request has no time") // every token would still be valid then
	}
	if len(token) > maxToken {
		return nil, errTokenTooLong
	}
	header, ok := cutToken(token)
	if !ok {
		return nil, errTokenSyntax
	}
	alg, kid, err := b.readHeader(header)
	if err != nil {
		return nil, err
	}
	candidates := b.keys.find(kid, alg)
	if len(candidates) == 0 {
		return nil, errTokenKey
	}
	compact := []byte(token)
	for _, k := range candidates {
		// The algorithm is the key's and the policy's, never the token's
		// alone: VerifyCompactFast refuses a key of another type, a header
		// that says something else, and critical parameters.
		payload, err := jws.VerifyCompactFast(k.public, compact, b.algorithms[alg])
		if err == nil {
			return b.identity(r.Now, payload)
		}
	}
	return nil, errTokenSignature
}

// cutToken returns the header of a token in the compact form (RFC 7515 section
// 7.1): three parts in base64url without padding, none of them empty.
func cutToken(token string) (header string, ok bool) {
	part, dots := 0, 0
	for i := range len(token) {
		switch c := token[i]; {
		case c == '.':
			if dots++; part == 0 || dots > 2 {
				return "", false
			}
			if dots == 1 {
				header = token[:i]
			}
			part = 0
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_':
			part++
		default:
			return "", false
		}
	}
	return header, dots == 2 && part > 0
}

// readHeader reads the JOSE header (RFC 7515 section 4). What it says is not
// verified yet: it only chooses among the keys and algorithms of the policy.
func (b *Bearer) readHeader(encoded string) (alg, kid string, err error) {
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
	if typ, there := header["typ"]; there {
		// Access tokens only (RFC 8725 section 3.11): a logout or a DPoP
		// token of the same issuer proves something else.
		s, _ := typ.(string)
		switch strings.TrimPrefix(strings.ToLower(s), "application/") {
		case "jwt", "at+jwt":
		default:
			return "", "", errTokenType
		}
	}
	alg, _ = header["alg"].(string)
	if _, allowed := b.algorithms[alg]; !allowed {
		return "", "", errTokenAlgorithm
	}
	id, there := header["kid"]
	if kid, _ = id.(string); there && kid == "" {
		return "", "", errTokenHeader
	}
	return alg, kid, nil
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
func allowedAlgorithms(names []string) (map[string]jwa.SignatureAlgorithm, error) {
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
			errs = append(errs, fmt.Errorf("bearer: algorithm %s is not allowed: whoever can verify could sign", name))
		default:
			errs = append(errs, fmt.Errorf("bearer: algorithm %q is not known; there are: %s", name, strings.Join(DefaultAlgorithms(), ", ")))
		}
	}
	return allowed, errors.Join(errs...)
}

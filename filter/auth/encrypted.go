package auth

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules"
)

// encryptedTokens opens tokens that only the application and the filter can read: JWE
// in the compact form (RFC 7516 section 7.1), dir and A256GCM. Whoever has the key can
// write them too, so one that opens is authentic (RFC 7518 section 5.3). It is safe
// for concurrent use.
//
// What is inside are claims, held against the same as those of a signed token; or,
// with cty JWT, a signed token, which then must hold by itself.
//
// The work is little and no key pair is asked, so garbage needs no table of its own.
type encryptedTokens struct {
	tokens *tokens // what claims are held against
	keys   map[string]cipher.AEAD
	seen   *tokenMemory
}

// The parts of an encrypted token, in bytes as they are encoded.
const (
	jweIV  = 16 // of 12
	jweTag = 22 // of 16
)

var (
	errJWESyntax    = &Rejection{Detail: "not an encrypted JWT", Description: invalid}
	errJWEHeader    = &Rejection{Detail: "JOSE header not valid", Description: invalid}
	errJWEAlgorithm = &Rejection{Detail: "not dir with A256GCM", Description: invalid}
	errJWEKey       = &Rejection{Detail: "no key for key id", Description: invalid}
	errJWEOpen      = &Rejection{Detail: "does not decrypt", Description: invalid}
)

// isEncrypted reports whether a token has the five parts of JWE.
func isEncrypted(token string) bool { return strings.Count(token, ".") == 4 }

// verify returns whom a token belongs to.
func (e *encryptedTokens) verify(r *filter.Request, token string) (*filter.Identity, error) {
	if r.Now.IsZero() {
		return nil, errors.New("the request has no time")
	}
	if len(token) > maxToken {
		return nil, errTokenTooLong
	}
	hash := e.seen.hash(token)
	if who := e.seen.get(hash, token, r.Now); who != nil {
		return who, nil
	}
	header, rest, _ := strings.Cut(token, ".")
	key, rest, _ := strings.Cut(rest, ".")
	iv, rest, _ := strings.Cut(rest, ".")
	text, tag, ok := strings.Cut(rest, ".")
	if !ok || key != "" || len(iv) != jweIV || len(tag) != jweTag || text == "" ||
		!isBase64URL(header) || !isBase64URL(iv) || !isBase64URL(text) || !isBase64URL(tag) {
		return nil, errJWESyntax
	}
	kid, nested, err := readJWEHeader(header)
	if err != nil {
		return nil, err
	}
	aead := e.find(kid)
	if aead == nil {
		return nil, errJWEKey
	}
	nonce, err := rawBase64URL.DecodeString(iv)
	if err != nil {
		return nil, errJWESyntax
	}
	// A last character with bits that stand for nothing would be another writing of
	// the same token.
	sealed, err := rawBase64URL.DecodeString(text)
	if err != nil {
		return nil, errJWESyntax
	}
	t, err := rawBase64URL.DecodeString(tag)
	if err != nil {
		return nil, errJWESyntax
	}
	sealed = append(sealed, t...)
	// RFC 7516 section 5.2: the encoded header is authenticated with the text.
	plain, err := aead.Open(sealed[:0], nonce, sealed, []byte(header))
	if err != nil {
		return nil, errJWEOpen
	}
	if nested {
		if e.tokens.source == nil {
			return nil, errJWEHeader // a signature that nobody could verify
		}
		return e.tokens.verify(r, string(plain))
	}
	claims, err := e.tokens.checkClaims(r.Now, plain)
	if err != nil {
		return nil, err
	}
	who, err := e.tokens.identity(claims)
	if err == nil {
		e.seen.put(hash, token, who, r.Now, e.tokens.until(claims))
	}
	return who, err
}

// find returns the key with an id. A token without one has a key only where there is
// no choice.
func (e *encryptedTokens) find(kid string) cipher.AEAD {
	if kid == "" && len(e.keys) == 1 {
		for _, aead := range e.keys {
			return aead
		}
	}
	return e.keys[kid]
}

// readJWEHeader reads the JOSE header (RFC 7516 section 4). zip is refused with
// everything else that would change what is done: a short text could become a long one.
func readJWEHeader(encoded string) (kid string, nested bool, err error) {
	if len(encoded) > maxHeader {
		return "", false, errJWEHeader
	}
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return "", false, errJWESyntax
	}
	var header map[string]any
	if json.Unmarshal(raw, &header) != nil || header == nil {
		return "", false, errJWEHeader
	}
	if _, there := header["crit"]; there {
		return "", false, errTokenCritical
	}
	if _, there := header["zip"]; there {
		return "", false, errJWEAlgorithm
	}
	if header["alg"] != "dir" || header["enc"] != "A256GCM" {
		return "", false, errJWEAlgorithm
	}
	if !isAccessType(header) {
		return "", false, errTokenType
	}
	if cty, there := header["cty"]; there {
		if s, _ := cty.(string); strings.TrimPrefix(strings.ToLower(s), "application/") != "jwt" {
			return "", false, errJWEHeader
		}
		nested = true
	}
	id, there := header["kid"]
	if kid, _ = id.(string); there && kid == "" {
		return "", false, errJWEHeader
	}
	return kid, nested, nil
}

// jweKey are the members of a symmetric key that are read (RFC 7517 section 4, RFC
// 7518 section 6.4).
type jweKey struct {
	Type       string   `json:"kty"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	ID         string   `json:"kid"`
	Key        string   `json:"k"`
}

// readSessionKeys reads a JWKS of symmetric keys. All of them must be such keys: the
// file is for nothing else. The error is rules.Errors, and holds nothing of a key.
func readSessionKeys(f File) (map[string]cipher.AEAD, error) {
	keys := make(map[string]cipher.AEAD)
	var errs rules.Errors
	var contents [][]byte
	count := 0
	err := eachKey(f.Data, func(offset int64, raw json.RawMessage) error {
		if count++; count > maxKeys {
			return fmt.Errorf("more than %d keys", maxKeys)
		}
		fault := func(hint, format string, args ...any) {
			errs.Add(position(f, offset), fmt.Sprintf("keys[%d]", count-1), hint, format, args...)
		}
		var j jweKey
		if err := json.Unmarshal(raw, &j); err != nil {
			fault("", "not a key: %s", typeFault(err))
			return nil
		}
		content, err := rawBase64URL.DecodeString(j.Key)
		switch {
		case j.Type != "oct":
			fault(`a key looks like {"kty":"oct","kid":"2026-11","k":"..."}`, "not a symmetric key")
		case j.Use != "" && j.Use != "enc", j.Operations != nil && !slices.Contains(j.Operations, "decrypt"):
			fault("", "a key for something else than decrypting")
		case j.Algorithm != "" && j.Algorithm != "dir" && j.Algorithm != "A256GCM":
			fault("write dir", "a key for another algorithm")
		case j.ID == "" || len(j.ID) > maxTokenID || !isPlainText(j.ID):
			fault("the tokens name it", "a key without an id (kid)")
		case keys[j.ID] != nil:
			fault("give every key an id of its own", "a second key with the id %q", j.ID)
		case err != nil || len(content) != 32:
			fault("openssl rand 32 | basenc --base64url | tr -d =", "not a key of 32 bytes in base64url")
		case slices.ContainsFunc(contents, func(other []byte) bool { return bytes.Equal(other, content) }):
			fault("make a new one for each id", "the same key under another id")
		case bytes.Count(content, content[:1]) == len(content):
			fault("openssl rand 32 | basenc --base64url | tr -d =", "a key of one byte, over and over")
		default:
			block, err := aes.NewCipher(content)
			if err != nil {
				return err
			}
			aead, err := cipher.NewGCM(block)
			if err != nil {
				return err
			}
			contents = append(contents, content)
			keys[j.ID] = aead
		}
		return nil
	})
	var syntax *jsonFault
	switch {
	case errors.As(err, &syntax):
		errs.Add(position(f, syntax.offset), "", `a key set looks like {"keys":[{"kty":"oct",...}]}`, "%s", syntax.msg)
	case err != nil:
		errs.Add(rules.Position{File: f.Name}, "", "", "%v", err)
	case len(keys) == 0 && len(errs) == 0:
		errs.Add(rules.Position{File: f.Name}, "", "", "no keys: every session would be refused")
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return keys, nil
}

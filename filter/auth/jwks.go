package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/moatwaf/moat/rules"
)

// Bounds of a key set. Verification costs grow with the cube of an RSA modulus.
const (
	maxKeys    = 256
	minRSABits = 2048
	maxRSABits = 8192
)

// verifyKey is a public key and the algorithms for which it may be used.
type verifyKey struct {
	public     crypto.PublicKey
	kty        string
	algorithms []string
}

// fits reports whether a signature of n bytes could be one of the key: they have
// one length each (RFC 7518 sections 3.3 to 3.5, RFC 8032 section 5.1.6).
func (k verifyKey) fits(n int) bool {
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return n == public.Size()
	case *ecdsa.PublicKey:
		return n == 2*((public.Curve.Params().BitSize+7)/8)
	}
	return n == ed25519.SignatureSize
}

// keySet is the keys of a JWKS. It is immutable.
type keySet struct {
	byID map[string][]verifyKey
	all  []verifyKey
}

// find returns the keys that may verify a token. A token without a key id has a
// key only where the set leaves no choice.
func (s *keySet) find(kid, alg string) []verifyKey {
	from := s.all
	if kid != "" {
		from = s.byID[kid]
	}
	fits := func(k verifyKey) bool { return slices.Contains(k.algorithms, alg) }
	first := slices.IndexFunc(from, fits)
	if first < 0 {
		return nil
	}
	// Keys of one id differ in type (RFC 7517 section 4.5), so one fits.
	if kid == "" && slices.ContainsFunc(from[first+1:], fits) {
		return nil
	}
	return from[first : first+1]
}

// jwkFields are the members of a key that are read here (RFC 7517 section 4, RFC
// 7518 section 6). The private ones are only asked whether they are there.
type jwkFields struct {
	Type       string   `json:"kty"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	ID         string   `json:"kid"`
	Curve      string   `json:"crv"`
	Modulus    string   `json:"n"`

	Private   json.RawMessage `json:"d"`
	Prime     json.RawMessage `json:"p"`
	Symmetric json.RawMessage `json:"k"`
}

// readKeys reads a JWKS. Keys that are no business of a verifier (for encryption,
// of a type or for an algorithm that is not taken) are left out, as RFC 7517
// section 5 asks; but one must be left. The error is rules.Errors, and holds
// nothing of a key.
func readKeys(f File, allowed map[string]jwa.SignatureAlgorithm) (*keySet, error) {
	set := &keySet{byID: make(map[string][]verifyKey)}
	var errs rules.Errors
	count, left := 0, 0
	err := eachKey(f.Data, func(offset int64, raw json.RawMessage) error {
		if count++; count > maxKeys {
			return fmt.Errorf("more than %d keys", maxKeys)
		}
		pos := position(f, offset)
		key, id, fault := readKey(raw, allowed)
		switch {
		case fault != nil:
			errs.Add(pos, fmt.Sprintf("keys[%d]", count-1), fault.hint, "%s", fault.msg)
		case key == nil:
			left++
		case id != "" && slices.ContainsFunc(set.byID[id], func(k verifyKey) bool { return k.kty == key.kty }):
			errs.Add(pos, fmt.Sprintf("keys[%d]", count-1), "give every key an id of its own", "a second %s key with the id %q", key.kty, id)
		default:
			set.all = append(set.all, *key)
			if id != "" {
				set.byID[id] = append(set.byID[id], *key)
			}
		}
		return nil
	})
	var syntax *jsonFault
	switch {
	case errors.As(err, &syntax):
		errs.Add(position(f, syntax.offset), "", `a key set looks like {"keys":[{"kty":"RSA",...}]}`, "%s", syntax.msg)
	case err != nil:
		errs.Add(rules.Position{File: f.Name}, "", "", "%v", err)
	case len(set.all) == 0 && len(errs) == 0 && left > 0:
		errs.Add(rules.Position{File: f.Name}, "", "is it the right file, and are the algorithms those of its keys?", "none of %d keys is a signature key for an allowed algorithm", left)
	case len(set.all) == 0 && len(errs) == 0:
		errs.Add(rules.Position{File: f.Name}, "", "", "no keys: every token would be refused")
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return set, nil
}

// keyFault is what is wrong with one key.
type keyFault struct{ msg, hint string }

// readKey reads one key. It returns no key and no fault for a key that is not for
// verifying.
func readKey(raw json.RawMessage, allowed map[string]jwa.SignatureAlgorithm) (*verifyKey, string, *keyFault) {
	var j jwkFields
	if err := json.Unmarshal(raw, &j); err != nil {
		return nil, "", &keyFault{msg: "not a key: " + typeFault(err)}
	}
	const publish = "a key set holds the public halves only: whoever can read this file could sign; replace the key"
	switch {
	case j.Type == "":
		return nil, "", &keyFault{msg: "no key type (kty)"}
	case j.Type == "oct" || j.Symmetric != nil:
		return nil, "", &keyFault{"a symmetric key", publish}
	case j.Private != nil || j.Prime != nil:
		return nil, "", &keyFault{"a private key", publish}
	case j.Use != "" && j.Use != "sig", j.Operations != nil && !slices.Contains(j.Operations, "verify"):
		return nil, "", nil
	}
	suits := algorithmsOf(j.Type, j.Curve)
	if suits == nil {
		return nil, "", nil
	}
	if j.Algorithm != "" {
		if !slices.Contains(suits, j.Algorithm) {
			if strings.HasPrefix(j.Algorithm, "HS") || j.Algorithm == "none" || slices.Contains(DefaultAlgorithms(), j.Algorithm) {
				return nil, "", &keyFault{msg: fmt.Sprintf("algorithm %s does not fit a key of type %s", j.Algorithm, strings.TrimSpace(j.Type+" "+j.Curve))}
			}
			return nil, "", nil // an algorithm for encryption, or one that we do not have
		}
		suits = []string{j.Algorithm}
	}
	suits = slices.DeleteFunc(suits, func(name string) bool { _, ok := allowed[name]; return !ok })
	if len(suits) == 0 {
		return nil, "", nil
	}
	if j.Type == "RSA" {
		n, err := base64.RawURLEncoding.DecodeString(j.Modulus)
		bits := new(big.Int).SetBytes(n).BitLen()
		if err == nil && bits > 0 && (bits < minRSABits || bits > maxRSABits) {
			return nil, "", &keyFault{fmt.Sprintf("an RSA key of %d bits", bits), fmt.Sprintf("%d to %d bits are taken", minRSABits, maxRSABits)}
		}
	}
	public, fault := parsePublic(raw)
	if fault != nil {
		return nil, "", fault
	}
	return &verifyKey{public: public, kty: j.Type, algorithms: suits}, j.ID, nil
}

// algorithmsOf returns the algorithms that a type of key can be used for; nil for
// a type that is not known.
func algorithmsOf(kty, crv string) []string {
	switch kty + " " + crv {
	case "RSA ":
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case "EC P-256":
		return []string{"ES256"}
	case "EC P-384":
		return []string{"ES384"}
	case "EC P-521":
		return []string{"ES512"}
	case "OKP Ed25519":
		return []string{"EdDSA", "Ed25519"}
	}
	return nil
}

// parsePublic parses the key itself and checks that it can be relied on.
func parsePublic(raw json.RawMessage) (crypto.PublicKey, *keyFault) {
	damaged := &keyFault{msg: "the key is damaged or incomplete"}
	key, err := jwk.ParseKey(raw)
	if err != nil || key.Validate() != nil {
		return nil, damaged
	}
	var public any
	if jwk.Export(key, &public) != nil {
		return nil, damaged
	}
	switch k := public.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits || k.E < 3 || k.E&1 == 0 {
			return nil, damaged
		}
		return k, nil
	case *ecdsa.PublicKey:
		if _, err := k.ECDH(); err != nil { // the point is not on the curve
			return nil, damaged
		}
		return k, nil
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return nil, damaged
		}
		return k, nil
	}
	return nil, damaged
}

// jsonFault is a place where a document is not what it should be.
type jsonFault struct {
	offset int64
	msg    string
}

func (e *jsonFault) Error() string { return e.msg }

// eachKey calls f with every member of the keys array and its place in the
// document. The error is f's, or a *jsonFault.
func eachKey(data []byte, f func(offset int64, raw json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(data))
	fault := func(err error, msg string) error {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			// The scanner counts the byte that it stumbled over, the decoder
			// itself does not.
			offset := syntax.Offset
			if offset != d.InputOffset() {
				offset--
			}
			return &jsonFault{max(offset, 0), "not JSON: " + syntax.Error()}
		}
		if err != nil {
			return &jsonFault{int64(len(data)), "not JSON: the file ends too early"}
		}
		return &jsonFault{max(d.InputOffset()-1, 0), msg}
	}
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fault(err, "not a JSON object")
	}
	found := false
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return fault(err, "")
		}
		if name != "keys" {
			var other json.RawMessage
			if err := d.Decode(&other); err != nil {
				return fault(err, "")
			}
			continue
		}
		if found {
			return fault(nil, "a second member named keys")
		}
		found = true
		if t, err := d.Token(); err != nil || t != json.Delim('[') {
			return fault(err, "keys is not an array")
		}
		for d.More() {
			offset := d.InputOffset()
			for int(offset) < len(data) && strings.IndexByte(" \t\r\n,", data[offset]) >= 0 {
				offset++
			}
			var raw json.RawMessage
			if err := d.Decode(&raw); err != nil {
				return fault(err, "")
			}
			if err := f(offset, raw); err != nil {
				return err
			}
		}
		if _, err := d.Token(); err != nil {
			return fault(err, "")
		}
	}
	if _, err := d.Token(); err != nil {
		return fault(err, "")
	}
	if !found {
		return &jsonFault{0, "no member named keys"}
	}
	if rest := bytes.TrimLeft(data[d.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return &jsonFault{int64(len(data) - len(rest)), "something follows the key set"}
	}
	return nil
}

// typeFault says which member of a key has the wrong type.
func typeFault(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Sprintf("member %s is a %s", wrong.Field, wrong.Value)
	}
	return "not a JSON object"
}

// position returns the place of an offset in a file.
func position(f File, offset int64) rules.Position {
	before := f.Data[:min(offset, int64(len(f.Data)))]
	return rules.Position{
		File:   f.Name,
		Line:   bytes.Count(before, []byte("\n")) + 1,
		Column: len(before) - bytes.LastIndexByte(before, '\n'),
	}
}

package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"golang.org/x/crypto/bcrypt"
)

// fixtures are a policy with all that it includes, in a directory of its own,
// and the values of the table's variables that fit it.
type fixtures struct {
	dir    string
	policy string // path of policy.yaml
	vars   Vars
}

// newFixtures lays out the policy of the conformance table. The tokens are made
// here by hand, from the RFCs, so that they do not share a fault with the
// library that verifies them.
func newFixtures(t *testing.T) fixtures {
	t.Helper()
	policy, err := os.ReadFile(filepath.Join("testdata", "conformance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	f := fixtures{dir: t.TempDir()}
	f.policy = filepath.Join(f.dir, "policy.yaml")
	keys := newSigners(t)
	if err := os.Mkdir(filepath.Join(f.dir, "lists"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"policy.yaml":          policy,
		"lists/blocked.netset": []byte("# refused addresses\n127.0.0.66\n203.0.113.66\n"),
		"country.mmdb":         countryDatabase(t, map[string]string{"203.0.113.77/32": "KP", "198.51.100.0/24": "DE"}),
		"keys.json":            keys.jwks(t),
		"revoked.txt":          []byte("# a jti a line\nrevoked-1\n"),
		"users.htpasswd":       []byte("anna:" + bcryptHash(t, "pass:word") + "\n"),
	} {
		writeFile(t, filepath.Join(f.dir, name), content)
	}

	vars, err := os.ReadFile(filepath.Join("testdata", "vars.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(vars, &f.vars); err != nil {
		t.Fatal(err)
	}
	maps.Copy(f.vars, keys.tokens(t, time.Now()))
	f.vars["BASIC_OK_COLON"] = base64.StdEncoding.EncodeToString([]byte("anna:pass:word"))
	return f
}

func bcryptHash(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// replaceFile writes a file beside path and renames it over, as editors do.
func replaceFile(t *testing.T, path string, content []byte) {
	t.Helper()
	writeFile(t, path+".new", content)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// countryDatabase returns a database in the layout of GeoLite2-Country.
func countryDatabase(t *testing.T, countries map[string]string) []byte {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType:            "GeoLite2-Country",
		RecordSize:              24,
		IncludeReservedNetworks: true, // the documentation prefixes are
	})
	if err != nil {
		t.Fatal(err)
	}
	for prefix, code := range countries {
		_, network, err := net.ParseCIDR(prefix)
		if err != nil {
			t.Fatal(err)
		}
		record := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code)}}
		if err := tree.Insert(network, record); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}

// signers are the keys of the issuer, and one that is not the issuer's.
type signers struct {
	rsa    *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	stray  *rsa.PrivateKey
	pubPEM []byte // of rsa
}

const issuer, audience = "https://issuer.example", "api"

func newSigners(t *testing.T) *signers {
	t.Helper()
	var s signers
	var err error
	if s.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if s.stray, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if s.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&s.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s.pubPEM = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return &s
}

type object = map[string]any

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// jwks returns the issuer's public keys (RFC 7517, RFC 7518 section 6).
func (s *signers) jwks(t *testing.T) []byte {
	point, err := s.ec.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	return marshal(t, object{"keys": []object{
		{"kty": "RSA", "kid": "rsa-1", "use": "sig", "alg": "RS256",
			"n": b64(s.rsa.N.Bytes()), "e": b64(big.NewInt(int64(s.rsa.E)).Bytes())},
		{"kty": "EC", "kid": "ec-1", "use": "sig", "alg": "ES256", "crv": "P-256",
			"x": b64(point[1:33]), "y": b64(point[33:])},
	}})
}

// sign returns a JWS in compact form (RFC 7515 section 3.1).
func sign(t *testing.T, alg, kid string, claims object, key any) string {
	t.Helper()
	header := object{"alg": alg, "typ": "JWT"}
	if kid != "" {
		header["kid"] = kid
	}
	input := b64(marshal(t, header)) + "." + b64(marshal(t, claims))
	digest := sha256.Sum256([]byte(input))
	var signature []byte
	switch key := key.(type) {
	case *rsa.PrivateKey:
		var err error
		if signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:]); err != nil {
			t.Fatal(err)
		}
	case *ecdsa.PrivateKey:
		r, v, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		signature = make([]byte, 64) // r and s, 32 bytes each (RFC 7518 section 3.4)
		r.FillBytes(signature[:32])
		v.FillBytes(signature[32:])
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(input))
		signature = mac.Sum(nil)
	}
	return input + "." + b64(signature)
}

// tokens returns a token for each TOKEN_ and COOKIE_ variable of the table.
func (s *signers) tokens(t *testing.T, now time.Time) Vars {
	claims := func(change object) object {
		c := object{
			"iss": issuer, "aud": audience, "sub": "anna", "jti": "good-1",
			"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix(),
		}
		maps.Copy(c, change)
		return c
	}
	good := sign(t, "RS256", "rsa-1", claims(nil), s.rsa)
	revoked := sign(t, "RS256", "rsa-1", claims(object{"jti": "revoked-1"}), s.rsa)
	return Vars{
		"COOKIE_OK":         "sid=" + good,
		"COOKIE_REVOKED":    "sid=" + revoked,
		"TOKEN_OK":          good,
		"TOKEN_SCOPE":       sign(t, "ES256", "ec-1", claims(object{"scope": "profile report.read", "jti": "good-2"}), s.ec),
		"TOKEN_NOSCOPE":     sign(t, "RS256", "rsa-1", claims(object{"scope": "profile"}), s.rsa),
		"TOKEN_EXPIRED":     sign(t, "RS256", "rsa-1", claims(object{"exp": now.Add(-time.Hour).Unix(), "iat": now.Add(-2 * time.Hour).Unix()}), s.rsa),
		"TOKEN_BAD_SIG":     breakSignature(good),
		"TOKEN_WRONG_ISS":   sign(t, "RS256", "rsa-1", claims(object{"iss": "https://other.example"}), s.rsa),
		"TOKEN_WRONG_AUD":   sign(t, "RS256", "rsa-1", claims(object{"aud": "other"}), s.rsa),
		"TOKEN_NBF":         sign(t, "RS256", "rsa-1", claims(object{"nbf": now.Add(time.Hour).Unix()}), s.rsa),
		"TOKEN_ALG_NONE":    sign(t, "none", "rsa-1", claims(nil), nil),
		"TOKEN_HS_CONFUSED": sign(t, "HS256", "rsa-1", claims(nil), s.pubPEM),
		"TOKEN_UNKNOWN_KID": sign(t, "RS256", "rsa-2", claims(nil), s.stray),
		"TOKEN_REVOKED":     revoked,
	}
}

// breakSignature changes one bit in the middle of the signature.
func breakSignature(token string) string {
	head, signature := token[:strings.LastIndexByte(token, '.')+1], token[strings.LastIndexByte(token, '.')+1:]
	raw, _ := base64.RawURLEncoding.DecodeString(signature)
	raw[len(raw)/2] ^= 1
	return head + b64(raw)
}

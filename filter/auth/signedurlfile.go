package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules"
)

// Bounds of a file of URL keys.
const (
	maxURLKeys   = 1000
	minURLSecret = 32 // bytes: those of the hash (RFC 2104 section 3)
	maxURLSecret = 1024
)

// urlKeyFile is a file of keys for signed URLs, as YAML:
//
//	keys:
//	  - id: 2026-11
//	    secret: 3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=   # openssl rand -base64 32
//	    subject: cdn                                           # left out: the id
//	    roles: [download]
//	    scopes: [files.read]
//	    claims: {plan: pro}
//	    expires: 2027-01-01
//
// Several keys are there while one takes the other's place.
type urlKeyFile struct {
	Keys []urlKeyEntry `yaml:"keys,required"`
}

type urlKeyEntry struct {
	ID      rules.Located[string]   `yaml:"id,required"`
	Secret  rules.Located[string]   `yaml:"secret,required,secret"`
	Subject rules.Located[string]   `yaml:"subject"`
	Roles   []string                `yaml:"roles,single"`
	Scopes  []rules.Located[string] `yaml:"scopes,single"`
	Claims  map[string]claimValue   `yaml:"claims"`
	Expires rules.Located[string]   `yaml:"expires"`
}

// readURLKeys reads a file of keys by their id. The error is rules.Errors.
func readURLKeys(f File) (map[string]*urlKey, error) {
	var file urlKeyFile
	errs := rules.Decode(f.Name, f.Data, &file)
	top := rules.Position{File: f.Name, Line: 1, Column: 1}
	if len(errs) == 0 && len(file.Keys) == 0 {
		errs.Add(top, "keys", "", "no keys: no URL would hold")
	}
	if len(file.Keys) > maxURLKeys {
		errs.Add(top, "keys", "", "more than %d keys", maxURLKeys)
		return nil, errs.Err()
	}
	keys := make(map[string]*urlKey, len(file.Keys))
	lines := make(map[string]int, len(file.Keys))
	secrets := make(map[[sha256.Size]byte]int, len(file.Keys))
	for _, e := range file.Keys {
		if !e.ID.Set() || !e.Secret.Set() {
			continue // the decoder has reported it
		}
		switch line := lines[e.ID.Value]; {
		case !isKeyID(e.ID.Value):
			errs = append(errs, e.ID.Errorf("letters, digits, dot, hyphen and underscore, 64 at most", "not an id: it stands in URLs"))
		case line != 0:
			errs = append(errs, e.ID.Errorf("give every key an id of its own", "the id %q is in line %d already", e.ID.Value, line))
		}
		lines[e.ID.Value] = e.ID.Pos.Line
		secret, err := base64.StdEncoding.Strict().DecodeString(e.Secret.Value)
		if err != nil || len(secret) < minURLSecret || len(secret) > maxURLSecret {
			errs = append(errs, e.Secret.Errorf("openssl rand -base64 32", "not a secret: base64 of %d to %d bytes", minURLSecret, maxURLSecret))
			continue
		}
		sum := sha256.Sum256(secret)
		if line := secrets[sum]; line != 0 {
			errs = append(errs, e.Secret.Errorf("make a new one for each key", "the same secret is in line %d already", line))
		}
		secrets[sum] = e.Secret.Pos.Line
		who := &filter.Identity{Subject: e.ID.Value, Method: "signed_url", Roles: e.Roles}
		if e.Subject.Set() {
			who.Subject = e.Subject.Value
			if who.Subject == "" || len(who.Subject) > maxUser || !isPlainText(who.Subject) {
				errs = append(errs, e.Subject.Errorf("a name of up to "+strconv.Itoa(maxUser)+" bytes without control characters", "not a subject"))
			}
		}
		for _, s := range e.Scopes {
			if !isScope(s.Value) {
				errs = append(errs, s.Errorf("printable ASCII without space, quotation mark and backslash", "not a scope"))
			}
			who.Scopes = append(who.Scopes, s.Value)
		}
		if len(e.Claims) > 0 {
			who.Claims = make(map[string]any, len(e.Claims))
			for name, v := range e.Claims {
				who.Claims[name] = v.value
			}
		}
		k := &urlKey{who: who}
		k.macs.New = func() any { return &urlMAC{keyedHash: keyedHash{Hash: hmac.New(sha256.New, secret)}} }
		if e.Expires.Set() {
			at, ok := parseTime(e.Expires.Value)
			if !ok {
				errs = append(errs, e.Expires.Errorf("such as 2027-01-01 or 2027-01-01T12:00:00Z", "not a time"))
			}
			k.expires = at
		}
		keys[e.ID.Value] = k
	}
	if err := errs.Err(); err != nil {
		errs.Sort()
		return nil, err
	}
	return keys, nil
}

// isKeyID reports whether s can stand in a URL as it is.
func isKeyID(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
	})
}

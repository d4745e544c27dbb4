package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules"
)

// maxAPIKeys bounds a file of keys.
const maxAPIKeys = 100_000

// apiKeyFile is a file of API keys, as YAML:
//
//	keys:
//	  - id: billing
//	    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//	    roles: [staff]
//	    scopes: [api.read]
//	    claims: {plan: pro}
//	    expires: 2027-01-01
type apiKeyFile struct {
	Keys []apiKeyEntry `yaml:"keys,required"`
}

type apiKeyEntry struct {
	ID      rules.Located[string]   `yaml:"id,required"`
	SHA256  rules.Located[string]   `yaml:"sha256,required,secret"`
	Roles   []string                `yaml:"roles,single"`
	Scopes  []rules.Located[string] `yaml:"scopes,single"`
	Claims  map[string]claimValue   `yaml:"claims"`
	Expires rules.Located[string]   `yaml:"expires"`
}

// claimValue is a claim of a key: a string, a number (float64), a truth value or a
// list of those, as JSON would give them.
type claimValue struct{ value any }

// UnmarshalRules implements rules.Unmarshaler.
func (c *claimValue) UnmarshalRules(n *rules.Node) rules.Errors {
	if n.Kind() == rules.List {
		var all []any
		var errs rules.Errors
		for _, item := range n.Items() {
			var v claimValue
			if item.Kind() != rules.Scalar {
				errs = append(errs, item.Expected("a string, a number or a truth value", "")...)
				continue
			}
			errs = append(errs, v.UnmarshalRules(item)...)
			all = append(all, v.value)
		}
		c.value = all
		return errs
	}
	if n.Kind() != rules.Scalar || n.IsNull() {
		return n.Expected("a string, a number, a truth value or a list", "")
	}
	if n.IsString() {
		c.value = n.String()
		return nil
	}
	var truth bool
	if len(n.Decode(&truth)) == 0 {
		c.value = truth
		return nil
	}
	var number float64
	errs := n.Decode(&number)
	c.value = number
	return errs
}

// readAPIKeys reads a file of keys by their hash. The error is rules.Errors.
func readAPIKeys(f File) (map[[sha256.Size]byte]*apiKey, error) {
	var file apiKeyFile
	errs := rules.Decode(f.Name, f.Data, &file)
	if len(errs) == 0 && len(file.Keys) == 0 {
		errs.Add(rules.Position{File: f.Name, Line: 1, Column: 1}, "keys", "", "no keys: nobody could use one")
	}
	if len(file.Keys) > maxAPIKeys {
		errs.Add(rules.Position{File: f.Name, Line: 1, Column: 1}, "keys", "", "more than %d keys", maxAPIKeys)
		return nil, errs.Err()
	}
	keys := make(map[[sha256.Size]byte]*apiKey, len(file.Keys))
	ids := make(map[string]int, len(file.Keys))
	hashes := make(map[[sha256.Size]byte]int, len(file.Keys))
	for _, e := range file.Keys {
		if !e.ID.Set() || !e.SHA256.Set() {
			continue // the decoder has reported it
		}
		k := &apiKey{who: &filter.Identity{Subject: e.ID.Value, Method: "api_key", Roles: e.Roles}}
		switch line := ids[e.ID.Value]; {
		case e.ID.Value == "" || len(e.ID.Value) > maxUser || !isPlainText(e.ID.Value):
			errs = append(errs, e.ID.Errorf("a name of up to "+strconv.Itoa(maxUser)+" bytes without control characters", "not an id"))
		case line != 0:
			errs = append(errs, e.ID.Errorf("give every key an id of its own", "the id %q is in line %d already", e.ID.Value, line))
		}
		ids[e.ID.Value] = e.ID.Pos.Line
		if n, err := hex.Decode(k.hash[:], hashText(e.SHA256.Value)); err != nil || n != sha256.Size {
			errs = append(errs, e.SHA256.Errorf("printf %s KEY | sha256sum", "not a SHA-256 hash: 64 hexadecimal digits"))
			continue
		}
		if line := hashes[k.hash]; line != 0 {
			errs = append(errs, e.SHA256.Errorf("make a new key for each", "the same key is in line %d already", line))
		}
		if k.hash == sha256.Sum256(nil) {
			errs = append(errs, e.SHA256.Errorf("", "the hash of an empty key"))
		}
		hashes[k.hash] = e.SHA256.Pos.Line
		for _, s := range e.Scopes {
			if !isScope(s.Value) {
				errs = append(errs, s.Errorf("printable ASCII without space, quotation mark and backslash", "not a scope"))
			}
			k.who.Scopes = append(k.who.Scopes, s.Value)
		}
		if len(e.Claims) > 0 {
			k.who.Claims = make(map[string]any, len(e.Claims))
			for name, v := range e.Claims {
				k.who.Claims[name] = v.value
			}
		}
		if e.Expires.Set() {
			at, ok := parseTime(e.Expires.Value)
			if !ok {
				errs = append(errs, e.Expires.Errorf("such as 2027-01-01 or 2027-01-01T12:00:00Z", "not a time"))
			}
			k.expires = at
		}
		keys[k.hash] = k
	}
	if err := errs.Err(); err != nil {
		errs.Sort()
		return nil, err
	}
	return keys, nil
}

// hashText returns at most the digits of one hash, so that a longer text is a
// fault instead of a panic of the decoder.
func hashText(s string) []byte {
	if len(s) != 2*sha256.Size {
		return nil
	}
	return []byte(s)
}

// parseTime reads a time (RFC 3339), or a date, which is its beginning in UTC.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range [...]string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, !t.IsZero()
		}
	}
	return time.Time{}, false
}

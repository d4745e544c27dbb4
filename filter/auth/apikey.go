package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/moatwaf/moat/filter"
)

// APIKeyConfig configures APIKey.
type APIKeyConfig struct {
	// Header is the header field that carries the key; empty takes X-API-Key,
	// unless Query is set.
	Header string
	// Query is the query parameter that carries it; empty takes none. Queries
	// are written into logs and histories: prefer the header.
	Query string
	// Keys is the file with the keys. See readAPIKeys.
	Keys File
}

// maxAPIKey is the length of a key in bytes over which it is not looked at.
const maxAPIKey = 512

// APIKey is a key that names its owner. It is immutable and safe for concurrent
// use.
//
// Keys are random and long, so one SHA-256 is enough to keep them: nobody can try
// all of them, and looking one up costs less than a microsecond.
type APIKey struct {
	header string // canonical
	query  string
	keys   map[[sha256.Size]byte]*apiKey
}

// apiKey is one key: its owner and the time from which it is not good any more.
type apiKey struct {
	hash    [sha256.Size]byte
	who     *filter.Identity
	expires time.Time // zero: never
}

// NewAPIKey reads the keys. The error is rules.Errors for what is in the file.
func NewAPIKey(c APIKeyConfig) (*APIKey, error) {
	a := &APIKey{query: c.Query}
	var errs []error
	switch {
	case c.Header == "" && c.Query == "":
		c.Header = "X-API-Key"
	case c.Header != "" && !isToken(c.Header):
		errs = append(errs, fmt.Errorf("api_key: %q is no name of a header field", c.Header))
	}
	a.header = textproto.CanonicalMIMEHeaderKey(c.Header)
	switch a.header {
	case "Authorization", "Proxy-Authorization", "Cookie", "Host", "Content-Length", "Transfer-Encoding", "Connection":
		errs = append(errs, fmt.Errorf("api_key: the header field %s means something else; take one of its own such as X-API-Key", a.header))
	}
	var err error
	if a.keys, err = readAPIKeys(c.Keys); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return a, nil
}

// Name implements Method.
func (*APIKey) Name() string { return "api_key" }

// Find implements Method. Two keys, wherever they stand, are Malformed.
func (a *APIKey) Find(r *filter.Request) (string, Found) {
	key, found := "", Absent
	if a.header != "" {
		lines := r.HTTP.Header[a.header]
		if len(lines) > 1 {
			return "", Malformed
		}
		if len(lines) == 1 {
			key, found = strings.Trim(lines[0], " \t"), Present
		}
	}
	if a.query == "" || r.HTTP.URL == nil {
		return key, found
	}
	for pair := range strings.SplitSeq(r.HTTP.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err != nil || name != a.query {
			continue
		}
		value, err := url.QueryUnescape(value)
		if err != nil || found == Present {
			return "", Malformed
		}
		key, found = value, Present
	}
	return key, found
}

// Why a key is not good.
var (
	errKeyLength  = &Rejection{Detail: "key empty or too long"}
	errKeyUnknown = &Rejection{Detail: "unknown key"}
	errKeyExpired = &Rejection{Detail: "key expired"}
)

// Verify implements Method.
func (a *APIKey) Verify(r *filter.Request, key string) (*filter.Identity, error) {
	if r.Now.IsZero() {
		return nil, errors.New("the request has no time")
	}
	if key == "" || len(key) > maxAPIKey {
		return nil, errKeyLength
	}
	var buf [maxAPIKey]byte
	hash := sha256.Sum256(buf[:copy(buf[:], key)])
	k := a.keys[hash]
	// Where the look-up ends tells something of a hash, and nothing of a key.
	if k == nil || subtle.ConstantTimeCompare(k.hash[:], hash[:]) != 1 {
		return nil, errKeyUnknown
	}
	if !k.expires.IsZero() && !r.Now.Before(k.expires) {
		return nil, errKeyExpired
	}
	return k.who, nil
}

// Challenge implements Method. The scheme is not registered; many services write
// it like this, and the parameter tells where the key belongs.
func (a *APIKey) Challenge(realm string, p Problem) string {
	if p.Kind == MissingScope {
		return ""
	}
	b := appendParam([]byte("ApiKey "), "realm", realm)
	if a.header != "" {
		return string(appendParam(b, "header", a.header))
	}
	return string(appendParam(b, "query", a.query))
}

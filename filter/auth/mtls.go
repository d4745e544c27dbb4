package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/moatwaf/moat/filter"
)

// CertificateName is a part of a certificate that names its owner.
type CertificateName string

// The parts of a certificate that can name its owner.
const (
	CertificateCN    CertificateName = "cn"    // the common name of the subject
	CertificateURI   CertificateName = "uri"   // a subject alternative name: a URI, such as a SPIFFE id
	CertificateDNS   CertificateName = "dns"   // a subject alternative name: a host name
	CertificateEmail CertificateName = "email" // a subject alternative name: a mail address
	CertificateSPKI  CertificateName = "spki"  // the pin of the public key: sha256/ and base64 (RFC 7469 section 2.4)
)

// CertificateNames are the parts of a certificate that can name its owner.
func CertificateNames() []CertificateName {
	return []CertificateName{CertificateCN, CertificateURI, CertificateDNS, CertificateEmail, CertificateSPKI}
}

// MTLSConfig says which client certificates are taken.
type MTLSConfig struct {
	// Name is the part of a certificate that becomes the caller's name.
	Name CertificateName
	// Allow are the names that are taken, and what they may; nil takes every
	// certificate that is verified.
	Allow []AllowedCertificate
	// CA holds the certificates in PEM that a client's must lead to. The zero File
	// leaves that to the server, which then must have verified it: anybody can
	// make a certificate in any name. Only where Allow lists pins no
	// authority is needed, for the handshake proves who has the key.
	CA File
	// Revoked lists revoked certificates: the SHA-256 of one a line, in
	// hexadecimal, # begins a comment. The zero File revokes none.
	Revoked File
}

// AllowedCertificate is a name that is taken.
type AllowedCertificate struct {
	// Name is compared byte by byte. An asterisk stands for whatever may differ
	// without leaving the owner's hands: at the end of a common name and behind a
	// slash of a URI for any rest, as "*." in front of a host name and as "*@" in
	// front of the domain of a mail address for any beginning.
	Name string
	// Roles and Scopes are granted to the caller, of every entry that fits.
	Roles, Scopes []string
}

// MTLS is the identity of a client certificate (RFC 8446 section 4.4.2). It is read
// from the connection, never from a header field: what ends TLS in front of the filter
// must not be believed about it.
//
// The host decides whether clients are asked for certificates at all; a server that
// asks and does not insist lets other methods stand beside this one. Nobody can be asked for
// a certificate by a challenge: where a requirement takes no other method, a request
// without one is refused with 403. It is safe for concurrent use.
type MTLS struct {
	name    CertificateName
	pinned  bool // a list of keys: whoever has the private one is who is meant
	allow   []AllowedCertificate
	roots   *x509.CertPool
	revoked map[string]struct{}

	mu   sync.RWMutex
	seen map[[sha256.Size]byte]seenCertificate
}

// seenCertificate is a certificate that was taken.
type seenCertificate struct {
	who         *filter.Identity
	from, until time.Time // of every certificate of the chain
}

// maxCertificates bounds the certificates that are remembered.
const maxCertificates = 4096

// NewMTLS checks a configuration. The error joins every fault.
func NewMTLS(c MTLSConfig) (*MTLS, error) {
	m := &MTLS{name: c.Name, allow: c.Allow, pinned: c.Name == CertificateSPKI && c.Allow != nil, seen: make(map[[sha256.Size]byte]seenCertificate)}
	var errs []error
	switch c.Name {
	case CertificateCN, CertificateURI, CertificateDNS, CertificateEmail, CertificateSPKI:
	default:
		errs = append(errs, fmt.Errorf("mtls: a certificate has no %q that could name its owner", c.Name))
	}
	if c.Allow != nil && len(c.Allow) == 0 {
		errs = append(errs, errors.New("mtls: the list of allowed names is empty: nobody could come in"))
	}
	for _, a := range c.Allow {
		exact, where := wildcard(c.Name, a.Name)
		switch {
		case a.Name == "" || a.Name == "*":
			errs = append(errs, fmt.Errorf("mtls: %q is no name to allow: leave the list out to take everybody", a.Name))
		case strings.Contains(exact, "*"):
			errs = append(errs, fmt.Errorf("mtls: %q: %s", a.Name, where))
		case !isPlainText(a.Name):
			errs = append(errs, fmt.Errorf("mtls: %q: control characters or broken UTF-8", a.Name))
		case c.Name == CertificateSPKI && !isPin(a.Name):
			errs = append(errs, fmt.Errorf("mtls: %q is no pin: write sha256/ and the base64 of the key's SHA-256", a.Name))
		}
		for _, s := range a.Scopes {
			if !isScope(s) {
				errs = append(errs, fmt.Errorf("mtls: %q is no scope: printable ASCII without space, quotation mark and backslash", s))
			}
		}
	}
	var err error
	if m.roots, err = readRoots(c.CA); err != nil {
		errs = append(errs, err)
	}
	if m.revoked, err = readFingerprints(c.Revoked); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return m, nil
}

// wildcard returns a name without the asterisk that it may have, and where such a one
// may stand in names of the kind: elsewhere the rest would be somebody else's.
func wildcard(kind CertificateName, name string) (exact, where string) {
	switch kind {
	case CertificateCN:
		return strings.TrimSuffix(name, "*"), "an asterisk stands at the end only"
	case CertificateURI:
		// Behind the authority, with the slash: spiffe://example.org.evil.example
		// begins like spiffe://example.org.
		if prefix, ok := strings.CutSuffix(name, "/*"); ok {
			if _, authority, ok := strings.Cut(prefix, "://"); ok && authority != "" {
				return prefix, ""
			}
		}
		return name, "an asterisk stands at the end only, behind the host and a slash"
	case CertificateDNS:
		return strings.TrimPrefix(name, "*."), "an asterisk stands in front only, with a dot behind it"
	case CertificateEmail:
		return strings.TrimPrefix(name, "*@"), "an asterisk stands in the place of everything before the @"
	}
	return name, "an asterisk stands for nothing here"
}

// isPin reports whether s is the pin of a public key.
func isPin(s string) bool {
	encoded, ok := strings.CutPrefix(s, "sha256/")
	sum, err := base64.StdEncoding.Strict().DecodeString(encoded)
	return ok && err == nil && len(sum) == sha256.Size
}

// Name implements Method.
func (*MTLS) Name() string { return "mtls" }

// Challenge implements Method: a certificate belongs to the handshake, and nobody can
// be asked for one now.
func (*MTLS) Challenge(string, Problem) string { return "" }

// Find implements Method. Where a trusted proxy speaks for the client, the certificate
// is the proxy's: it proves nothing of who sits behind it.
func (*MTLS) Find(r *filter.Request) (string, Found) {
	if r.HTTP.TLS == nil || len(r.HTTP.TLS.PeerCertificates) == 0 || r.Client.IsValid() && r.Client != r.Peer {
		return "", Absent
	}
	return "", Present
}

// Why a certificate is not taken.
var (
	errCertUnverified = &Rejection{Detail: "certificate not verified"}
	errCertTime       = &Rejection{Detail: "certificate expired, or not valid yet"}
	errCertRevoked    = &Rejection{Detail: "certificate revoked"}
	errCertName       = &Rejection{Detail: "certificate without one clear name of the kind"}
	errCertAllowed    = &Rejection{Detail: "certificate of a name that is not allowed"}
)

// Verify implements Method. A certificate that was taken is remembered by its whole
// content, until a certificate of its chain expires.
func (m *MTLS) Verify(r *filter.Request, _ string) (*filter.Identity, error) {
	if r.Now.IsZero() {
		return nil, errors.New("the request has no time")
	}
	state := r.HTTP.TLS
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil, errCertUnverified
	}
	leaf := state.PeerCertificates[0]
	chains := state.VerifiedChains
	switch {
	case m.roots != nil || len(chains) > 0:
	case m.pinned:
		chains = [][]*x509.Certificate{{leaf}}
	default:
		return nil, errCertUnverified
	}
	sum := sha256.Sum256(leaf.Raw)
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	if _, revoked := m.revoked[string(digits[:])]; revoked {
		return nil, errCertRevoked
	}
	m.mu.RLock()
	e, ok := m.seen[sum]
	m.mu.RUnlock()
	if ok && !r.Now.Before(e.from) && !r.Now.After(e.until) {
		return e.who, nil
	}
	if m.roots != nil {
		intermediates := x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			intermediates.AddCert(c)
		}
		var err error
		chains, err = leaf.Verify(x509.VerifyOptions{
			Roots: m.roots, Intermediates: intermediates, CurrentTime: r.Now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		var invalid x509.CertificateInvalidError
		switch {
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			return nil, errCertTime
		case err != nil:
			return nil, errCertUnverified
		}
	}
	// The handshake may be long ago.
	from, until, ok := m.validity(chains, leaf, r.Now)
	if !ok {
		return nil, errCertTime
	}
	who, err := m.identity(leaf, string(digits[:]))
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.seen) >= maxCertificates {
		clear(m.seen)
	}
	m.seen[sum] = seenCertificate{who, from, until}
	return who, nil
}

// validity returns the time in which every certificate of a chain is valid, for a
// chain that begins with the leaf and is valid now, without a revoked one in it.
func (m *MTLS) validity(chains [][]*x509.Certificate, leaf *x509.Certificate, now time.Time) (from, until time.Time, ok bool) {
	for _, chain := range chains {
		if len(chain) == 0 || !chain[0].Equal(leaf) {
			continue
		}
		from, until = leaf.NotBefore, leaf.NotAfter
		revoked := false
		for _, c := range chain {
			if c.NotBefore.After(from) {
				from = c.NotBefore
			}
			if c.NotAfter.Before(until) {
				until = c.NotAfter
			}
			if len(m.revoked) > 0 {
				sum := sha256.Sum256(c.Raw)
				_, listed := m.revoked[hex.EncodeToString(sum[:])]
				revoked = revoked || listed
			}
		}
		if !revoked && !now.Before(from) && !now.After(until) {
			return from, until, true
		}
	}
	return time.Time{}, time.Time{}, false
}

// oidCommonName is the attribute of a common name (RFC 5280 appendix A.1).
var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// namesOf returns the names of a kind that a certificate has.
func namesOf(c *x509.Certificate, kind CertificateName) (names []string) {
	switch kind {
	case CertificateCN:
		// Of several ones every reader believes another.
		for _, attribute := range c.Subject.Names {
			if attribute.Type.Equal(oidCommonName) {
				s, _ := attribute.Value.(string)
				names = append(names, s)
			}
		}
	case CertificateURI:
		for _, u := range c.URIs {
			names = append(names, u.String())
		}
	case CertificateDNS:
		for _, s := range c.DNSNames {
			names = append(names, strings.ToLower(s))
		}
	case CertificateEmail:
		names = c.EmailAddresses
	case CertificateSPKI:
		sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		names = []string{"sha256/" + base64.StdEncoding.EncodeToString(sum[:])}
	}
	return names
}

// identity makes an identity of a certificate that holds. One name of the kind is
// wanted, or, where some are allowed, one that is: a certificate of two services that
// both are would be two callers.
func (m *MTLS) identity(leaf *x509.Certificate, fingerprint string) (*filter.Identity, error) {
	names := namesOf(leaf, m.name)
	who := &filter.Identity{Method: m.Name()}
	fit := 0
	for _, name := range names {
		if name == "" || len(name) > maxUser || !isPlainText(name) {
			return nil, errCertName
		}
		allowed := m.allow == nil
		for _, a := range m.allow {
			if !a.fits(name) {
				continue
			}
			allowed = true
			who.Roles = append(who.Roles, a.Roles...)
			who.Scopes = append(who.Scopes, a.Scopes...)
		}
		if allowed {
			fit++
			who.Subject = name
		}
	}
	switch {
	case len(names) == 0 || fit > 1:
		return nil, errCertName
	case fit == 0:
		return nil, errCertAllowed
	}
	list := func(kind CertificateName) []any {
		var all []any
		for _, name := range namesOf(leaf, kind) {
			all = append(all, name)
		}
		return all
	}
	who.Claims = map[string]any{
		"cn": list(CertificateCN), "uri": list(CertificateURI), "dns": list(CertificateDNS), "email": list(CertificateEmail), "spki": list(CertificateSPKI),
		"issuer": leaf.Issuer.String(), "serial": leaf.SerialNumber.Text(16), "fingerprint": fingerprint,
	}
	return who, nil
}

// fits reports whether an entry allows a name.
func (a *AllowedCertificate) fits(name string) bool {
	if suffix, ok := strings.CutPrefix(a.Name, "*"); ok {
		return len(name) > len(suffix) && strings.HasSuffix(name, suffix)
	}
	if prefix, ok := strings.CutSuffix(a.Name, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return a.Name == name
}

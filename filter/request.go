package filter

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Request is one HTTP request on its way through a pipeline.
//
// It is made by NewRequest, belongs to one goroutine, and goes back to its pool
// with Release. No stage keeps a reference to it, or to anything in it but
// strings, after its Check has returned.
type Request struct {
	// HTTP is the request as the host received it. Stages read it. Only
	// ReadBody changes it, by putting a replay of the same bytes in place of
	// the body that it read.
	HTTP *http.Request

	// Now is the time of the request. It is the only clock of the hot path.
	Now time.Time

	// Peer is the other end of the connection, unmapped (never v4-in-v6).
	Peer netip.Addr

	// Client is the address that rules and tiers apply to, unmapped. A host
	// that derives it by rules of its own sets it before Decide; otherwise
	// the pipeline derives it from Peer and the forwarding headers.
	Client netip.Addr

	// Host is the host name that the request is for: lower case, without
	// port and trailing dot; an IPv6 literal without brackets.
	Host string

	// Path is the path that rules match: see ReadPath. It starts with "/",
	// except for the asterisk form of OPTIONS, which is "*".
	Path string

	// Identity is the verified caller; nil until the auth stage has verified
	// one.
	Identity *Identity

	// Tier is the id of the rate tier that counted the request, of several the
	// last; empty if none did.
	Tier string

	// Detected holds what stages and rules in detect mode would have done.
	// See Detect.
	Detected []Decision

	// Limits are the states of tiers that the answer tells of, whether the
	// request is let through or another stage refuses it. See Announce.
	Limits []Limit

	readings []string // every reading of an ambiguous path, Path among them; nil for most
	pathErr  error
	locator  Locator
	location Location
	located  bool
	body     body
	id       string
	idBuf    [32]byte

	deferred []deferred // calls of Release
	status   int        // of the answer; 0 if unknown
	awaited  bool       // a Finisher needs the status
}

// maxDetected bounds the reports of one request, so that a policy with many
// detecting rules costs no more memory than one with a few.
const maxDetected = 16

var requests = sync.Pool{New: func() any { return new(Request) }}

// NewRequest prepares a request for a decision at the time now: it parses the
// peer's address and reads host and path. It does not read the body, but puts one
// in its place that leaves the end of it to the server. The caller
// gives it back with Release when the answer, or the request to the upstream, is
// through.
func NewRequest(hr *http.Request, now time.Time) *Request {
	r := requests.Get().(*Request)
	hold(hr)
	r.HTTP = hr
	r.Now = now
	r.Peer = PeerAddr(hr.RemoteAddr)
	r.Host = CanonicalHost(hr.Host)
	r.Path, r.readings, r.pathErr = ReadPath(hr.URL)
	if r.Path == "*" && hr.Method != http.MethodOptions {
		// RFC 9112 section 3.2.4. No pattern matches it, so no rule about
		// paths would see the request.
		r.pathErr = errPathAsterisk
	}
	return r
}

// Release tells the finishers that the request has ended, and gives r back. The
// body that ReadBody has put into the HTTP request stays valid.
func (r *Request) Release() {
	r.finish()
	bodyMemory.Add(-r.body.reserved)
	clear(r.Detected)
	clear(r.Limits)
	clear(r.deferred)
	*r = Request{Detected: r.Detected[:0], Limits: r.Limits[:0], deferred: r.deferred[:0]}
	requests.Put(r)
}

// Context returns the context of the HTTP request.
func (r *Request) Context() context.Context { return r.HTTP.Context() }

// ID returns an identifier of the request for audit lines: 128 random bits in
// hexadecimal, made at the first call.
func (r *Request) ID() string {
	if r.id == "" {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
		hex.Encode(r.idBuf[:], b[:])
		r.id = string(r.idBuf[:])
	}
	return r.id
}

// Location returns the country and network of Client. It looks them up at the
// first call and is the zero Location where the policy has no database or the
// database does not know the address.
func (r *Request) Location() Location {
	if !r.located {
		r.located = true
		if r.locator != nil && r.Client.IsValid() {
			r.location = r.locator.Locate(r.Client)
		}
	}
	return r.location
}

// Detect reports what a rule in detect mode would have decided. Reports over a
// bound are dropped.
func (r *Request) Detect(d Decision) {
	if len(r.Detected) < maxDetected {
		r.Detected = append(r.Detected, d)
	}
}

// Ambiguous reports whether two servers could read the path differently.
func (r *Request) Ambiguous() bool { return len(r.readings) > 1 }

// EachReading calls f for every reading of the path, with Path set to it, and
// restores Path. Most requests have one reading. A stage that decides by path
// takes the strictest answer of all readings, never the laxest.
func (r *Request) EachReading(f func(*Request)) {
	if len(r.readings) <= 1 {
		f(r)
		return
	}
	primary := r.Path
	for _, reading := range r.readings {
		r.Path = reading
		f(r)
	}
	r.Path = primary
}

// Location is what a geo database knows of an address.
type Location struct {
	Country string // ISO 3166-1 alpha-2, upper case; empty if unknown
	ASN     uint32 // autonomous system number; 0 if unknown
}

// Locator finds the location of an address. It is safe for concurrent use, does
// no I/O and does not allocate.
type Locator interface {
	Locate(netip.Addr) Location
}

// Matcher is a compiled condition on a request. It is immutable, safe for
// concurrent use, and does not allocate. A condition that cannot be evaluated
// (an expression that fails at run time) returns an error and is neither true
// nor false; the stage decides what that means and fails closed.
type Matcher interface {
	Match(*Request) (bool, error)
}

// Identity is a verified caller.
type Identity struct {
	Subject string   // the verified name: JWT sub, Basic user, API key id
	Method  string   // the method that verified it: "bearer", "basic", ...
	Scopes  []string // granted OAuth scopes
	Roles   []string // granted roles
	Claims  map[string]any

	// Upstream are header fields that the verifier wants the upstream to get, by
	// canonical name. Only those are set that the policy lists; see
	// auth.IdentityHeaders.
	Upstream http.Header

	// Client are header fields that the verifier adds to the answer, by canonical
	// name: a session that was renewed.
	Client http.Header
}

// PeerAddr parses the address of a connection as net/http gives it,
// "host:port" with IPv6 in brackets, and unmaps v4-in-v6. The zone of a
// link-local address is dropped: rules name addresses, not interfaces. The
// result is the zero Addr, which no rule matches and no proxy list trusts, where
// remote is no address, as on a Unix socket.
func PeerAddr(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(remote, "["), "]"))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// CanonicalHost returns the host of a Host field for comparison: lower case,
// without port, brackets and one trailing dot.
func CanonicalHost(host string) string {
	if strings.HasPrefix(host, "[") {
		if end := strings.IndexByte(host, ']'); end > 0 {
			return strings.ToLower(host[1:end])
		}
	}
	if i := strings.IndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i+1:], ':') < 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

package clientip

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
)

// Config says whose word is taken and in which header.
type Config struct {
	// TrustedProxies are the networks whose hosts may speak for a client.
	// IPv4 prefixes written in IPv6 (::ffff:192.0.2.0/120) mean the IPv4
	// network. None trusts nobody: the peer is the client.
	TrustedProxies []netip.Prefix

	// TrustUnix says that whoever connects over a Unix socket may speak for a
	// client. Such a peer has no address that a prefix could name.
	TrustUnix bool

	// Header is the field that the trusted proxies write: X-Forwarded-For,
	// Forwarded (RFC 7239), or a field that holds one address, such as
	// X-Real-IP or CF-Connecting-IP. Case does not matter. Empty reads no
	// header: the peer is the client.
	Header string
}

// The work that one request may cause. A longer chain of trusted proxies than
// this is no chain, but somebody who looks for the limits.
const (
	maxElements = 64      // elements read from the right, empty ones among them
	maxBytes    = 8 << 10 // bytes read from the right, over all field lines
)

type kind uint8

const (
	kindNone kind = iota
	kindList
	kindForwarded
	kindSingle
)

// Resolver derives client addresses. It is immutable and safe for concurrent
// use. The zero Resolver trusts nobody. It implements filter.AddrResolver.
type Resolver struct {
	kind    kind
	header  string // canonical
	trusted networks
	unix    bool
}

// New returns the resolver of c. It returns an error, and no resolver, for a
// header that is no field name and for a prefix that is none.
func New(c Config) (*Resolver, error) {
	var errs []error
	r := &Resolver{header: http.CanonicalHeaderKey(c.Header), unix: c.TrustUnix}
	switch r.header {
	case "":
		r.kind = kindNone
	case "X-Forwarded-For":
		r.kind = kindList
	case "Forwarded":
		r.kind = kindForwarded
	default:
		r.kind = kindSingle
		for i := range len(c.Header) {
			if !isToken(c.Header[i]) {
				errs = append(errs, fmt.Errorf("client address header %s is no field name", excerpt(c.Header)))
				break
			}
		}
	}
	for i, p := range c.TrustedProxies {
		if !p.IsValid() {
			errs = append(errs, fmt.Errorf("trusted proxy %d is no prefix", i+1))
			continue
		}
		r.trusted.add(p)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	r.trusted.compile()
	return r, nil
}

// Trusts reports whether the address may speak for a client.
func (r *Resolver) Trusts(a netip.Addr) bool { return r.trusted.contains(a.Unmap().WithZone("")) }

// Header returns the canonical name of the header field that is read; empty if none is.
func (r *Resolver) Header() string { return r.header }

// ClientAddr returns the address of the client: unmapped, without zone.
//
// If the peer is no trusted proxy it is the client, whatever the headers say.
// The same holds if the header is missing or empty. The zero Addr is the peer of a
// Unix socket; a client that keeps it is matched by no rule about addresses. The header is read from the
// right, over all its lines in the order in which they came (RFC 9110 section
// 5.3); trusted proxies and empty elements are skipped, and the first other
// address is the client. If all are trusted, the leftmost is.
//
// The identifiers "unknown" and "_hidden" of Forwarded (RFC 7239 section 6), and
// an element without a for parameter, say that the hop which reported them keeps
// the address to itself: then that hop is the client.
//
// A header of one address must hold one. It may be repeated only with the same
// address.
//
// The error is a *HeaderError: a trusted proxy said something that is no
// address, or the chain is longer than the bounds of this package. The address
// beside it is the zero Addr.
func (r *Resolver) ClientAddr(peer netip.Addr, header http.Header) (netip.Addr, error) {
	peer = peer.Unmap().WithZone("")
	if r.kind == kindNone || !r.trusted.contains(peer) && (peer.IsValid() || !r.unix) {
		return peer, nil
	}
	lines := header[r.header]
	if len(lines) == 0 {
		return peer, nil
	}
	switch r.kind {
	case kindList:
		return r.fromList(peer, lines, listElement)
	case kindForwarded:
		return r.fromList(peer, lines, forwardedElement)
	case kindSingle:
		return r.fromSingle(peer, lines)
	}
	return netip.Addr{}, &HeaderError{Header: r.header, Problem: "cannot be read"}
}

// elementReader takes the last element off a line. It returns what stands left
// of the separator, whether there was a separator, and what the element is.
type elementReader func(line string) (rest string, more bool, a netip.Addr, st state)

// state is what an element of a list is.
type state uint8

const (
	isInvalid state = iota // no address, and nothing else that the field allows
	isEmpty                // nothing between two separators
	isHidden               // its writer keeps the address to itself
	isAddress
)

func (r *Resolver) fromList(peer netip.Addr, lines []string, last elementReader) (netip.Addr, error) {
	client := peer
	elements, bytes := 0, 0
	for i := len(lines) - 1; i >= 0; i-- {
		line, more := lines[i], true
		for more {
			// Only the bytes that are still allowed are shown to the
			// reader. If it does not find a separator in them, the
			// element is cut, and too long whatever it holds.
			window := line
			if cut := len(line) - (maxBytes - bytes); cut > 0 {
				window = line[cut:]
			}
			rest, sep, a, st := last(window)
			if elements++; elements > maxElements || !sep && len(window) < len(line) {
				return netip.Addr{}, &HeaderError{Header: r.header, Problem: "is too long"}
			}
			switch st {
			case isInvalid:
				return netip.Addr{}, &HeaderError{Header: r.header, Problem: "holds no address where one is due", Excerpt: tail(window, rest, sep)}
			case isHidden:
				return client, nil
			case isAddress:
				if !r.trusted.contains(a) {
					return a, nil
				}
				client = a
			}
			used := len(window) - len(rest)
			bytes += used
			line, more = line[:len(line)-used], sep
		}
	}
	return client, nil
}

func (r *Resolver) fromSingle(peer netip.Addr, lines []string) (netip.Addr, error) {
	if len(lines) > maxElements {
		return netip.Addr{}, &HeaderError{Header: r.header, Problem: "is too long"}
	}
	client := netip.Addr{}
	for _, line := range lines {
		if line = trim(line); line == "" {
			continue
		}
		a, ok := parseAddr(line)
		if !ok {
			return netip.Addr{}, &HeaderError{Header: r.header, Problem: "holds no address where one is due", Excerpt: line}
		}
		if client.IsValid() && client != a {
			return netip.Addr{}, &HeaderError{Header: r.header, Problem: "names two addresses"}
		}
		client = a
	}
	if !client.IsValid() {
		return peer, nil
	}
	return client, nil
}

// HeaderError is a forwarding header of a trusted proxy that cannot be read.
type HeaderError struct {
	Header  string // canonical field name
	Problem string // what is wrong, in words that hold nothing from the request
	Excerpt string // the element at fault, as it came; may be empty
}

// Error returns the fault with the beginning of the element, escaped and bounded,
// so that it can stand in a log line.
func (e *HeaderError) Error() string {
	s := e.Header + " of a trusted proxy " + e.Problem
	if e.Excerpt != "" {
		s += ": " + excerpt(e.Excerpt)
	}
	return s
}

// excerpt quotes the beginning of a string that somebody else has written.
func excerpt(s string) string {
	const limit = 48
	if len(s) <= limit {
		return strconv.QuoteToASCII(s)
	}
	return strconv.QuoteToASCII(s[:limit]) + "..."
}

// tail returns the element that was read off the end of line.
func tail(line, rest string, sep bool) string {
	if sep {
		return line[len(rest)+1:]
	}
	return line[len(rest):]
}

package filtertest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"time"

	"github.com/moatwaf/moat/filter"
)

// Epoch is the time of a built request unless At says another.
var Epoch = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// Peer is the peer of a built request unless From says another: an address for
// documentation (RFC 5737).
const Peer = "192.0.2.1"

// Option changes a request that is being built.
type Option func(*build)

type build struct {
	http     *http.Request
	now      time.Time
	client   netip.Addr
	location filter.Location
	identity *filter.Identity
}

// Get returns a request for target, a path or a URL, as a server would have
// received it. It panics on a target that no server would take.
func Get(target string, opts ...Option) *filter.Request {
	return New(http.MethodGet, target, nil, opts...)
}

// Post returns a POST of body with its Content-Type.
func Post(target, contentType, body string, opts ...Option) *filter.Request {
	opts = append([]Option{Header("Content-Type", contentType)}, opts...)
	return New(http.MethodPost, target, strings.NewReader(body), opts...)
}

// New returns a request of any method; body may be nil.
func New(method, target string, body io.Reader, opts ...Option) *filter.Request {
	b := &build{http: httptest.NewRequest(method, target, body), now: Epoch}
	b.http.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(Peer), 40000).String()
	for _, o := range opts {
		o(b)
	}
	r := filter.NewRequest(b.http, b.now)
	r.Client = r.Peer
	if b.client.IsValid() {
		r.Client = b.client
	}
	// A pipeline without stages is the one way to give a request its locator.
	if b.location != (filter.Location{}) {
		_, _ = filter.NewPipeline(filter.Config{Locator: fixed(b.location)}).Decide(r)
	}
	r.Identity = b.identity
	return r
}

// fixed is a Locator that knows one place.
type fixed filter.Location

func (f fixed) Locate(netip.Addr) filter.Location { return filter.Location(f) }

// From sets peer and client to an address. It panics if addr is none.
func From(addr string) Option {
	a := netip.MustParseAddr(addr)
	return func(b *build) {
		b.http.RemoteAddr = netip.AddrPortFrom(a, 40000).String()
		b.client = a.Unmap()
	}
}

// At sets the time of the request.
func At(t time.Time) Option { return func(b *build) { b.now = t } }

// Host sets the Host field.
func Host(host string) Option { return func(b *build) { b.http.Host = host } }

// Header adds a header line.
func Header(name, value string) Option {
	return func(b *build) { b.http.Header.Add(name, value) }
}

// Chunked makes the length of the body unknown.
func Chunked() Option {
	return func(b *build) {
		b.http.ContentLength = -1
		b.http.TransferEncoding = []string{"chunked"}
		b.http.Header.Del("Content-Length")
	}
}

// In sets country and network of the client.
func In(country string, asn uint32) Option {
	return func(b *build) { b.location = filter.Location{Country: country, ASN: asn} }
}

// As sets the verified caller.
func As(id *filter.Identity) Option { return func(b *build) { b.identity = id } }

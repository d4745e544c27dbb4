package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/moatwaf/moat/filter"
)

// ForwardConfig says which service decides, and what it and the upstream are told.
type ForwardConfig struct {
	// URL is asked with GET about each request. It is an https URL; http is taken
	// for loopback addresses, and for others where Cleartext is set.
	URL       string
	Cleartext bool
	// CA holds the certificates in PEM that the service's must lead to; the zero
	// File takes those of the system.
	CA File
	// RequestHeaders are the names of the header fields of a request that the
	// service gets to see; nil takes DefaultForwardedHeaders.
	RequestHeaders []string
	// UpstreamHeaders are the names of fields of its answer that the upstream
	// gets, as they are; see IdentityHeaders.
	UpstreamHeaders []string
	// ClientHeaders are the names of fields of its answer that are added to the
	// client's, where it lets the request pass; nil takes DefaultClientHeaders.
	ClientHeaders []string
	// Subject, Roles and Scopes are the names of fields of its answer that tell
	// the caller's name, and lists of roles and scopes with commas between them.
	// Empty reads none. An answer that lets pass and lacks Subject is an error.
	Subject, Roles, Scopes string
	// Timeout is how long the service may take; 0 takes DefaultForwardTimeout.
	Timeout time.Duration
	// Transport asks; nil takes one of its own, without a proxy.
	Transport http.RoundTripper
}

// DefaultForwardTimeout is how long an external service may take for its answer.
const DefaultForwardTimeout = 5 * time.Second

// DefaultForwardedHeaders are the fields of a request that an external service gets
// to see, beside the X-Forwarded ones.
func DefaultForwardedHeaders() []string {
	return []string{"Accept", "Accept-Language", "Authorization", "Cookie", "Origin", "Referer", "User-Agent", "X-Requested-With"}
}

// DefaultClientHeaders are the fields of an external service's answer that the client
// of a request gets which the service lets pass: a session may be renewed by that.
func DefaultClientHeaders() []string { return []string{"Set-Cookie"} }

// Bounds of an external service.
const (
	maxForwarded       = 256       // questions at a time
	maxForwardedBody   = 256 << 10 // bytes of an answer's content
	maxForwardedHeader = 64 << 10  // bytes of an answer's header
)

// Forward has an external service decide, as forwardAuth and ext_authz over HTTP do: it
// is asked about the method, the host, the path and some header fields of a request,
// never about its content.
//
// 2xx lets the request pass. 3xx and 4xx go to the client as they are, with
// status, cookies, challenges and content: a login, a refusal. Everything else lets nobody
// pass and is an error of the stage: 5xx, 304, 407, no answer in time, and more content or
// header than is read. No redirect is followed and no answer is remembered.
//
// It takes every request, so it stands behind all other methods. It is safe for
// concurrent use.
type Forward struct {
	config ForwardConfig
	copied []string // canonical
	client []string // canonical
	asking chan struct{}
}

// NewForward checks a configuration. The error joins every fault.
func NewForward(c ForwardConfig) (*Forward, error) {
	f := &Forward{config: c, asking: make(chan struct{}, maxForwarded)}
	errs := []error{checkForwardURL(c.URL, c.Cleartext)}
	copied := c.RequestHeaders
	if copied == nil {
		copied = DefaultForwardedHeaders()
	}
	for _, name := range copied {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !isToken(name):
			errs = append(errs, fmt.Errorf("forward: %q is no name of a header field", name))
		case slices.Contains(notCopied, canonical) || strings.HasPrefix(canonical, "X-Forwarded-"):
			errs = append(errs, fmt.Errorf("forward: %s is not copied: it is of the connection, or moat writes it", canonical))
		}
		f.copied = append(f.copied, canonical)
	}
	for _, name := range c.UpstreamHeaders {
		if err := checkIdentityField(name); err != nil {
			errs = append(errs, fmt.Errorf("forward: upstream_headers: %w", err))
		}
	}
	answered := c.ClientHeaders
	if answered == nil {
		answered = DefaultClientHeaders()
	}
	for _, name := range answered {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !isToken(name):
			errs = append(errs, fmt.Errorf("forward: client_headers: %q is no name of a header field", name))
		case slices.Contains(notAnswered, canonical) || strings.HasPrefix(canonical, "Access-Control-"):
			errs = append(errs, fmt.Errorf("forward: client_headers: %s belongs to the upstream's answer", canonical))
		}
		f.client = append(f.client, canonical)
	}
	for _, name := range []string{c.Subject, c.Roles, c.Scopes} {
		if name != "" && !isToken(name) {
			errs = append(errs, fmt.Errorf("forward: %q is no name of a header field", name))
		}
	}
	if c.Timeout < 0 {
		errs = append(errs, errors.New("forward: a negative time"))
	}
	roots, err := readRoots(c.CA)
	if errs = append(errs, err); errors.Join(errs...) != nil {
		return nil, errors.Join(errs...)
	}
	if c.Timeout == 0 {
		f.config.Timeout = DefaultForwardTimeout
	}
	if c.Transport == nil {
		f.config.Transport = &http.Transport{
			// No proxy of the environment: it would see every credential.
			DialContext:            (&net.Dialer{Timeout: f.config.Timeout}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    f.config.Timeout,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // the client gets what came
			MaxIdleConnsPerHost:    64,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: maxForwardedHeader,
		}
	}
	return f, nil
}

// checkForwardURL refuses what would show credentials to anybody on the way, and let
// them say yes.
func checkForwardURL(s string, cleartext bool) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("forward: %q is no URL of a service", s)
	}
	ip := net.ParseIP(u.Hostname())
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && (cleartext || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()):
	default:
		return fmt.Errorf("forward: %s: the service is asked by https only: whoever is on the way could let anybody in; cleartext: true takes http", s)
	}
	return nil
}

// readRoots reads certificates in PEM; nil if there is no file.
func readRoots(f File) (*x509.CertPool, error) {
	if f.Name == "" && len(f.Data) == 0 {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(f.Data) {
		return nil, fmt.Errorf("%s: no certificate in PEM", f.Name)
	}
	return roots, nil
}

// hopByHop are fields of one connection (RFC 9110 section 7.6.1).
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// notCopied are fields that are no other service's business, or would change what
// its answer means: with If-None-Match it could say 304.
var notCopied = append([]string{
	"Content-Length", "Expect", "Forwarded", "Host", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Range", "X-Real-Ip",
}, hopByHop...)

// notAnswered are fields that say something of the content or the connection, or
// decide who may read it.
var notAnswered = append([]string{
	"Accept-Ranges", "Age", "Content-Encoding", "Content-Length", "Content-Range", "Content-Security-Policy", "Content-Type", "Date", "Etag", "Last-Modified", "Location",
	"Www-Authenticate",
}, hopByHop...)

// Name implements Method.
func (*Forward) Name() string { return "forward" }

// Find implements Method. The service takes every request; two Authorization lines,
// of which it would read either, are Malformed.
func (*Forward) Find(r *filter.Request) (string, Found) {
	if len(r.HTTP.Header["Authorization"]) > 1 {
		return "", Malformed
	}
	return "", Present
}

// Challenge implements Method. The service asks for itself.
func (*Forward) Challenge(string, Problem) string { return "" }

// UpstreamHeaders returns the names of the fields that the service may set for the
// upstream.
func (f *Forward) UpstreamHeaders() []string { return slices.Clone(f.config.UpstreamHeaders) }

var (
	errServiceBusy   = errors.New("the auth service is asked too much at a time")
	errServiceAnswer = errors.New("the auth service's answer cannot be read")
)

// Verify implements Method.
func (f *Forward) Verify(r *filter.Request, _ string) (*filter.Identity, error) {
	select {
	case f.asking <- struct{}{}:
		defer func() { <-f.asking }()
	default:
		return nil, errServiceBusy
	}
	ctx, cancel := context.WithTimeout(r.Context(), f.config.Timeout)
	defer cancel()
	res, err := f.ask(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	switch code := res.StatusCode; {
	case code >= 200 && code <= 299:
		// Read to its end, so that the connection serves the next question.
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxForwardedBody))
		return f.identity(res.Header)
	case code >= 300 && code <= 499 && code != http.StatusNotModified && code != http.StatusProxyAuthRequired:
		body, err := io.ReadAll(io.LimitReader(res.Body, maxForwardedBody+1))
		if err != nil || len(body) > maxForwardedBody {
			return nil, errServiceAnswer
		}
		return nil, &Answered{
			Detail: fmt.Sprintf("answered %d", code),
			Answer: &filter.Answer{Status: code, Header: endToEnd(res.Header), Body: body},
		}
	}
	return nil, fmt.Errorf("the auth service answered %d", res.StatusCode)
}

// ask sends the question. Its error holds nothing of the request.
func (f *Forward) ask(ctx context.Context, r *filter.Request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.config.URL, nil)
	if err != nil {
		return nil, errors.New("the auth service cannot be asked")
	}
	hr := r.HTTP
	for _, name := range f.copied {
		if values := hr.Header[name]; len(values) > 0 {
			req.Header[name] = slices.Clone(values)
		}
	}
	if len(req.Header["User-Agent"]) == 0 {
		req.Header["User-Agent"] = nil // net/http would name itself
	}
	req.Header.Set("X-Forwarded-Method", hr.Method)
	req.Header.Set("X-Forwarded-Proto", forwardedProto(r))
	req.Header.Set("X-Forwarded-Host", hr.Host)
	if hr.URL != nil {
		req.Header.Set("X-Forwarded-Uri", hr.URL.RequestURI())
	}
	if r.Client.IsValid() {
		req.Header.Set("X-Forwarded-For", r.Client.String())
	}
	res, err := f.config.Transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("asking the auth service: %w", err)
	}
	return res, nil
}

// forwardedProto returns the scheme of a request: that of the connection, or what a
// proxy says that was believed about the client's address.
func forwardedProto(r *filter.Request) string {
	if lines := r.HTTP.Header["X-Forwarded-Proto"]; r.Client != r.Peer && len(lines) == 1 && (lines[0] == "https" || lines[0] == "http") {
		return lines[0]
	}
	if r.HTTP.TLS != nil {
		return "https"
	}
	return "http"
}

// identity makes an identity of the header of an answer that lets pass.
func (f *Forward) identity(header http.Header) (*filter.Identity, error) {
	who := &filter.Identity{Method: f.Name()}
	if f.config.Subject != "" {
		values := header.Values(f.config.Subject)
		if len(values) != 1 || values[0] == "" || !isPlainText(values[0]) {
			return nil, errors.New("the auth service lets somebody pass and does not say whom")
		}
		who.Subject = values[0]
	}
	who.Roles = splitList(header, f.config.Roles)
	who.Scopes = splitList(header, f.config.Scopes)
	for _, name := range f.config.UpstreamHeaders {
		name = textproto.CanonicalMIMEHeaderKey(name)
		values := header[name]
		if len(values) == 0 {
			continue
		}
		if slices.ContainsFunc(values, func(v string) bool { return !isFieldValue(v) }) {
			return nil, errServiceAnswer
		}
		if who.Upstream == nil {
			who.Upstream, who.Claims = make(http.Header), make(map[string]any)
		}
		who.Upstream[name], who.Claims[name] = values, values[0]
	}
	for _, name := range f.client {
		values := header[name]
		if len(values) == 0 {
			continue
		}
		if slices.ContainsFunc(values, func(v string) bool { return !isFieldValue(v) }) {
			return nil, errServiceAnswer
		}
		if who.Client == nil {
			who.Client = make(http.Header)
		}
		who.Client[name] = values
	}
	return who, nil
}

// splitList returns the items of a field that is a list with commas.
func splitList(header http.Header, name string) (items []string) {
	if name == "" {
		return nil
	}
	for _, line := range header.Values(name) {
		for item := range strings.SplitSeq(line, ",") {
			if item = strings.Trim(item, " \t"); item != "" && isPlainText(item) {
				items = append(items, item)
			}
		}
	}
	return items
}

// isFieldValue reports whether s can be sent as the value of a header field (RFC 9110
// section 5.5).
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// endToEnd returns the fields that are meant for the client.
func endToEnd(header http.Header) http.Header {
	out := header.Clone()
	for _, line := range header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			out.Del(textproto.TrimString(name))
		}
	}
	for _, name := range hopByHop {
		out.Del(name)
	}
	out.Del("Content-Length") // HEAD has one, too; it is counted anew
	return out
}

package list

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// maxRedirects is how often a server may send a download elsewhere.
const maxRedirects = 5

// snapshot is a good answer of a server.
type snapshot struct {
	set          *Set
	sum          [sha256.Size]byte // of the text
	etag         string
	lastModified string
	fetched      time.Time // when the server last confirmed it
}

// fresh reports whether the copy is young enough to be used without a question.
// A copy from the future is not: the clock was set.
func (c *snapshot) fresh(every time.Duration) bool {
	age := time.Since(c.fetched)
	return age >= 0 && age < every
}

// transport is shared, so that lists of one server share its connections.
var transport = func() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes = 64 << 10
	return t
}()

// fetch asks the server, for a change since old if that is not nil. It returns
// what is good now, which is old itself with a new time if nothing has changed,
// and keeps a copy on disk.
func (s *Source) fetch(ctx context.Context, old *snapshot) (*snapshot, error) {
	timeout := s.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return nil, &LoadError{s.displayURL(), errors.New("the url cannot be read")}
	}
	request.Header.Set("User-Agent", "moat")
	if old != nil && old.etag != "" {
		request.Header.Set("If-None-Match", old.etag)
	}
	if old != nil && old.lastModified != "" {
		request.Header.Set("If-Modified-Since", old.lastModified)
	}
	client := http.Client{Transport: s.Transport, CheckRedirect: checkRedirect}
	if client.Transport == nil {
		client.Transport = transport
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, &LoadError{s.displayURL(), withoutURL(err)}
	}
	defer response.Body.Close()

	if old != nil && response.StatusCode == http.StatusNotModified {
		now := *old
		now.fetched = time.Now()
		s.keep(&now, nil)
		return &now, nil
	}
	if response.StatusCode != http.StatusOK {
		return nil, &LoadError{s.displayURL(), fmt.Errorf("the server answered %d", response.StatusCode)}
	}
	data, err := readAll(response.Body, s.maxBytes())
	if err != nil {
		return nil, &LoadError{s.displayURL(), withoutURL(err)}
	}
	return s.accept(response.Header, data, old)
}

// accept makes a snapshot of an answer, if it is a good list.
func (s *Source) accept(header http.Header, data []byte, old *snapshot) (*snapshot, error) {
	// A list without entries has at least a comment that says so; an answer
	// without any text is a server's accident.
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, &LoadError{s.displayURL(), errors.New("the answer is empty")}
	}
	now := &snapshot{
		sum:          sha256.Sum256(data),
		etag:         validator(header.Get("ETag")),
		lastModified: validator(header.Get("Last-Modified")),
		fetched:      time.Now(),
	}
	if old != nil && now.sum == old.sum {
		now.set = old.set
		s.keep(now, nil)
		return now, nil
	}
	set, errs := Parse(s.displayURL(), data, s.Format)
	if errs != nil {
		return nil, errs
	}
	now.set = set
	s.keep(now, data)
	return now, nil
}

// validator returns a header's value if it is of a sensible length.
func validator(value string) string {
	if len(value) > 1024 {
		return ""
	}
	return value
}

var (
	errRedirects = fmt.Errorf("more than %d redirects", maxRedirects)
	errDowngrade = errors.New("a redirect from https to http")
	errScheme    = errors.New("a redirect to something that is neither https nor http")
)

// checkRedirect is the redirect policy of downloads (http.Client.CheckRedirect).
func checkRedirect(next *http.Request, via []*http.Request) error {
	last := via[len(via)-1].URL.Scheme
	switch {
	case len(via) > maxRedirects:
		return errRedirects
	case next.URL.Scheme != "https" && next.URL.Scheme != "http":
		return errScheme
	case last == "https" && next.URL.Scheme != "https":
		return errDowngrade
	}
	return nil
}

// withoutURL returns the cause of an error of net/http, which repeats the URL, in
// an operator's words.
func withoutURL(err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the answer was cut off: %w", err)
	}
	return err
}

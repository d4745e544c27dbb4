package filtertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"time"

	"github.com/moatwaf/moat/filter"
)

// watchedBody is a client's body that notes what is done to it. It belongs to
// one request.
type watchedBody struct {
	content []byte
	end     error // nil is io.EOF
	pos     int
	closed  bool
	misuse  bool // read after Close
}

var errClosed = errors.New("read after Close")

// Read yields the content in uneven pieces, as a connection does.
func (b *watchedBody) Read(p []byte) (int, error) {
	if b.closed {
		b.misuse = true
		return 0, errClosed
	}
	if b.pos == len(b.content) {
		if b.end != nil {
			return 0, b.end
		}
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 4093)], b.content[b.pos:])
	b.pos += n
	return n, nil
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	b.closed = true
	return nil
}

// checkReplay reads the body as the upstream would.
func (b *watchedBody) checkReplay(t reporter, hr *http.Request, name string) {
	t.Helper()
	if b.closed {
		t.Errorf("%s: the stage has closed the body", name)
		return
	}
	got, err := io.ReadAll(hr.Body)
	if !errors.Is(err, b.end) {
		t.Errorf("%s: the upstream's body ends in %v, the client's in %v", name, err, b.end)
	}
	if !bytes.Equal(got, b.content) {
		t.Errorf("%s: the upstream gets %d bytes, the client has sent %d, and they differ", name, len(got), len(b.content))
	}
	if err := hr.Body.Close(); err != nil || !b.closed {
		t.Errorf("%s: closing the upstream's body does not close the client's: %v", name, err)
	}
	if b.misuse {
		t.Errorf("%s: the body is read after Close", name)
	}
}

// captured is everything of a request that a stage must leave as it is.
type captured struct {
	pointer *http.Request
	ctx     context.Context
	http    http.Request
	url     url.URL

	now          time.Time
	peer, client netip.Addr
	host, path   string
}

func capture(r *filter.Request) captured {
	c := captured{
		pointer: r.HTTP, ctx: r.HTTP.Context(), url: *r.HTTP.URL,
		now: r.Now, peer: r.Peer, client: r.Client, host: r.Host, path: r.Path,
	}
	clone := r.HTTP.Clone(context.Background())
	c.http = *clone
	return c
}

// changes names what differs from what was captured.
func (c *captured) changes(r *filter.Request) []string {
	var names []string
	same := func(name string, equal bool) {
		if !equal {
			names = append(names, name)
		}
	}
	same("Request.HTTP", r.HTTP == c.pointer)
	if r.HTTP == nil {
		return names
	}
	same("the context", r.HTTP.Context() == c.ctx)
	same("the URL", r.HTTP.URL != nil && reflect.DeepEqual(*r.HTTP.URL, c.url))

	was, is := reflect.ValueOf(&c.http).Elem(), reflect.ValueOf(r.HTTP).Elem()
	for i := range was.NumField() {
		field := was.Type().Field(i)
		switch field.Name {
		case "Body", "URL", "GetBody", "Cancel":
			continue
		}
		if field.IsExported() {
			same(field.Name, reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()))
		}
	}

	same("Request.Now", r.Now.Equal(c.now))
	same("Request.Peer", r.Peer == c.peer)
	same("Request.Client", r.Client == c.client)
	same("Request.Host", r.Host == c.host)
	same("Request.Path", r.Path == c.path)
	return names
}

package differ

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/moatwaf/moat/rules/waf/crscorpus"
)

// Field is a header field as a client writes it.
type Field struct{ Name, Value string }

// Message is a request in parts that can be changed one by one.
type Message struct {
	Method, Target, Proto string
	Header                []Field
	Body                  string
	// Chunked sends the body with Transfer-Encoding: chunked.
	Chunked bool
	// AsIs sends the header as it is: no Content-Length is added or corrected.
	AsIs bool
	// HTTP2 shows the request to the stage as one that came by HTTP/2.
	HTTP2 bool
	// Remote is the client's address and port; empty for crscorpus.ClientAddr.
	Remote string
}

// clone returns a copy that shares nothing that can be changed.
func (m Message) clone() Message {
	m.Header = slices.Clone(m.Header)
	return m
}

// Get returns the value of the first field of that name.
func (m *Message) Get(name string) string {
	for _, f := range m.Header {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// Set gives a field one value.
func (m *Message) Set(name, value string) {
	m.Del(name)
	m.Header = append(m.Header, Field{name, value})
}

// Del removes every field of a name.
func (m *Message) Del(name string) {
	m.Header = slices.DeleteFunc(m.Header, func(f Field) bool { return strings.EqualFold(f.Name, name) })
}

// Raw returns the bytes on the wire.
func (m *Message) Raw() []byte {
	var b bytes.Buffer
	b.WriteString(m.Method + " " + m.Target + " " + m.Proto + "\r\n")
	for _, f := range m.Header {
		if !m.AsIs && (strings.EqualFold(f.Name, "Content-Length") || m.Chunked && strings.EqualFold(f.Name, "Transfer-Encoding")) {
			continue
		}
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	switch {
	case m.AsIs:
	case m.Chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n")
	case m.Body != "" || m.Get("Content-Length") != "":
		b.WriteString("Content-Length: " + strconv.Itoa(len(m.Body)) + "\r\n")
	}
	b.WriteString("\r\n")
	if !m.Chunked || m.AsIs {
		b.WriteString(m.Body)
		return b.Bytes()
	}
	for rest := m.Body; rest != ""; {
		n := min(len(rest), 4000)
		b.WriteString(strconv.FormatInt(int64(n), 16) + "\r\n" + rest[:n] + "\r\n")
		rest = rest[n:]
	}
	b.WriteString("0\r\n\r\n")
	return b.Bytes()
}

// ParseMessage takes the bytes of a request apart. ok is false for what has no
// request line or a line that is no field.
func ParseMessage(raw []byte) (m Message, ok bool) {
	head, body, ok := strings.Cut(string(raw), "\r\n\r\n")
	if !ok {
		return Message{}, false
	}
	lines := strings.Split(head, "\r\n")
	first := strings.IndexByte(lines[0], ' ')
	last := strings.LastIndexByte(lines[0], ' ')
	if first < 0 || first == last {
		return Message{}, false
	}
	m = Message{Method: lines[0][:first], Target: lines[0][first+1 : last], Proto: lines[0][last+1:], Body: body}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return Message{}, false
		}
		m.Header = append(m.Header, Field{name, strings.TrimSpace(value)})
	}
	if strings.Contains(strings.ToLower(m.Get("Transfer-Encoding")), "chunked") {
		m.AsIs = true // the body is framed already
	}
	return m, true
}

// Request is what net/http's server made of a Message. It can be asked for as
// often as needed.
type Request struct {
	http *http.Request
	body []byte
	err  error // how the body ends
}

// errNoHandler is a request that no handler sees.
var errNoHandler = errors.New("the server answers by itself")

// Parse lets net/http's server read a message. The error is that of a request which
// the server refuses by itself.
func Parse(m *Message) (*Request, error) {
	c := crscorpus.Case{Raw: m.Raw()}
	hr, err := c.Request()
	if err != nil {
		return nil, errNoHandler
	}
	r := &Request{http: hr}
	if hr.Body != nil && hr.Body != http.NoBody {
		if r.body, r.err = io.ReadAll(hr.Body); r.err == nil {
			r.err = io.EOF
		}
	}
	if m.Remote != "" {
		hr.RemoteAddr = m.Remote
	}
	if m.HTTP2 {
		hr.Proto, hr.ProtoMajor, hr.ProtoMinor = "HTTP/2.0", 2, 0
		hr.TransferEncoding = nil
		for _, name := range []string{"Connection", "Keep-Alive", "Upgrade", "Proxy-Connection", "Transfer-Encoding"} {
			hr.Header.Del(name)
		}
	}
	ctx := context.WithValue(context.Background(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}))
	r.http = hr.WithContext(ctx)
	return r, nil
}

// Size returns how many bytes of target, header values and body a request has.
func (r *Request) Size() int {
	n := len(r.http.RequestURI) + len(r.body)
	for _, values := range r.http.Header {
		for _, v := range values {
			n += len(v)
		}
	}
	return n
}

// HTTP returns the request anew, its body unread.
func (r *Request) HTTP() *http.Request {
	hr := r.http.Clone(r.http.Context())
	if r.err != nil {
		hr.Body = &body{data: bytes.NewReader(r.body), err: r.err}
	}
	return hr
}

// body is what a handler can read of a body, and how that ends.
type body struct {
	data *bytes.Reader
	err  error
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.data.Read(p)
	if err == io.EOF {
		err = b.err
	}
	return n, err
}

func (b *body) Close() error { return nil }

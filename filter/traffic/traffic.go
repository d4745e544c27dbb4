// Package traffic reads recorded requests: a request as it stands on the wire, a
// curl command line, an entry of an HTTP archive, a line of moat's audit log.
//
//	text -> Parse -> []Message -> Message.Request -> *http.Request as a server has it
//
// A Message is data of somebody else: nothing in it is executed, and no file that it
// names is opened.
package traffic

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// MaxSize is the largest text that Parse takes, in bytes.
const MaxSize = 64 << 20

// The forms of a recorded request.
const (
	FormRaw   = "raw"
	FormCurl  = "curl"
	FormHAR   = "har"
	FormAudit = "audit"
)

// Field is one line of a header.
type Field struct{ Name, Value string }

// Message is one recorded request.
type Message struct {
	Form   string // where it comes from: FormRaw, FormCurl, FormHAR, FormAudit
	Method string
	Target string // the request target of RFC 9112 section 3.2, as it goes over the wire
	Proto  string // "HTTP/1.1"
	Host   string
	Header []Field // without Host
	Body   []byte
	Client string // an address; empty if it is not known
}

// Error is a fault of a recorded request with its place.
type Error struct {
	Line int // from 1; 0 if the fault has no line
	Msg  string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Msg
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Msg)
}

func fault(line int, format string, args ...any) error {
	return &Error{Line: line, Msg: fmt.Sprintf(format, args...)}
}

// Parse returns the requests of a text in any of the forms, at least one. An error
// is an *Error.
func Parse(data []byte) ([]Message, error) {
	if len(data) > MaxSize {
		return nil, fault(0, "the text is larger than %d bytes", MaxSize)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	text := bytes.TrimLeft(data, " \t\r\n$")
	switch {
	case len(text) == 0:
		return nil, fault(0, "there is no request")
	case text[0] == '{':
		return parseJSON(text)
	case bytes.HasPrefix(text, []byte("curl ")), bytes.HasPrefix(text, []byte("curl\t")), bytes.HasPrefix(text, []byte("curl.exe ")):
		m, err := parseCurl(string(text))
		return []Message{m}, err
	}
	m, err := parseRaw(bytes.TrimLeft(data, "\r\n"))
	return []Message{m}, err
}

// parseRaw reads a request as it stands on the wire. Lines may end without a
// carriage return, and what follows the header is the body where no length says
// otherwise.
func parseRaw(data []byte) (Message, error) {
	head, body := data, []byte(nil)
	line, lines := 0, 0
	for rest := data; len(rest) > 0; {
		text, after, _ := bytes.Cut(rest, []byte("\n"))
		text = bytes.TrimSuffix(text, []byte("\r"))
		line++
		if len(text) == 0 {
			head, body = data[:len(data)-len(rest)], after
			break
		}
		if lines++; lines > 1 && text[0] != ' ' && text[0] != '\t' && !bytes.Contains(text, []byte(":")) {
			return Message{}, fault(line, "a header line has a name, a colon and a value")
		}
		rest = after
	}
	head = append(bytes.TrimRight(bytes.Clone(head), "\r\n"), "\r\n\r\n"...)
	r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head), bytes.NewReader(body))))
	if err != nil {
		return Message{}, fault(1, "this is neither a request, nor a curl line, nor JSON: %v", plain(err))
	}
	m := Message{Form: FormRaw, Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Host: r.Host, Body: body}
	switch {
	case len(r.TransferEncoding) > 0:
		if m.Body, err = io.ReadAll(r.Body); err != nil {
			return Message{}, fault(line+1, "the body: %v", plain(err))
		}
	case r.Header.Get("Content-Length") != "":
		n := int(r.ContentLength)
		if trimmed := bytes.TrimRight(body, "\r\n"); len(body) < n || n < len(trimmed) {
			return Message{}, fault(line+1, "the body has %d bytes, Content-Length says %d", len(body), n)
		}
		m.Body = body[:n]
	default: // written by hand: the last line feed is the editor's
		m.Body = bytes.TrimSuffix(bytes.TrimSuffix(body, []byte("\n")), []byte("\r"))
	}
	// The order of the lines, and names as they were written.
	for raw := range bytes.SplitSeq(head, []byte("\n")) {
		name, value, ok := strings.Cut(strings.TrimSuffix(string(raw), "\r"), ":")
		if !ok || len(m.Header) == 0 && strings.Contains(name, " ") {
			continue
		}
		switch textproto.CanonicalMIMEHeaderKey(name) {
		case "Host", "Content-Length", "Transfer-Encoding":
			continue
		}
		if name != "" && name[0] != ' ' && name[0] != '\t' {
			m.Header = append(m.Header, Field{name, strings.Trim(value, " \t")})
		} else if n := len(m.Header); n > 0 { // a folded line
			m.Header[n-1].Value += " " + strings.TrimSpace(string(raw))
		}
	}
	return m, nil
}

// plain returns an error without the request that some errors of net/http hold.
func plain(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("it ends too early")
	}
	return err
}

// Request returns the request as a server gets it from net/http. The error is an
// *Error, for a target that is none.
func (m *Message) Request() (*http.Request, error) {
	proto := m.Proto
	major, minor, ok := http.ParseHTTPVersion(proto)
	if !ok {
		proto, major, minor = "HTTP/1.1", 1, 1
	}
	target := m.Target
	if target == "" {
		target = "/"
	}
	var (
		u   *url.URL
		err error
	)
	if m.Method == http.MethodConnect && !strings.HasPrefix(target, "/") {
		u, err = url.ParseRequestURI("http://" + target) // authority form
		if err == nil {
			u.Scheme = ""
		}
	} else {
		u, err = url.ParseRequestURI(target)
	}
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return nil, fault(0, "the request target cannot be read: %v", err)
	}
	r := &http.Request{
		Method: m.Method, URL: u, RequestURI: target, Proto: proto, ProtoMajor: major, ProtoMinor: minor,
		Host: m.Host, Header: http.Header{}, Body: http.NoBody, RemoteAddr: "192.0.2.1:40000",
	}
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	if u.Host != "" && r.Host == "" {
		r.Host = u.Host
	}
	for _, f := range m.Header {
		r.Header.Add(f.Name, f.Value)
	}
	if len(m.Body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(m.Body)), int64(len(m.Body))
		r.Header.Set("Content-Length", strconv.Itoa(len(m.Body)))
	}
	if m.Client != "" {
		a, err := netip.ParseAddr(m.Client)
		if err != nil {
			return nil, fault(0, "the client %q is no address", m.Client)
		}
		r.RemoteAddr = netip.AddrPortFrom(a, 40000).String()
	}
	return r, nil
}

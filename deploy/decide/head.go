package decide

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Bounds of a head.
const (
	maxHead   = 2 << 20 // bytes; twice what net/http takes of a client
	maxFields = 1000
	headLines = 7 // before the fields
)

// bodyState is what the host has said of the client's body.
const (
	noBody        = int64(0)
	unknownLength = int64(-1)
)

// head is the request of a client, as a host tells it.
type head struct {
	method  string
	target  string
	major   int
	minor   int
	proto   string
	host    string
	peer    string
	length  int64 // of the body; unknownLength if there is one of unknown length
	hasBody bool

	tls      bool
	chunked  bool
	wait     bool
	withheld bool
	report   bool
	traefik  bool
	max      int64 // most bytes of the body that the host sends; 0 for no bound
	client   netip.Addr
	trailer  []string

	header http.Header
	url    *url.URL
}

// versions are those that a host may name.
var versions = map[string][2]int{"HTTP/1.0": {1, 0}, "HTTP/1.1": {1, 1}, "HTTP/2.0": {2, 0}, "HTTP/3.0": {3, 0}}

// clientError is a request that a host was able to tell, and that no server would
// take. It is refused as the policy refuses, not reported as the host's fault.
type clientError struct{ problem string }

// Error implements error. It holds nothing that the client has sent.
func (e *clientError) Error() string { return e.problem }

var (
	errLines  = errors.New("the head ends before its seven lines do")
	errEnd    = errors.New("the head does not end with an empty line")
	errField  = errors.New("a line of the head is no field")
	errFields = fmt.Errorf("the head has more than %d fields", maxFields)
)

// parseHead reads a head. A *clientError comes with the head, of which method and
// header can be used; beside any other error there is nil.
func parseHead(text string) (*head, error) {
	h := new(head)
	var lines [headLines]string
	for i := range lines {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			return nil, errLines
		}
		lines[i], text = line, rest
	}
	h.method, h.target, h.proto, h.host, h.peer = lines[0], lines[1], lines[2], lines[3], lines[4]
	version, ok := versions[h.proto]
	if !ok {
		return nil, errors.New("the head names no version of HTTP")
	}
	h.major, h.minor = version[0], version[1]
	switch body := lines[5]; body {
	case "-":
	case "?":
		h.hasBody, h.length = true, unknownLength
	default:
		n, err := strconv.ParseUint(body, 10, 62)
		if err != nil {
			return nil, errors.New("the head's line about the body is none")
		}
		h.hasBody, h.length = true, int64(n)
	}
	if err := h.parseWords(lines[6]); err != nil {
		return nil, err
	}
	var err error
	if h.header, err = parseFields(text); err != nil {
		return nil, err
	}
	return h, h.parseTarget()
}

// parseWords reads the line of words.
func (h *head) parseWords(line string) error {
	for word := range strings.FieldsSeq(line) {
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "tls":
			h.tls = true
		case "chunked":
			h.chunked = true
		case "wait":
			h.wait = true
		case "withheld":
			h.withheld = true
		case "report":
			h.report = true
		case "host":
			h.traefik = value == "traefik"
		case "max":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 62)
			h.max = int64(n)
		case "client":
			h.client, err = netip.ParseAddr(value)
			h.client = h.client.Unmap().WithZone("")
		case "trailer":
			h.trailer = append(h.trailer, strings.Split(value, ",")...)
		}
		if err != nil {
			return fmt.Errorf("the word %s of the head has no value that it could have", name)
		}
	}
	return nil
}

// parseFields reads field lines up to the empty line, which must be the end. Names
// become canonical, as net/http has them.
func parseFields(text string) (http.Header, error) {
	n := strings.Count(text, "\n")
	if n > maxFields+1 {
		return nil, errFields
	}
	header := make(http.Header, n)
	values := make([]string, max(n-1, 0)) // of all fields; most have one value
	for {
		line, rest, ok := strings.Cut(text, "\r\n")
		if !ok {
			return nil, errEnd
		}
		if line == "" {
			if rest != "" {
				return nil, errEnd
			}
			return header, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !httpguts.ValidHeaderFieldName(name) {
			return nil, errField
		}
		if !httpguts.ValidHeaderFieldValue(value) { // before trimming, which takes line ends too
			return nil, errField
		}
		value = textproto.TrimString(value)
		name = textproto.CanonicalMIMEHeaderKey(name)
		if before := header[name]; before != nil || len(values) == 0 {
			header[name] = append(before, value)
		} else {
			values[0] = value
			header[name], values = values[:1:1], values[1:]
		}
		text = rest
	}
}

// parseTarget reads the request target as net/http does (RFC 9112 section 3.2).
func (h *head) parseTarget() error {
	if !httpguts.ValidHeaderFieldName(h.method) { // a token, like a name
		h.method = http.MethodGet
		return &clientError{"the method is no token"}
	}
	raw := h.target
	authority := h.method == http.MethodConnect && !strings.HasPrefix(raw, "/")
	if authority {
		raw = "http://" + raw
	}
	u, err := url.ParseRequestURI(raw)
	if err != nil {
		return &clientError{"the request target cannot be read"}
	}
	if authority {
		u.Scheme = ""
	}
	if !httpguts.ValidHostHeader(h.host) {
		return &clientError{"the host is no host"}
	}
	if h.host == "" {
		h.host = u.Host
	}
	h.url = u
	return nil
}

package view

import (
	"net/url"
	"strings"

	"github.com/moatwaf/moat/filter"
)

// Classes of bytes in a path.
const (
	pathPlain  = iota // stays as it is when net/url parses and writes a URL
	pathEscape        // begins an escape
	pathEnd           // ends the path
	pathOther
)

var pathClass = func() (class [256]uint8) {
	for i := range class {
		class[i] = pathOther
	}
	for c := range 26 {
		class['a'+c], class['A'+c] = pathPlain, pathPlain
	}
	// RFC 3986 section 3.3, and the brackets that browsers leave alone.
	for _, c := range []byte("0123456789-._~/!$&'()*+,;=:@[]") {
		class[c] = pathPlain
	}
	class['%'] = pathEscape
	class['?'], class['#'] = pathEnd, pathEnd
	return class
}()

// target sets what follows from the request line.
func (b *Builder) target(v *View, r *filter.Request) Reason {
	h := r.HTTP
	uri := h.RequestURI
	if uri == "" {
		uri = h.URL.RequestURI()
	}
	v.single[requestMethod] = h.Method
	v.single[requestProtocol] = h.Proto
	v.single[requestURIRaw] = uri
	mark := v.mark()
	v.buf = append(v.buf, h.Method...)
	v.buf = append(v.buf, ' ')
	v.buf = append(v.buf, uri...)
	v.buf = append(v.buf, ' ')
	v.buf = append(v.buf, h.Proto...)
	v.single[requestLine] = v.since(mark)

	path, query := v.splitTarget(uri)
	v.single[requestFilename] = path
	v.single[requestBasename] = baseOf(path)
	v.single[queryString] = query
	list, size, ok := v.appendForm(v.list[argsGet], query, b.o.Arguments)
	if !ok {
		return Arguments
	}
	v.list[argsGet] = list
	v.getSize = size
	v.single[argsCombinedSize] = v.number(size)
	return Known
}

// splitTarget returns the decoded path and the query, and sets REQUEST_URI.
func (v *View) splitTarget(uri string) (path, query string) {
	end, escapes, plain := 0, 0, uri != "" && uri[0] == '/'
scan:
	for ; plain && end < len(uri); end++ {
		switch pathClass[uri[end]] {
		case pathPlain:
		case pathEscape:
			if end+2 >= len(uri) || unhex[uri[end+1]] > 15 || unhex[uri[end+2]] > 15 {
				return v.parseTarget(uri)
			}
			escapes++
		case pathEnd:
			break scan
		default:
			return v.parseTarget(uri)
		}
	}
	rest := uri[end:]
	for i := range len(rest) {
		if c := rest[i]; c < ' ' || c == 0x7f {
			return v.parseTarget(uri)
		} else if c == '#' {
			uri, rest = uri[:end+i], rest[:i]
			break
		}
	}
	if !plain {
		return v.parseTarget(uri)
	}
	v.single[requestURI] = uri
	path = uri[:end]
	if escapes > 0 {
		mark := v.mark()
		for i := 0; i < len(path); i++ {
			c := path[i]
			if c == '%' {
				c = unhex[path[i+1]]<<4 | unhex[path[i+2]]
				i += 2
			}
			v.buf = append(v.buf, c)
		}
		path = v.since(mark)
	}
	return path, strings.TrimPrefix(rest, "?")
}

// parseTarget is splitTarget for what is rare: the absolute form, the asterisk and
// that of CONNECT, bytes that should have been escaped, and what does not parse.
func (v *View) parseTarget(uri string) (path, query string) {
	if i := strings.IndexByte(uri, '#'); i >= 0 {
		uri = uri[:i]
	}
	u, err := url.ParseRequestURI(uri)
	if err == nil {
		v.single[requestURI] = u.String()
		return u.Path, u.RawQuery
	}
	v.single[uriParseError] = "1"
	v.single[requestURI] = uri
	path, query, _ = strings.Cut(uri, "?")
	return path, query
}

// baseOf returns what follows the last slash of a path; all of it if nothing does.
func baseOf(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' || path[i] == '\\' {
			if i+1 < len(path) {
				return path[i+1:]
			}
			break
		}
	}
	return path
}

package waf

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf/view"
)

// payload is a request body as the rules are to see it.
type payload struct {
	kind bodyKind
	data []byte
	// cut says that data is only the beginning of the body, by the policy's own
	// choice. That it does not parse to its end is then no fault of the client.
	cut bool
	// dear says that the engine's parser would cost too much.
	dear bool
	// whole says that data is XML as the client sent it; see settle.
	whole bool
	// delimiters are where the delimiters of a multipart body begin, if they are few.
	delimiters delimiters
}

// delimiters are places in a body at which "--" and its boundary stand, none inside
// another.
type delimiters struct {
	boundary string // empty if the places are not known
	count    int
	at       [view.MaxDelimiters]int
}

// settle does the part of the preparation that only the engine needs. If bounded,
// it finds out whether the body is too dear for the engine's parser.
func (p *payload) settle(arguments int, bounded bool) {
	if bounded {
		switch p.kind {
		case kindMultipart:
			p.dear = tooManyFiles(p.data)
		case kindJSON, kindNDJSON:
			p.dear = nesting(p.data) > maxNesting
		case kindXML:
			p.dear = tooMuchXML(p.data, arguments)
		}
	}
	if p.whole && !p.dear {
		p.whole, p.data = false, flattenXML(p.data, arguments)
	}
}

// readPayload reads and prepares the body of a request, of which limit bytes are to
// be shown, compressed and decompressed. refusal is set where the
// body decides by itself: too large, broken, or in a coding that nobody here can
// read. A payload of kindNone means that only the headers are judged.
func (s *Stage) readPayload(r *filter.Request, kind bodyKind, limit int64) (p payload, refusal *filter.Decision) {
	if kind == kindNone {
		return payload{}, nil
	}
	coding, known := contentCoding(r.HTTP.Header)
	if !known || coding != codingIdentity && !s.decodes[coding] {
		return payload{}, &filter.Decision{
			Verdict: filter.Block, Reason: filter.ReasonMalformed, Status: http.StatusUnsupportedMediaType,
			Detail: "the content coding of the body cannot be decoded",
		}
	}
	if r.HTTP.ContentLength > s.config.BodyLimit {
		switch s.config.Oversize {
		case OversizeBlock:
			return payload{}, oversize("the announced body is over the limit")
		case OversizePass:
			return payload{}, nil
		}
	}

	data, whole, err := r.ReadBody(s.config.BodyLimit)
	if err != nil {
		if filter.BodyTooLarge(err) {
			return payload{}, oversize("the body is over the host's limit")
		}
		return payload{}, malformed("the body could not be read to its end")
	}
	if !whole {
		switch s.config.Oversize {
		case OversizeBlock:
			return payload{}, oversize("the body is over the limit")
		case OversizePass:
			return payload{}, nil
		}
	}
	if int64(len(data)) > limit {
		data, whole = data[:limit], false
	}
	p = payload{kind: kind, data: data, cut: !whole}

	if coding != codingIdentity && len(data) > 0 {
		plain, end, err := decode(coding, data, limit, p.cut)
		if err != nil {
			return payload{}, malformed("the compressed body is broken")
		}
		if !end {
			switch s.config.Oversize {
			case OversizeBlock:
				return payload{}, oversize("the decompressed body is over the limit")
			case OversizePass:
				return payload{}, nil
			}
			p.cut = true
		}
		p.data = plain
	}
	return s.prepare(r.HTTP.Header, p)
}

func oversize(detail string) *filter.Decision {
	return &filter.Decision{Verdict: filter.Block, Reason: filter.ReasonOversize, Detail: detail}
}

func malformed(detail string) *filter.Decision {
	return &filter.Decision{Verdict: filter.Block, Reason: filter.ReasonMalformed, Detail: detail}
}

// prepare turns the bytes of a body into what the engine's parsers take.
func (s *Stage) prepare(h http.Header, p payload) (payload, *filter.Decision) {
	switch p.kind {
	case kindText:
		p.data = trimBOM(p.data)
		if !p.cut && looksLikeJSON(p.data) && json.Valid(p.data) {
			// Beacons send JSON as text/plain, so that no preflight is needed.
			p.kind, p.data = kindJSON, showGraphQL(p.data)
		} else if !p.cut && mediaType(h) == "application/graphql" {
			if values, ok := graphQLValues(string(p.data)); ok {
				if shown, err := json.Marshal(values); err == nil {
					p.kind, p.data = kindJSON, shown
				}
			}
		}
	case kindJSON:
		p.data = trimBOM(p.data)
		if !p.cut {
			p.data = showGraphQL(p.data)
		}
	case kindNDJSON:
		p.data = joinLines(trimBOM(p.data))
	case kindXML:
		p.data, p.whole = trimBOM(p.data), true
	case kindMultipart:
		return s.boundParts(h, p)
	}
	return p, nil
}

// trimBOM removes a UTF-8 byte order mark. RFC 8259 section 8.1 lets a parser
// ignore it, and many do.
func trimBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) }

// looksLikeJSON reports whether b begins as a JSON object or array.
func looksLikeJSON(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) > 0 && (b[0] == '{' || b[0] == '[')
}

// joinLines makes an array of newline-delimited JSON. A line that is no document
// makes the array invalid, and the rule about bodies that do not parse refuses it.
func joinLines(b []byte) []byte {
	out := make([]byte, 0, len(b)+2)
	out = append(out, '[')
	for line := range bytes.Lines(b) {
		line = bytes.Trim(line, " \t\r\n")
		if len(line) == 0 {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, line...)
	}
	return append(out, ']')
}

// boundParts applies the policy for costly bodies to a multipart body of more
// parts than there may be arguments. The engine writes each file to the disk, so
// their number is bounded before it sees them.
func (s *Stage) boundParts(h http.Header, p payload) (payload, *filter.Decision) {
	boundary, plain := plainBoundary(h)
	if !plain {
		boundary = boundaryOf(h)
	}
	if boundary == "" {
		return p, nil // the engine reports it
	}
	var buf [128]byte
	delimiter := append(append(buf[:0], "--"...), boundary...)
	rest, seen := p.data, 0
	d := delimiters{boundary: boundary}
	for {
		i := bytes.Index(rest, delimiter)
		if i < 0 {
			if seen <= len(d.at) {
				d.count = seen
				p.delimiters = d
			}
			return p, nil
		}
		if seen < len(d.at) {
			d.at[seen] = len(p.data) - len(rest) + i
		}
		if seen++; seen > s.config.arguments+1 { // one more closes the last part
			break
		}
		rest = rest[i+len(delimiter):]
	}
	switch s.config.Oversize {
	case OversizeBlock:
		return payload{}, oversize("the body has too many parts")
	case OversizePass:
		return payload{}, nil
	}
	p.data, p.cut = p.data[:len(p.data)-len(rest)], true
	return p, nil
}

// plainBoundary returns the boundary of a Content-Type field as browsers write it,
// which is what mime.ParseMediaType returns for it; ok is false for any other.
func plainBoundary(h http.Header) (boundary string, ok bool) {
	values := h["Content-Type"]
	if len(values) == 0 {
		return "", false
	}
	boundary, ok = strings.CutPrefix(values[0], "multipart/form-data; boundary=")
	if !ok || boundary == "" {
		return "", false
	}
	for i := range len(boundary) {
		c := boundary[i]
		if c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return "", false
		}
	}
	return boundary, true
}

// formPairs returns the pairs of a text that looks like a form: HTML forms of
// enctype text/plain and beacons send such, and an upstream may parse it so.
func formPairs(text string) [][2]string {
	first, _, _ := strings.Cut(text, "=")
	if len(first) == len(text) || len(first) > 128 || !isToken(strings.NewReplacer("[", "", "]", "", "%", "", "+", "").Replace(first)+"x") {
		return nil
	}
	var pairs [][2]string
	for pair := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == '&' || c == '\r' || c == '\n' }) {
		name, value, _ := strings.Cut(pair, "=")
		pairs = append(pairs, [2]string{unescapeForm(name), unescapeForm(value)})
	}
	return pairs
}

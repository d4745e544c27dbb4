package crscorpus

import (
	"bytes"
	"net/textproto"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// field is a header field; names keep their case.
type field struct{ name, value string }

// header is the fields in order.
type header []field

func (h header) has(name string) bool {
	for _, f := range h {
		if textproto.CanonicalMIMEHeaderKey(f.name) == name {
			return true
		}
	}
	return false
}

func (h header) contentTypeIs(match func(string) bool) bool {
	for _, f := range h {
		if textproto.CanonicalMIMEHeaderKey(f.name) == "Content-Type" && match(f.value) {
			return true
		}
	}
	return false
}

const formType = "application/x-www-form-urlencoded"

// withBody is how go-ftw finds methods that get a Content-Length: the expression
// is its own, with its own idea of where the anchors bind.
var withBody = regexp.MustCompile(`^POST|PUT|PATCH|DELETE$`)

// buildRaw writes a request as go-ftw v2 does. With autocomplete, data without a
// type becomes a form, form data that has no encoding is encoded, Connection:
// close and Content-Length are added. Multipart bodies get CRLF for LF in any case.
func buildRaw(method, uri, version string, h header, data string, autocomplete bool) []byte {
	if data != "" && autocomplete {
		if !h.has("Content-Type") {
			h = append(h, field{"Content-Type", formType})
		}
		if h.contentTypeIs(func(v string) bool { return strings.EqualFold(v, formType) }) {
			data = encodeForm(data)
		}
	}
	if h.contentTypeIs(func(v string) bool { return strings.Contains(strings.ToLower(v), "multipart/form-data;") }) {
		data = strings.ReplaceAll(data, "\n", "\r\n")
	}
	if autocomplete {
		if !h.has("Connection") {
			h = append(h, field{"Connection", "close"})
		}
		if !h.has("Content-Length") && (data != "" || withBody.MatchString(method)) {
			h = append(h, field{"Content-Length", strconv.Itoa(len(data))})
		}
	}
	var b bytes.Buffer
	b.WriteString(method + " " + uri + " " + version + "\r\n")
	for _, f := range h {
		b.WriteString(f.name + ": " + f.value + "\r\n")
	}
	b.WriteString("\r\n")
	b.WriteString(data)
	return b.Bytes()
}

// encodeForm encodes the names and values of a form that has no encoding yet:
// one that decoding leaves as it is.
func encodeForm(data string) string {
	if decoded, err := url.QueryUnescape(data); err != nil || decoded != data {
		return data
	}
	pairs := strings.Split(strings.TrimSuffix(data, "&"), "&")
	for i, pair := range pairs {
		name, value, found := strings.Cut(pair, "=")
		pairs[i] = url.QueryEscape(name)
		if found {
			pairs[i] += "=" + url.QueryEscape(value)
		}
	}
	return strings.Join(pairs, "&")
}

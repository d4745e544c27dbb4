package filter

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// Bounds of ReadPath. A path over maxPathLen bytes, or one that can be read in
// more than maxReadings ways, is refused: nothing that a person or a program
// writes in good faith comes near. RFC 9110 section 4.1 asks for 8000 octets.
const (
	maxPathLen  = 8 << 10
	maxReadings = 16
)

// The faults of a path. They hold no part of it.
var (
	errPathNone     = errors.New("path: the request has none")
	errPathOpaque   = errors.New("path: the request target is no path")
	errPathAsterisk = errors.New("path: the asterisk form is for OPTIONS")
	errPathLong     = errors.New("path: longer than 8 KiB")
	errPathEscape   = errors.New("path: malformed percent-encoding")
	errPathControl  = errors.New("path: control character")
	errPathOverlong = errors.New("path: overlong UTF-8 sequence")
	errPathNested   = errors.New("path: percent-encoded three times or more")
	errPathReadings = errors.New("path: can be read in too many ways")
)

// ReadPath returns the path of a request as its upstream will read it.
//
// The primary reading, path, is percent-decoded once, its slashes are merged,
// then its dot segments are removed (RFC 3986 section 5.2.4). It starts with
// "/" and keeps a trailing slash. An empty path, as in the authority form of
// CONNECT and in an absolute form without path, is "/". The asterisk form (RFC
// 9112 section 3.2.4) stays "*".
//
// Servers differ in what they do beyond that. Where a difference matters to
// this path, readings holds each distinct result, the primary one first, at
// most 16; otherwise readings is nil. The differences are:
//
//   - an encoded slash (%2F) separates segments, or is a part of one; in the
//     second case it stays in the reading as "%2F"
//   - a backslash, encoded or not, is a slash, or is not
//   - path parameters (";x" up to the next slash) are dropped before dot
//     segments are looked for, as servlet containers do, or belong to the
//     segment: "/a/..;/b" is "/b" or "/a/..;/b"
//   - the path is decoded once, or once more: "%252e" is "%2e" or "."
//   - slashes are merged before dot segments are removed, or after:
//     "/a//../b" is "/b" or "/a/b"
//   - a "?" or "#" in the decoded path ends it, or does not
//
// What was sent is judged: u.RawPath where it is an encoding of u.Path.
//
// The error is the client's (status 400) and holds nothing of the path. It is
// returned for a path with a control character (NUL among them) in any reading,
// a malformed percent-encoding, an overlong UTF-8 sequence, an encoding nested
// three times, more than 8 KiB, more than 16 readings, and for a request target
// that is no path at all.
//
// A path with nothing to do is returned as it is, without allocation. ReadPath
// does not fold case and does not normalise Unicode.
func ReadPath(u *url.URL) (path string, readings []string, err error) {
	if u == nil {
		return "", nil, errPathNone
	}
	if u.RawPath == "" && u.Opaque == "" && len(u.Path) <= maxPathLen && plainPath(u.Path) {
		return u.Path, nil, nil
	}
	switch {
	case u.Opaque != "":
		return "", nil, errPathOpaque
	case max(len(u.Path), len(u.RawPath)) > maxPathLen:
		return "", nil, errPathLong
	case u.Path == "":
		return "/", nil, nil
	case u.Path == "*":
		return "*", nil, nil
	}
	texts, err := decodings(u)
	if err != nil {
		return "", nil, err
	}
	return readTexts(texts)
}

// Classes of bytes in a decoded path.
const (
	byteUsual   = iota
	byteSlash   // may begin an empty or a dot segment
	byteLead    // may begin an overlong UTF-8 sequence
	byteSpecial // is read differently by different servers, or is refused
)

var pathBytes = func() (class [256]uint8) {
	for c := range 0x20 {
		class[c] = byteSpecial
	}
	for _, c := range []byte("\x7f%\\;?#") {
		class[c] = byteSpecial
	}
	for _, c := range []byte{0xC0, 0xC1, 0xE0, 0xF0} {
		class[c] = byteLead
	}
	class['/'] = byteSlash
	return class
}()

// plainPath reports whether the decoded path s has one reading, which is s.
func plainPath(s string) bool {
	if s == "" || s[0] != '/' {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch pathBytes[s[i]] {
		case byteUsual:
		case byteSlash:
			if i+1 < len(s) && (s[i+1] == '/' || s[i+1] == '.' && dotSegment(s[i+1:])) {
				return false
			}
		case byteLead:
			if overlongAt(s[i:]) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// dotSegment reports whether s begins with "." or ".." as a whole segment.
func dotSegment(s string) bool {
	for n := range 3 {
		if n == len(s) || s[n] == '/' {
			return n > 0
		}
		if s[n] != '.' {
			return false
		}
	}
	return false
}

// overlongAt reports whether s begins with a UTF-8 sequence that is longer than
// its code point needs (RFC 3629 section 3). Lenient decoders have read C0 AF
// as a slash. A lone byte of another encoding is no such sequence.
func overlongAt(s string) bool {
	if len(s) < 2 {
		return false
	}
	switch s[0] {
	case 0xC0, 0xC1:
		return s[1]&0xC0 == 0x80
	case 0xE0:
		return s[1] >= 0x80 && s[1] < 0xA0
	case 0xF0:
		return s[1] >= 0x80 && s[1] < 0x90
	}
	return false
}

// decodings returns the distinct texts that percent-decoding the path of u may
// give: once and twice, with encoded slashes decoded or kept as "%2F". The text
// of the primary reading is the first.
func decodings(u *url.URL) ([]string, error) {
	once := u.Path
	if err := judgeText(once); err != nil {
		return nil, err
	}
	texts := make([]string, 1, 5)
	texts[0] = once

	onceOpaque := once
	if u.RawPath != "" {
		sent, ok := decodeStrict(u.RawPath, false)
		if !ok {
			return nil, errPathEscape
		}
		// net/url itself ignores a RawPath that is no encoding of Path: a
		// handler before us has changed Path alone.
		if sent == once {
			onceOpaque, _ = decodeStrict(u.RawPath, true)
			texts = appendNew(texts, onceOpaque)
		}
	}
	if strings.IndexByte(once, '%') < 0 {
		return texts, nil
	}

	twice, changed := decodeLenient(once, false)
	if !changed {
		return texts, nil
	}
	if err := judgeText(twice); err != nil {
		return nil, err
	}
	if _, nested := decodeLenient(twice, false); nested {
		return nil, errPathNested
	}
	texts = appendNew(texts, twice)
	for _, first := range [...]string{once, onceOpaque} {
		kept, _ := decodeLenient(first, true)
		texts = appendNew(texts, kept)
	}
	return texts, nil
}

// judgeText refuses a decoded text that no reader should get.
func judgeText(s string) error {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < 0x20 || c == 0x7F:
			return errPathControl
		case c >= 0xC0 && overlongAt(s[i:]):
			return errPathOverlong
		}
	}
	return nil
}

// decodeStrict decodes s once; keepSlash leaves an encoded slash as "%2F". It
// fails where a "%" begins no escape.
func decodeStrict(s string, keepSlash bool) (string, bool) {
	if strings.IndexByte(s, '%') < 0 {
		return s, true
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		c, ok := escapeAt(s[i:])
		if !ok {
			return "", false
		}
		writeDecoded(&b, c, keepSlash)
		i += 2
	}
	return b.String(), true
}

// decodeLenient decodes the escapes of s and leaves every other "%" alone. It
// reports whether there was an escape.
func decodeLenient(s string, keepSlash bool) (decoded string, changed bool) {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		c, ok := escapeAt(s[i:])
		if !ok {
			b.WriteByte(s[i])
			continue
		}
		writeDecoded(&b, c, keepSlash)
		i += 2
		changed = true
	}
	return b.String(), changed
}

func writeDecoded(b *strings.Builder, c byte, keepSlash bool) {
	if c == '/' && keepSlash {
		b.WriteString("%2F")
		return
	}
	b.WriteByte(c)
}

// escapeAt returns the byte of the percent-encoding at the beginning of s.
func escapeAt(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	hi, lo := unhex(s[1]), unhex(s[2])
	return hi<<4 | lo&0xF, hi < 16 && lo < 16
}

// unhex returns the value of a hexadecimal digit, 16 or more for another byte.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xFF
}

// readTexts returns the readings of the decoded texts: each of them with and
// without what servers do beyond decoding. The primary reading is that of the
// first text with nothing done.
func readTexts(texts []string) (path string, readings []string, err error) {
	for _, text := range texts {
		variants := [8]string{text}
		n := 1
		add := func(from int, f func(string) string) {
			for i := range from {
				if v := f(variants[i]); v != variants[i] {
					variants[n] = v
					n++
				}
			}
		}
		add(n, cutQuery)
		add(n, func(s string) string { return strings.ReplaceAll(s, `\`, "/") })
		add(n, dropParameters)
		for _, v := range variants[:n] {
			readings = appendNew(readings, cleanPath(v, true))
			if strings.Contains(v, "//") {
				readings = appendNew(readings, cleanPath(v, false))
			}
		}
		if len(readings) > maxReadings {
			return "", nil, errPathReadings
		}
	}
	if len(readings) == 1 {
		return readings[0], nil, nil
	}
	return readings[0], readings, nil
}

// dropParameters removes ";" and what follows it from each segment.
func dropParameters(s string) string {
	semicolon := strings.IndexByte(s, ';')
	if semicolon < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	b = append(b, s[:semicolon]...)
	dropping := true
	for i := semicolon; i < len(s); i++ {
		switch s[i] {
		case '/':
			dropping = false
		case ';':
			dropping = true
		}
		if !dropping {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// cutQuery ends s at the first "?" or "#".
func cutQuery(s string) string {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		return s[:i]
	}
	return s
}

// cleanPath merges slashes and removes dot segments, in this order or in the
// other, and returns a path that starts with "/".
func cleanPath(s string, mergeFirst bool) string {
	out := make([]byte, 0, len(s)+1)
	for rest, more := s, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		last := !more
		switch segment {
		case "..":
			for i := len(out) - 1; i >= 0; i-- {
				if out[i] == '/' {
					out = out[:i]
					break
				}
			}
		case ".":
		case "":
			// The empty text before the leading slash is no segment, nor is
			// the one after a trailing slash.
			if !mergeFirst && !last && len(rest) != len(s)-1 {
				out = append(out, '/')
			}
		default:
			out = append(out, '/')
			out = append(out, segment...)
			continue
		}
		if last {
			out = append(out, '/')
		}
	}
	if !mergeFirst {
		out = slices.CompactFunc(out, func(a, b byte) bool { return a == '/' && b == '/' })
	}
	return string(out)
}

// appendNew appends s unless list holds it.
func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

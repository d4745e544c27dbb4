package waf

import "bytes"

// What the engine's body parsers cost is bounded before they see a body, for a few
// shapes make them dear that have few arguments and few bytes.

// maxNesting is the largest sum of nesting that is parsed: the engine's parser goes
// over the content of an object or array once for each one around it, at about six
// bytes in a nanosecond. A document of 1 MiB may be 150 deep from beginning to end.
const maxNesting = 150 << 20

// nesting returns the sum, over all bytes of a JSON text, of the objects and arrays
// that each byte is in.
func nesting(b []byte) int {
	sum, depth, quoted := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			quoted = !quoted
		case '\\':
			if quoted {
				sum += depth
				i++
			}
		case '{', '[':
			if !quoted {
				depth++
			}
		case '}', ']':
			if !quoted {
				depth--
			}
		}
		sum += depth
	}
	return sum
}

// Bounds of XML that is parsed.
const (
	maxXMLBytes    = 640 << 10 // of a document
	maxXMLElements = 40_000    // beginnings and ends of elements, comments and the like
)

// tooMuchXML reports whether an XML document would cost too much to parse: by its
// size, by the number of its elements, or by a tag with more attributes than there
// may be arguments.
func tooMuchXML(b []byte, attributes int) bool {
	if len(b) > maxXMLBytes || bytes.Count(b, []byte("<")) > maxXMLElements {
		return true
	}
	for {
		i := bytes.IndexByte(b, '<')
		if i < 0 || i+1 == len(b) {
			return false
		}
		b = b[i+1:]
		if b[0] == '!' || b[0] == '?' {
			continue
		}
		tag := b
		if end := bytes.IndexByte(b, '>'); end >= 0 {
			tag = b[:end]
		}
		if bytes.Count(tag, []byte("=")) > attributes {
			return true
		}
		b = b[len(tag):]
	}
}

// maxUploads bounds the files of an upload, each of which the engine's parser writes
// to the disk.
const maxUploads = 100

// tooManyFiles reports whether a multipart body has more files than that, or may
// have.
func tooManyFiles(b []byte) bool { return uploads(b) < len(b) }

// uploads returns how many bytes of a multipart body hold as many files as may be
// parsed.
func uploads(b []byte) int {
	const word = "filename"
	n := 0
	for i := 0; i+len(word) <= len(b); i++ {
		if b[i]|0x20 == word[0] && bytes.EqualFold(b[i:i+len(word)], []byte(word)) {
			if n++; n > maxUploads {
				return i
			}
			i += len(word) - 1
		}
	}
	return len(b)
}

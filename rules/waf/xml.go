package waf

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
)

// flattenXML returns a document with the same values that the engine's XML parser
// takes, whose names it does not mistake for HTML: that parser closes elements
// named param and link by itself and then refuses every XML-RPC call and every
// feed. Attribute values and document type declarations stand among the text too,
// where most rules look; an upstream that resolves entities reads them there.
//
// It ends with the first node over the limit, which is enough to refuse the request.
//
// What does not parse is returned as it is, and the engine refuses it.
func flattenXML(b []byte, limit int) []byte {
	b = toUTF8(b)
	dec := xml.NewDecoder(bytes.NewReader(b))
	dec.Strict = false
	dec.Entity = xml.HTMLEntity

	var out bytes.Buffer
	out.WriteString("<x>")
	nodes := 0
	text := func(s []byte) {
		if len(bytes.TrimSpace(s)) == 0 {
			return
		}
		nodes++
		out.WriteString("<t>")
		_ = xml.EscapeText(&out, s) // a bytes.Buffer takes everything
		out.WriteString("</t>")
	}
	for {
		token, err := dec.Token()
		switch tok := token.(type) {
		case xml.StartElement:
			for _, attr := range tok.Attr {
				out.WriteString(`<a v="`)
				_ = xml.EscapeText(&out, []byte(attr.Value))
				out.WriteString(`"/>`)
				text([]byte(attr.Value))
			}
		case xml.CharData:
			text(tok)
		case xml.Directive:
			text(tok)
		}
		var syntax *xml.SyntaxError
		switch {
		case err == nil && nodes <= limit:
			continue
		case err == nil:
		case errors.Is(err, io.EOF):
		case errors.As(err, &syntax) && syntax.Msg == "unexpected EOF":
			// The engine's parser takes a document that ends too early.
		default:
			return b
		}
		out.WriteString("</x>")
		return out.Bytes()
	}
}

// xmlDeclaration is an XML declaration with an encoding.
var xmlDeclaration = regexp.MustCompile(`\A\s*<\?xml\s[^>]{0,200}?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)["']`)

// toUTF8 returns an XML document in an eight-bit Latin encoding in UTF-8: the
// parser knows no other. The C1 range of windows-1252 becomes control characters,
// which is enough for rules. Documents in further encodings stay as they are and
// do not parse.
func toUTF8(b []byte) []byte {
	m := xmlDeclaration.FindSubmatchIndex(b)
	if m == nil {
		return b
	}
	switch strings.ToLower(string(b[m[2]:m[3]])) {
	case "iso-8859-1", "iso-8859-15", "latin1", "us-ascii", "ascii", "windows-1252":
	default:
		return b
	}
	out := make([]byte, 0, len(b)+len(b)/8)
	out = append(out, b[:m[2]]...)
	out = append(out, "utf-8"...)
	for _, c := range b[m[3]:] {
		if c < 0x80 {
			out = append(out, c)
		} else {
			out = append(out, 0xc0|c>>6, 0x80|c&0x3f)
		}
	}
	return out
}

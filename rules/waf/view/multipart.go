package view

import (
	"mime"
	"strings"
)

// Bounds of what is compared with each other: the files of a body, the bytes of
// their names, the header fields of a part.
const (
	maxFiles    = 128
	maxFilename = 255
	maxFields   = 16
)

// maxBoundary is more than RFC 2046 section 5.1.1 lets a boundary have, in bytes,
// and less than makes the engine's parser read a line in pieces.
const maxBoundary = 200

// multipart sets the fields and files of a multipart body (RFC 7578) that has one
// reading: every line ends with CRLF, no header goes on in a second line, no
// parameter but filename* is extended, nothing but an empty line stands before the
// first boundary, and the last one is there.
func (b *Builder) multipart(v *View, s string, in *Body) Reason {
	if in.Cut {
		return OddMultipart
	}
	boundary, ok := v.boundary()
	if !ok {
		return OddMultipart
	}
	mark := v.mark()
	v.buf = append(v.buf, "\r\n--"...)
	v.buf = append(v.buf, boundary...)
	delimiter := v.since(mark)
	known := in.Delimiters[:in.Count]
	if in.Boundary != boundary || strings.IndexByte(boundary, '\n') >= 0 {
		known = nil
	}
	whole := s
	s = strings.TrimPrefix(s, "\r\n")
	if !strings.HasPrefix(s, delimiter[2:]) {
		return OddMultipart
	}
	rest := s[len(delimiter)-2:]
	total, size := 0, 0
	for parts := 0; ; parts++ {
		// Behind a boundary.
		if strings.HasPrefix(rest, "--") {
			if rest = rest[2:]; rest != "" && !strings.HasPrefix(rest, "\r\n") {
				return OddMultipart
			}
			break
		}
		if !strings.HasPrefix(rest, "\r\n") {
			return OddMultipart
		}
		if parts == b.o.Arguments {
			return Arguments
		}
		var p part
		if rest, ok = v.partHeader(&p, rest[2:]); !ok {
			return OddMultipart
		}
		var content string
		if known != nil {
			content, rest, ok = cutKnown(whole, len(whole)-len(rest), &known, delimiter)
		} else {
			content, rest, ok = cutPart(rest, delimiter)
		}
		if !ok {
			return OddMultipart
		}
		total += len(content)
		if p.filename == "" {
			v.list[argsPost] = append(v.list[argsPost], Pair{p.name, content})
			size += len(p.name) + len(content)
			continue
		}
		v.list[filesNames] = append(v.list[filesNames], Pair{"", p.name})
		if !v.addFile(&p, p.filename, len(content)) || p.other != "" && !v.addFile(&p, p.other, len(content)) {
			return Arguments
		}
	}
	if len(v.list[partHeaders]) > b.o.Arguments {
		return Arguments
	}
	v.single[filesCombinedSize] = v.number(total)
	v.addArguments(size)
	return Known
}

// boundary returns the boundary that the request's Content-Type names.
func (v *View) boundary() (string, bool) {
	media, _, _ := strings.Cut(v.media, ";")
	if len(media) == len("multipart/form-data") && hasPrefixFold(media, "multipart/form-data") {
		var p parameters
		if v.parameters(&p, v.media[len(media):]) {
			return p.boundary, p.boundary != "" && len(p.boundary) <= maxBoundary
		}
	}
	media, all, err := mime.ParseMediaType(v.media)
	boundary := all["boundary"]
	return boundary, err == nil && strings.HasPrefix(media, "multipart/") &&
		boundary != "" && len(boundary) <= maxBoundary && !strings.ContainsAny(boundary, "\r\n")
}

// cutPart returns the content of a part and what follows the boundary behind it.
func cutPart(s, delimiter string) (content, rest string, ok bool) {
	if strings.HasPrefix(s, delimiter[2:]) {
		// Nothing between the header and the boundary, not even a line end.
		if rest := s[len(delimiter)-2:]; endsBoundary(rest) {
			return "", rest, true
		}
	}
	for from := 0; ; {
		i := strings.Index(s[from:], delimiter)
		if i < 0 {
			return "", "", false
		}
		from += i + len(delimiter)
		if rest := s[from:]; endsBoundary(rest) {
			return s[:from-len(delimiter)], rest, true
		}
	}
}

// cutKnown is cutPart for what begins at from, where the delimiters are known. It takes
// those that it has passed off the list. No delimiter behind a line end is missing from
// it: one that began before the line end would have that in its boundary.
func cutKnown(s string, from int, known *[]int, delimiter string) (content, rest string, ok bool) {
	size := len(delimiter) - 2
	for len(*known) > 0 {
		at := (*known)[0]
		*known = (*known)[1:]
		if at < from {
			continue
		}
		rest := s[at+size:]
		if at != from && (at-2 < from || s[at-2] != '\r' || s[at-1] != '\n') || !endsBoundary(rest) {
			continue
		}
		return s[from:max(from, at-2)], rest, true
	}
	return "", "", false
}

// endsBoundary reports whether the engine's parser takes what stands before rest
// for a boundary.
func endsBoundary(rest string) bool {
	if rest == "" {
		return true
	}
	switch rest[0] {
	case ' ', '\t', '\r', '\n':
		return true
	}
	return strings.HasPrefix(rest, "--")
}

// part is what the header of a part says.
type part struct {
	name     string
	filename string
	other    string // the plain name of a file that has another one in filename*

	extended          bool
	charset, language string // of filename*
}

// partHeader reads the header of a part, with the empty line behind it, and adds
// its fields.
func (v *View) partHeader(p *part, s string) (rest string, ok bool) {
	first := len(v.list[partHeaders])
	disposition := ""
	for !strings.HasPrefix(s, "\r\n") {
		end := strings.IndexByte(s, '\r')
		if end < 0 || end+1 == len(s) || s[end+1] != '\n' {
			return "", false
		}
		line := trimBlanks(s[:end])
		key, ok := v.fieldName(line)
		if !ok || s[0] == ' ' || s[0] == '\t' {
			return "", false
		}
		s = s[end+2:]
		value := line[len(key)+1:]
		for i := range len(value) {
			if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
				return "", false
			}
		}
		value = trimBlanks(value)
		switch key {
		case "Content-Disposition":
			disposition = value
		case "Content-Transfer-Encoding":
			if strings.EqualFold(value, "quoted-printable") {
				return "", false
			}
		}
		shown := line
		if line[:len(key)] != key || len(line) != len(key)+2+len(value) || line[len(key)+1] != ' ' {
			mark := v.mark()
			v.buf = append(v.buf, key...)
			v.buf = append(v.buf, ": "...)
			v.buf = append(v.buf, value...)
			shown = v.since(mark)
		}
		if len(v.list[partHeaders]) == first+maxFields {
			return "", false
		}
		for _, other := range v.list[partHeaders][first:] {
			if strings.HasPrefix(other.Value, key) && other.Value[len(key)] == ':' {
				return "", false
			}
		}
		v.list[partHeaders] = append(v.list[partHeaders], Pair{"", shown})
	}
	if disposition != "" {
		kind, _, _ := strings.Cut(disposition, ";")
		var all parameters
		if !isToken(kind) || !v.parameters(&all, disposition[len(kind):]) {
			return "", false
		}
		p.filename = all.filename
		if all.extended != "" && !v.extend(p, &all) {
			return "", false
		}
		if strings.EqualFold(kind, "form-data") {
			p.name = all.name
		}
	}
	for i := range v.list[partHeaders][first:] {
		v.list[partHeaders][first+i].Name = p.name
	}
	v.list[partNames] = append(v.list[partNames], Pair{p.name, p.name})
	if p.extended {
		v.list[partCharsets] = append(v.list[partCharsets], Pair{p.name, p.charset})
		v.list[partLanguages] = append(v.list[partLanguages], Pair{p.name, p.language})
	}
	return s[2:], true
}

// extend sets the names of a file of which one is extended: that one is the first,
// and the plain name is another if it differs. It reports whether both are sound.
func (v *View) extend(p *part, all *parameters) bool {
	charset, language, filename, ok := v.decodeExtended(all.extended)
	if !ok || filename == "" || all.escaped {
		return false
	}
	p.filename, p.charset, p.language, p.extended = filename, charset, language, true
	if all.filename != filename {
		p.other = all.filename
	}
	return true
}

// fieldName returns the name of a header field in its canonical form. The length is
// that of what stands in the line.
func (v *View) fieldName(line string) (string, bool) {
	canonical, upper := true, true
	for i := range len(line) {
		c := line[i]
		switch {
		case c == ':':
			if i == 0 {
				return "", false
			}
			name := line[:i]
			if canonical {
				return name, true
			}
			mark := v.mark()
			upper = true
			for j := range len(name) {
				c := name[j]
				if upper && 'a' <= c && c <= 'z' {
					c -= 'a' - 'A'
				} else if !upper && 'A' <= c && c <= 'Z' {
					c += 'a' - 'A'
				}
				v.buf = append(v.buf, c)
				upper = c == '-'
			}
			return v.since(mark), true
		case 'a' <= c && c <= 'z':
			canonical = canonical && !upper
			upper = false
		case 'A' <= c && c <= 'Z':
			canonical = canonical && upper
			upper = false
		case c == '-':
			upper = true
		case '0' <= c && c <= '9':
			upper = false
		default:
			return "", false
		}
	}
	return "", false
}

// trimBlanks takes blanks and tabs off both ends.
func trimBlanks(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// addFile adds a name of a file. The collection of sizes has one for each name, the
// last, and takes names that differ in case for one. addFile reports whether it
// could tell.
func (v *View) addFile(p *part, name string, size int) bool {
	v.list[partFilenames] = append(v.list[partFilenames], Pair{p.name, name})
	v.list[files] = append(v.list[files], Pair{"", name})
	list := v.list[filesSizes]
	if len(list) >= maxFiles || len(name) > maxFilename {
		return false
	}
	fresh := Pair{name, v.number(size)}
	for i := range list {
		if foldsTo(list[i].Name, name) {
			list[i] = fresh
			return true
		}
	}
	v.list[filesSizes] = append(list, fresh)
	return true
}

// foldsTo reports whether two names are one to the engine's collections.
func foldsTo(a, b string) bool {
	if isASCII(a) && isASCII(b) {
		return strings.EqualFold(a, b)
	}
	a, b = strings.ToLower(a), strings.ToLower(b)
	return a == b // which is not what EqualFold says
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

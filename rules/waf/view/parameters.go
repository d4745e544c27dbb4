package view

import "strings"

// parameters are those of a media type or of a disposition that are looked at.
type parameters struct {
	name, filename, boundary string
	extended                 string // filename*, as it stands there
	escaped                  bool   // there is a backslash in filename
}

// parameters reads the list of parameters behind a media type or a disposition
// (RFC 2045 section 5.1). It takes them only as every reader does: a name once,
// without extensions of RFC 2231 but filename*, without blanks around the equals
// sign.
func (v *View) parameters(p *parameters, s string) bool {
	const (
		name = 1 << iota
		filename
		boundary
		extended
	)
	var seen, others int
	var other [4]string
	for {
		s = trimBlanks(s)
		if s == "" || s == ";" {
			return true
		}
		if s[0] != ';' {
			return false
		}
		s = trimBlanks(s[1:])
		n := 0
		for n < len(s) && isTokenByte[s[n]] && s[n] != '*' {
			n++
		}
		key, star := s[:n], false
		if n < len(s) && s[n] == '*' {
			if !strings.EqualFold(key, "filename") {
				return false
			}
			star = true
			n++
		}
		if n == 0 || n == len(s) || s[n] != '=' || star && n+1 < len(s) && s[n+1] == '"' {
			return false
		}
		var value string
		var ok bool
		raw := s[n+1:]
		if value, s, ok = v.value(raw); !ok {
			return false
		}
		bit := 0
		switch {
		case star:
			bit, p.extended = extended, value
		case strings.EqualFold(key, "name"):
			bit, p.name = name, value
		case strings.EqualFold(key, "filename"):
			bit, p.filename = filename, value
			p.escaped = strings.IndexByte(raw[:len(raw)-len(s)], '\\') >= 0
		case strings.EqualFold(key, "boundary"):
			bit, p.boundary = boundary, value
		default:
			for _, o := range other[:others] {
				if strings.EqualFold(o, key) {
					return false
				}
			}
			if others == len(other) {
				return false
			}
			other[others] = key
			others++
		}
		if seen&bit != 0 {
			return false
		}
		seen |= bit
	}
}

// value reads a token or a quoted string. A backslash in one stands for itself
// before what needs no escape: so do browsers of old send the paths of files.
func (v *View) value(s string) (value, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		n := 0
		for n < len(s) && isTokenByte[s[n]] {
			n++
		}
		return s[:n], s[n:], n > 0
	}
	s = s[1:]
	i := 0
	for i < len(s) && s[i] != '"' && s[i] != '\\' {
		i++
	}
	if i == len(s) {
		return "", "", false
	}
	if s[i] == '"' {
		return s[:i], s[i+1:], true
	}
	mark := v.mark()
	v.buf = append(v.buf, s[:i]...)
	for ; i < len(s); i++ {
		c := s[i]
		if c == '"' {
			return v.since(mark), s[i+1:], true
		}
		if c == '\\' && i+1 < len(s) && strings.IndexByte(`()<>@,;:\"/[]?=`, s[i+1]) >= 0 {
			i++
			c = s[i]
		}
		v.buf = append(v.buf, c)
	}
	return "", "", false
}

func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte[s[i]] {
			return false
		}
	}
	return s != ""
}

// isTokenByte are the bytes of a token.
var isTokenByte = func() (ok [256]bool) {
	for c := range 26 {
		ok['a'+c], ok['A'+c] = true, true
	}
	for _, c := range []byte("0123456789!#$%&'*+-.^_`{|}~") {
		ok[c] = true
	}
	return ok
}()

// decodeExtended returns the parts of an extended value (RFC 8187 section 3.2). ok
// is false unless there are three and every percent sign begins an escape.
func (v *View) decodeExtended(s string) (charset, language, value string, ok bool) {
	charset, rest, ok := strings.Cut(s, "'")
	if !ok {
		return "", "", "", false
	}
	language, value, ok = strings.Cut(rest, "'")
	if !ok || strings.IndexByte(value, '%') < 0 {
		return charset, language, value, ok
	}
	mark := v.mark()
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c == '%' {
			if i+2 >= len(value) || unhex[value[i+1]] > 15 || unhex[value[i+2]] > 15 {
				return "", "", "", false
			}
			c = unhex[value[i+1]]<<4 | unhex[value[i+2]]
			i += 2
		}
		v.buf = append(v.buf, c)
	}
	return charset, language, v.since(mark), true
}

package view

import "strings"

// unhex holds the values of hexadecimal digits; 0xff for any other byte.
var unhex = func() (value [256]uint8) {
	for i := range value {
		value[i] = 0xff
	}
	for i := range 10 {
		value['0'+i] = uint8(i)
	}
	for i := range 6 {
		value['a'+i], value['A'+i] = uint8(10+i), uint8(10+i)
	}
	return value
}()

// appendForm appends the pairs of a query or of a form, and returns how many bytes
// of names and values they have. ok is false if the list would be longer than
// limit.
func (v *View) appendForm(list []Pair, s string, limit int) (_ []Pair, size int, ok bool) {
	for s != "" {
		pair := s
		if i := strings.IndexByte(s, '&'); i >= 0 {
			pair, s = s[:i], s[i+1:]
		} else {
			s = ""
		}
		if pair == "" {
			continue
		}
		if len(list) >= limit {
			return list, 0, false
		}
		name, value := pair, ""
		if i := strings.IndexByte(pair, '='); i >= 0 {
			name, value = pair[:i], pair[i+1:]
		}
		name, value = v.unescapeForm(name), v.unescapeForm(value)
		size += len(name) + len(value)
		list = append(list, Pair{name, value})
	}
	return list, size, true
}

// unescapeForm decodes plus signs and percent-encoding. What is no encoding stays.
// A text without either is returned as it is.
func (v *View) unescapeForm(s string) string {
	escape := strings.IndexByte(s, '%')
	if escape < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	mark := v.mark()
	for escape >= 0 {
		v.appendPlain(s[:escape])
		s = s[escape:]
		c, n := s[0], 1
		if len(s) > 2 {
			if hi, lo := unhex[s[1]], unhex[s[2]]; hi|lo < 16 {
				c, n = hi<<4|lo, 3
			}
		}
		v.buf = append(v.buf, c)
		s = s[n:]
		escape = strings.IndexByte(s, '%')
	}
	v.appendPlain(s)
	return v.since(mark)
}

// appendPlain appends a text with spaces in place of plus signs.
func (v *View) appendPlain(s string) {
	at := len(v.buf)
	v.buf = append(v.buf, s...)
	for i, c := range v.buf[at:] {
		v.buf[at+i] = unplus[c]
	}
}

// unplus holds each byte, and a space for the plus sign.
var unplus = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
	}
	t['+'] = ' '
	return t
}()

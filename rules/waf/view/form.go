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
	i := 0
	for i < len(s) && s[i] != '%' && s[i] != '+' {
		i++
	}
	if i == len(s) {
		return s
	}
	mark := v.mark()
	v.buf = append(v.buf, s[:i]...)
	for ; i < len(s); i++ {
		c := s[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 < len(s) {
				if hi, lo := unhex[s[i+1]], unhex[s[i+2]]; hi|lo < 16 {
					c = hi<<4 | lo
					i += 2
				}
			}
		}
		v.buf = append(v.buf, c)
	}
	return v.since(mark)
}

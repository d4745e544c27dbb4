package view

import "strings"

// text sets the arguments that the payload stage makes of text: the whole of it,
// and pairs if it looks like a form.
func (b *Builder) text(v *View, text string) Reason {
	list := append(v.list[argsPost], Pair{"body", text})
	size := len("body") + len(text)
	if formLike(text) {
		for rest := text; ; {
			rest = strings.TrimLeft(rest, "&\r\n")
			if rest == "" {
				break
			}
			pair := rest
			if i := strings.IndexAny(rest, "&\r\n"); i >= 0 {
				pair, rest = rest[:i], rest[i:]
			} else {
				rest = ""
			}
			name, value, _ := strings.Cut(pair, "=")
			name, value = v.unescapeForm(name), v.unescapeForm(value)
			size += len(name) + len(value)
			if len(list) >= b.o.Arguments {
				return Arguments
			}
			list = append(list, Pair{name, value})
		}
	}
	v.list[argsPost] = list
	v.addArguments(size)
	return Known
}

// maxFormName is the longest first name, in bytes, of a text that looks like a
// form.
const maxFormName = 128

// formLike reports whether a text looks like a form: whether it begins with a name
// and an equals sign.
func formLike(text string) bool {
	name := strings.IndexByte(text[:min(len(text), maxFormName+1)], '=')
	if name < 0 {
		return false
	}
	for i := range name {
		if !formName[text[i]] {
			return false
		}
	}
	return true
}

// formName are the bytes that a name of a form may have: those that the stage lets
// be one of a token, brackets and escapes.
var formName = func() (ok [256]bool) {
	for c := range 26 {
		ok['a'+c], ok['A'+c] = true, true
	}
	for _, c := range []byte("0123456789!#&*+-.^_~[]%") {
		ok[c] = true
	}
	return ok
}()

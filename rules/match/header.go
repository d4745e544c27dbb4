package match

import (
	"net/http"
	"net/textproto"
	"strings"
)

// headerTest is one name under the header key. It holds if a line of the field
// has a wanted value. Names are compared without case, values with it.
type headerTest struct {
	name     string // canonical
	exact    []string
	prefixes []string
	absent   bool // "": no line, or empty ones only
}

func (t *headerTest) match(hr *http.Request) bool {
	lines := hr.Header[t.name]
	empty := true
	for _, line := range lines {
		for _, want := range t.exact {
			if line == want {
				return true
			}
		}
		for _, want := range t.prefixes {
			if strings.HasPrefix(line, want) {
				return true
			}
		}
		empty = empty && line == ""
	}
	return t.absent && empty
}

// lostHeaders are the fields that net/http takes out of the header.
var lostHeaders = map[string]string{
	"Host":              "use host",
	"Transfer-Encoding": "",
	"Trailer":           "",
}

func (b *builder) header(name string, list OneOrMore[string]) {
	if len(list) == 0 {
		return
	}
	t := headerTest{name: textproto.CanonicalMIMEHeaderKey(name)}
	if hint, lost := lostHeaders[t.name]; lost {
		b.fault(list[0].Errorf(hint, "the field %s cannot be matched as a header", t.name))
		return
	}
	if !token(name) {
		b.fault(list[0].Errorf("", "%q is no name of a header field", clip(name)))
		return
	}
	for i := range b.m.headers {
		if b.m.headers[i].name == t.name {
			b.fault(list[0].Errorf("write one list of values", "the header field %s stands twice", t.name))
			return
		}
	}
	for _, l := range list {
		prefix, isPrefix := strings.CutSuffix(l.Value, "*")
		switch {
		case strings.Contains(prefix, "*"):
			b.fault(l.Errorf("use expr for what lies in the middle", "a * may stand only at the end of a header's value"))
		case strings.TrimSpace(l.Value) != l.Value:
			b.fault(l.Errorf("", "the header's value begins or ends with a blank, which no received value does"))
		case l.Value == "":
			t.absent = true
		case isPrefix:
			t.prefixes = append(t.prefixes, prefix)
		default:
			t.exact = append(t.exact, l.Value)
		}
	}
	b.m.headers = append(b.m.headers, t)
}

package proof

import (
	"strings"

	"github.com/corazawaf/coraza/v3/types/variables"
)

// token is a part of a text in which variables are expanded: text as it is, or a
// variable.
type token struct {
	text     string // what stands for a variable that is not there
	variable variables.RuleVariable
	key      string // in lower case
	slot     int    // of a variable of TX
}

// macro is a text in which variables are expanded.
type macro []token

// parseMacro splits a text as the engine does. ok is false for one that the engine
// does not take.
func parseMacro(s string) (m macro, ok bool) {
	for s != "" {
		start := strings.Index(s, "%{")
		if start < 0 {
			return append(m, token{text: s}), true
		}
		if start > 0 {
			m = append(m, token{text: s[:start]})
		}
		end := strings.IndexByte(s[start:], '}')
		if end < 0 {
			return nil, false
		}
		inside := s[start+2 : start+end]
		if strings.Contains(inside, "%{") {
			return nil, false
		}
		name, key, _ := strings.Cut(inside, ".")
		v, err := variables.Parse(name)
		if err != nil || strings.HasSuffix(inside, ".") {
			return nil, false
		}
		m = append(m, token{text: inside, variable: v, key: strings.ToLower(key), slot: -1})
		s = s[start+end+1:]
	}
	return m, true
}

// constant returns the text of a macro without variables.
func (m macro) constant() (string, bool) {
	switch {
	case len(m) == 0:
		return "", true
	case len(m) == 1 && m[0].variable == variables.Unknown:
		return m[0].text, true
	}
	return "", false
}

// prefix returns the text before the first variable.
func (m macro) prefix() string {
	if len(m) > 0 && m[0].variable == variables.Unknown {
		return m[0].text
	}
	return ""
}

// join makes one token of neighbours that are text.
func (m macro) join() macro {
	var out macro
	for _, t := range m {
		if n := len(out); n > 0 && t.variable == variables.Unknown && out[n-1].variable == variables.Unknown {
			out[n-1].text += t.text
			continue
		}
		out = append(out, t)
	}
	return out
}

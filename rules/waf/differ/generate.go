package differ

import (
	"encoding/json"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/moatwaf/moat/rules/waf/crscorpus"
)

// Corpus returns the requests of the Core Rule Set's regression tests that can be
// taken apart. It is shared and must not be changed.
var Corpus = sync.OnceValue(func() []Message {
	var all []Message
	for i := range crscorpus.All() {
		c := &crscorpus.All()[i]
		if c.Response() {
			continue
		}
		if m, ok := ParseMessage(c.Raw); ok {
			all = append(all, m)
		}
	}
	return all
})

// payloads returns the values that the corpus sends, decoded: attacks, mostly.
var payloads = sync.OnceValue(func() []string {
	seen := map[string]bool{}
	var all []string
	add := func(s string) {
		if s != "" && len(s) < 3000 && !seen[s] {
			seen[s] = true
			all = append(all, s)
		}
	}
	pairs := func(s string) {
		v, _ := url.ParseQuery(s) // what parses
		for name, values := range v {
			if len(name) > 8 {
				add(name)
			}
			for _, value := range values {
				add(value)
			}
		}
	}
	for _, m := range Corpus() {
		p, q, _ := strings.Cut(m.Target, "?")
		if len(p) > 6 {
			add(p)
		}
		pairs(q)
		switch t := m.Get("Content-Type"); {
		case strings.HasPrefix(t, "application/x-www-form-urlencoded"):
			pairs(m.Body)
		default:
			add(m.Body)
		}
		for _, f := range m.Header {
			switch strings.ToLower(f.Name) {
			case "host", "accept", "connection", "content-length", "content-type":
			default:
				add(f.Value)
			}
		}
	}
	// Maps have no order, a seed has.
	slices.Sort(all)
	return all
})

// Generator makes requests from a source of randomness.
type Generator struct {
	r *rand.Rand
	// Words are what the rules under test look for; nil for the Core Rule Set.
	Words []string
	// Names are the arguments and fields that they look at.
	Names []string
}

// NewGenerator returns a generator.
func NewGenerator(r *rand.Rand) *Generator { return &Generator{r: r} }

// text returns a text to hide somewhere: an attack or a part of one, encoded or not,
// or what the rules under test look for, or something harmless.
func (g *Generator) text() string {
	r := g.r
	if g.Words != nil && !chance(r, 4) {
		s := ""
		for range 1 + r.IntN(4) {
			s += oneOf(r, oneOf(r, g.Words...), oneOf(r, g.Words...), oneOf(r, pieces...), oneOf(r, "", " ", "a", "1"))
		}
		if chance(r, 3) {
			s = encode(r, s)
		}
		return s
	}
	p := payloads()
	s := p[r.IntN(len(p))]
	switch r.IntN(8) {
	case 0:
		return s
	case 1:
		return encode(r, s)
	case 2: // a part
		at := r.IntN(len(s))
		return s[at:min(len(s), at+1+r.IntN(20))]
	case 3: // the beginning or the end
		at := r.IntN(len(s) + 1)
		return oneOf(r, s[:at], s[at:])
	case 4:
		return damage(r, s)
	case 5:
		return value(r) + oneOf(r, "", " ", "'", "\"", ";") + s
	case 6:
		return damage(r, value(r))
	}
	return value(r)
}

// Next returns a request.
func (g *Generator) Next() Message {
	r := g.r
	var m Message
	switch n := r.IntN(100); {
	case n < 8: // of the corpus, as it is
		return Corpus()[r.IntN(len(Corpus()))].clone()
	case n < 22:
		m = g.mutate(Corpus()[r.IntN(len(Corpus()))].clone())
	case n < 30:
		m = g.splice()
	case n < 45: // harmless
		return g.shape()
	case n < 80: // harmless, with something hidden in it
		m = g.shape()
		for range 1 + r.IntN(2) {
			g.inject(&m)
		}
	case n < 92:
		m = g.shape()
		oddBody(r, &m, g.text)
	default:
		m = g.shape()
	}
	if chance(r, 3) {
		oddTarget(r, &m)
	}
	for range r.IntN(3) {
		oddHeader(r, &m)
	}
	return m
}

func (g *Generator) shape() Message {
	m := Shapes[g.r.IntN(len(Shapes))].Make(g.r)
	for range g.r.IntN(3) {
		if g.Names != nil {
			g.named(&m)
		}
	}
	return m
}

// named adds an argument or a field that a rule under test looks at.
func (g *Generator) named(m *Message) {
	r := g.r
	n, v := oneOf(r, g.Names...), g.text()
	if chance(r, 4) {
		n = oneOf(r, strings.ToUpper, strings.ToLower)(n)
	}
	switch r.IntN(4) {
	case 0:
		m.Header = append(m.Header, Field{headerName(n), fieldValue(v)})
	case 1:
		m.Header = append(m.Header, Field{"Cookie", n + "=" + fieldValue(oneOf(r, v, url.QueryEscape(v)))})
	default:
		sep := "?"
		if strings.Contains(m.Target, "?") {
			sep = "&"
		}
		m.Target += sep + url.QueryEscape(n) + "=" + url.QueryEscape(v)
	}
}

// headerName makes a token of a text.
func headerName(s string) string {
	s = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' {
			return c
		}
		return -1
	}, s)
	if len(s) > 100 {
		s = s[:100]
	}
	return "X-" + s
}

// mutate changes a request in a few places.
func (g *Generator) mutate(m Message) Message {
	r := g.r
	for range 1 + r.IntN(3) {
		switch r.IntN(6) {
		case 0, 1:
			m.Target = targetText(damage(r, m.Target))
		case 2, 3:
			if m.Body != "" {
				m.Body = damage(r, m.Body)
			} else {
				m.Target = targetText(damage(r, m.Target))
			}
		case 4:
			if len(m.Header) > 0 {
				i := r.IntN(len(m.Header))
				m.Header[i].Value = fieldValue(damage(r, m.Header[i].Value))
			}
		case 5:
			g.inject(&m)
		}
	}
	return m
}

// splice puts two requests of the corpus together.
func (g *Generator) splice() Message {
	r := g.r
	all := Corpus()
	m, other := all[r.IntN(len(all))].clone(), all[r.IntN(len(all))]
	for range 1 + r.IntN(3) {
		switch r.IntN(6) {
		case 0:
			m.Target = other.Target
		case 1:
			m.Body, m.AsIs = other.Body, m.AsIs || other.AsIs
			if t := other.Get("Content-Type"); t != "" && !chance(r, 4) {
				m.Set("Content-Type", t)
			}
			if m.Method == "GET" && m.Body != "" {
				m.Method = "POST"
			}
		case 2:
			if len(other.Header) > 0 {
				f := other.Header[r.IntN(len(other.Header))]
				m.Set(f.Name, f.Value)
			}
		case 3:
			if _, query, ok := strings.Cut(other.Target, "?"); ok {
				sep := "?"
				if strings.Contains(m.Target, "?") {
					sep = "&"
				}
				m.Target += sep + query
			}
		case 4:
			m.Method = other.Method
		case 5: // half of each text
			a, b := r.IntN(len(m.Body)+1), r.IntN(len(other.Body)+1)
			m.Body = m.Body[:a] + other.Body[b:]
		}
		other = all[r.IntN(len(all))]
	}
	return m
}

// inject puts a text into one place of a request.
func (g *Generator) inject(m *Message) {
	r := g.r
	text := g.text()
	escape := oneOf(r, url.QueryEscape, url.QueryEscape, url.PathEscape, targetText)
	sep := "?"
	if strings.Contains(m.Target, "?") {
		sep = "&"
	}
	switch r.IntN(12) {
	case 0, 1:
		m.Target += sep + url.QueryEscape(name(r)) + "=" + escape(text)
	case 2:
		m.Target += sep + escape(text) + oneOf(r, "", "=", "=1")
	case 3: // within the path
		p, q, ok := strings.Cut(m.Target, "?")
		m.Target = p + oneOf(r, "/", "", ".", ";") + url.PathEscape(text)
		if ok {
			m.Target += "?" + q
		}
	case 4:
		if len(m.Header) > 0 {
			i := r.IntN(len(m.Header))
			m.Header[i].Value = fieldValue(oneOf(r, text, m.Header[i].Value+text, m.Header[i].Value+" "+text))
		}
	case 5:
		m.Header = append(m.Header, Field{oneOf(r, "X-"+word(r), "Referer", "User-Agent", "X-Filename", "Accept", "X-Forwarded-For", "Origin"), fieldValue(text)})
	case 6:
		m.Set("Cookie", oneOf(r, cookies(r)+"; ", "")+fieldValue(oneOf(r, name(r)+"="+escape(text), name(r)+"="+text, text+"=1", text)))
	default:
		g.injectBody(m, text)
	}
}

// injectBody puts a text into the body, in the way of its type.
func (g *Generator) injectBody(m *Message, text string) {
	r := g.r
	if m.Body == "" {
		if m.Method == "GET" || m.Method == "HEAD" {
			m.Method = "POST"
		}
		m.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	switch t := m.Get("Content-Type"); {
	case strings.Contains(t, "urlencoded"):
		if m.Body != "" {
			m.Body += "&"
		}
		m.Body += oneOf(r, url.QueryEscape(name(r))+"="+url.QueryEscape(text), url.QueryEscape(text)+"=1", name(r)+"="+text)
	case strings.Contains(t, "json"):
		var doc any
		if json.Unmarshal([]byte(m.Body), &doc) != nil {
			m.Body += text
			return
		}
		m.Body = marshal(implant(r, doc, text))
		if chance(r, 4) {
			m.Body = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(m.Body)
		}
	case strings.Contains(t, "multipart"):
		if i := strings.Index(m.Body, "\r\n"); i > 2 && strings.HasPrefix(m.Body, "--") {
			b := m.Body[2:i]
			q := strings.NewReplacer("\r", "", "\n", "", `"`, oneOf(r, "%22", `\"`, `"`)).Replace(text)
			m.Body = part(b, oneOf(r, `name="f"`, `name="`+q+`"`, `name="f"; filename="`+q+`"`), oneOf(r, "", "text/plain", fieldValue(text)), oneOf(r, text, text, "x")) + m.Body
		}
	default:
		at := r.IntN(len(m.Body) + 1)
		if i := strings.IndexByte(m.Body[at:], '<'); i >= 0 && chance(r, 2) {
			at += i
			text = strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(text)
		}
		m.Body = m.Body[:at] + text + m.Body[at:]
	}
}

// implant puts a text somewhere into a document.
func implant(r *rand.Rand, doc any, text string) any {
	switch d := doc.(type) {
	case map[string]any:
		if len(d) > 0 && !chance(r, 3) {
			keys := make([]string, 0, len(d))
			for k := range d {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			k := oneOf(r, keys...)
			d[k] = implant(r, d[k], text)
			return d
		}
		if chance(r, 4) {
			d[text] = word(r)
		} else {
			d[name(r)] = text
		}
		return d
	case []any:
		if len(d) > 0 && !chance(r, 3) {
			i := r.IntN(len(d))
			d[i] = implant(r, d[i], text)
			return d
		}
		return append(d, text)
	}
	return text
}

package view_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/moatwaf/moat/rules/waf/crscorpus"
	"github.com/moatwaf/moat/rules/waf/view"
)

var (
	rounds = flag.Int("rounds", 0, "how many random requests TestRandom compares; 0 for a few")
	seed   = flag.Uint64("seed", 2026, "of the random requests")
)

// TestRandom compares random bodies, sound ones and mutations of them, of all shapes
// and of the corpus.
func TestRandom(t *testing.T) {
	n := *rounds
	switch {
	case n > 0:
	case testing.Short():
		n = 1500
	default:
		n = 10000
	}
	g := generator{rand.New(rand.NewPCG(*seed, 11))}
	families := []struct {
		contentType string
		bodies      []string
		generate    func() string
	}{
		{"application/x-www-form-urlencoded", forms, g.form},
		{"text/plain", texts, g.form},
		{"application/json", documents, func() string { return g.json(4) }},
		{"text/xml", markups, func() string { return g.xml(4) }},
		{"multipart/form-data; boundary=b", multiparts, g.multipart},
		{"application/x-ndjson", documents, func() string { return g.json(2) + "\n" + g.json(1) }},
	}
	corpus := crscorpus.All()
	known, fresh := 0, 0
	for range n {
		f := families[g.IntN(len(families))]
		other := f.bodies[g.IntN(len(f.bodies))]
		var body string
		if g.IntN(2) == 0 {
			body = f.generate()
			if g.IntN(2) == 0 {
				body = g.mutate(body, other)
			} else {
				fresh++
			}
		} else {
			body = f.bodies[g.IntN(len(f.bodies))]
			if len(body) > 3000 {
				continue
			}
			if f.contentType[0] == 'm' && g.IntN(8) > 0 {
				body = crlf(body)
			}
			body = g.mutate(body, other)
		}
		target := g.mutate(targets[g.IntN(len(targets))], targets[g.IntN(len(targets))])
		if len(target) > 3000 {
			target = "/?" + g.form()
		}
		cookie := g.mutate(cookieFields[g.IntN(len(cookieFields))], "; x=1")
		if g.IntN(4) == 0 {
			target = "/" + string(corpus[g.IntN(len(corpus))].Raw)[5:]
			target, _, _ = strings.Cut(target, " HTTP")
		}
		hr := request("POST", target, "Content-Type: "+f.contentType+"\nCookie: "+strings.ReplaceAll(cookie, "\n", ""), []byte(body))
		if out := plainPolicy().compare(t, hr, []byte(body)); out.body == view.Known {
			known++
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d of %d are known; %d are sound", known, n, fresh)
	if known < n/4 {
		t.Errorf("only %d of %d are known", known, n)
	}
}

// generator makes sound bodies of unusual content.
type generator struct{ *rand.Rand }

// pick returns one of several texts.
func (g generator) pick(all ...string) string { return all[g.IntN(len(all))] }

// word returns a short text.
func (g generator) word() string {
	var b strings.Builder
	for range g.IntN(5) {
		b.WriteString(g.pick("a", "B", "json", "0", " ", "ü", "😀", "\u2028", "\u212a", "K", ".", "-", "_", "x=1", "&", "+", "%41", "%", "'", "\x7f", "]", "}", "--b", ";", "<", ">", "#"))
	}
	return b.String()
}

func (g generator) form() string {
	var b strings.Builder
	for range g.IntN(12) {
		fmt.Fprintf(&b, "%s%s%s%s", g.word(), g.pick("=", "=", "=", "", "=="), g.word(), g.pick("&", "&", "&", "&&", ""))
	}
	return b.String()
}

// space returns white space of JSON.
func (g generator) space() string { return g.pick("", "", "", " ", "\n", "\t ", "\r\n") }

func (g generator) jsonString() string {
	var b strings.Builder
	b.WriteByte('"')
	for range g.IntN(6) {
		if g.IntN(3) == 0 {
			b.WriteString(g.pick(`\n`, `\t`, `\"`, `\\`, `\/`, `\b`, `\f`, `\r`, `\u0000`, `\u00e9`, `\uD83D\uDE00`, `\ud83d`, `\ude00`, `\u0041`, `\uffff`, "\xff"))
			continue
		}
		b.WriteString(strings.NewReplacer(`"`, "", `\`, "").Replace(g.word()))
	}
	b.WriteByte('"')
	return b.String()
}

func (g generator) json(depth int) string {
	kind := g.IntN(9)
	if depth == 0 && kind < 5 {
		kind = 5
	}
	switch kind {
	case 0, 1, 2:
		var b strings.Builder
		b.WriteString("{" + g.space())
		for i := range g.IntN(5) {
			if i > 0 {
				b.WriteString("," + g.space())
			}
			b.WriteString(g.jsonString() + g.space() + ":" + g.space() + g.json(depth-1) + g.space())
		}
		return b.String() + "}"
	case 3, 4:
		var b strings.Builder
		b.WriteString("[" + g.space())
		for i := range g.IntN(5) {
			if i > 0 {
				b.WriteString("," + g.space())
			}
			b.WriteString(g.json(depth-1) + g.space())
		}
		return b.String() + "]"
	case 5, 6:
		return g.jsonString()
	case 7:
		return g.pick("true", "false", "null")
	}
	return g.pick("0", "-0", "-1", strconv.Itoa(g.IntN(1e6)), "1.5", "-0.25e+3", "1E9", "0e0")
}

func (g generator) xml(depth int) string {
	name := g.pick("a", "b", "soap:Body", "x-y.z_1", "link", "param", "A")
	var b strings.Builder
	b.WriteString(g.pick("", "", "", "<?xml version=\"1.0\"?>", "<?xml version='1.0' encoding='utf-8' standalone='yes'?>\n"))
	if depth < 4 {
		b.Reset()
	}
	b.WriteString("<" + name)
	text := func(quoted bool) string {
		var b strings.Builder
		for range g.IntN(4) {
			if g.IntN(3) == 0 {
				b.WriteString(g.pick("&lt;", "&amp;", "&gt;", "&quot;", "&apos;", "&#10;", "&#x41;", "&#x1F600;", "\r\n", "\t", "\u00a0", "]]"))
				continue
			}
			b.WriteString(strings.NewReplacer("<", "", "&", "").Replace(g.word()))
		}
		if quoted {
			return g.pick("", "v", b.String())
		}
		return b.String()
	}
	for range g.IntN(3) {
		quote := g.pick(`"`, "'")
		b.WriteString(g.pick(" ", "\n ") + g.pick("a", "xml:lang", "xmlns:x", "b") + g.pick("=", " = ") + quote + strings.ReplaceAll(text(true), quote, "") + quote)
	}
	if depth == 0 || g.IntN(5) == 0 {
		return b.String() + g.pick("/>", " />")
	}
	b.WriteString(">")
	for range g.IntN(4) {
		b.WriteString(text(false))
		switch g.IntN(8) {
		case 0:
			b.WriteString("<!-- " + strings.ReplaceAll(g.word(), "-", "") + " -->")
		case 1:
			b.WriteString("<![CDATA[" + strings.ReplaceAll(g.word()+"&<\r\n", "]", "") + "]]>")
		case 2:
			b.WriteString("<?pi " + g.word() + "?>")
		default:
			b.WriteString(g.xml(depth - 1))
		}
	}
	return b.String() + "</" + name + g.pick(">", " >")
}

func (g generator) multipart() string {
	var b strings.Builder
	if g.IntN(10) == 0 {
		b.WriteString("\r\n")
	}
	clean := func() string {
		s := strings.NewReplacer("\x7f", "", `"`, "").Replace(g.word())
		if g.IntN(8) == 0 {
			s += g.pick(`\"`, `\\`, `\d`, `\;`)
		}
		return s
	}
	for range g.IntN(5) {
		b.WriteString("--b\r\n")
		if g.IntN(10) > 0 {
			b.WriteString(g.pick("Content-Disposition", "content-disposition", "CONTENT-DISPOSITION") + g.pick(": ", ":", ":  ") + g.pick("form-data", "form-data", "form-data", "Form-Data", "attachment"))
			if g.IntN(10) > 0 {
				b.WriteString(g.pick("; ", ";", " ; ") + g.pick("name", "Name") + "=" + g.pick("a", `"`+clean()+`"`))
			}
			if g.IntN(2) == 0 {
				b.WriteString("; filename=" + g.pick("a.txt", "A.TXT", `"`+clean()+`"`))
			}
			if g.IntN(4) == 0 {
				b.WriteString("; filename*=" + g.pick("utf-8''a.txt", "UTF-8'en'%C3%BC.txt", "iso-8859-1''%FC", "utf-8''%41", "x'y'z"))
			}
			b.WriteString("\r\n")
		}
		if g.IntN(2) == 0 {
			b.WriteString(g.pick("Content-Type: text/plain\r\n", "content-type:image/png \r\n", "X-Y: "+strings.ToValidUTF8(clean(), "")+"\r\n"))
		}
		b.WriteString("\r\n" + g.pick(g.word(), "\r\n", "--b", "\r\n--bb\r\n", "\r\n--b-", "\n--b\n", "") + "\r\n")
	}
	return b.String() + "--b--" + g.pick("\r\n", "", "\r\nend")
}

// mutate changes a text in a few places, or joins it with another.
func (g generator) mutate(s, other string) string {
	const spice = "\"\\{}[]:,<>/&;=%+ \t\r\n'!-?#0aA\x00\x7f\xff"
	b := []byte(s)
	for range g.IntN(4) {
		if len(b) == 0 {
			break
		}
		i := g.IntN(len(b))
		switch g.IntN(5) {
		case 0:
			b[i] = spice[g.IntN(len(spice))]
		case 1:
			b = append(b[:i], b[i+1:]...)
		case 2:
			b = append(b[:i:i], append([]byte{spice[g.IntN(len(spice))]}, b[i:]...)...)
		case 3:
			j := i + g.IntN(len(b)-i)
			b = append(b[:j:j], b[i:]...)
		case 4:
			if len(other) < 3000 && other != "" {
				j := g.IntN(len(other))
				k := j + g.IntN(len(other)-j)
				b = append(b[:i:i], append([]byte(other[j:k]), b[i:]...)...)
			}
		}
	}
	if !utf8.Valid(b) && g.IntN(2) == 0 {
		return strings.ToValidUTF8(string(b), "\ufffd")
	}
	return string(b)
}

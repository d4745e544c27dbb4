package respond

import (
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestNegotiate(t *testing.T) {
	const (
		chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
		axios  = "application/json, text/plain, */*"
	)
	for _, tt := range []struct {
		name   string
		accept []string
		want   Format
	}{
		{"no Accept", nil, ProblemJSON},
		{"empty", []string{""}, ProblemJSON},
		{"curl", []string{"*/*"}, ProblemJSON},
		{"browser", []string{chrome}, HTML},
		{"image of a browser", []string{"image/avif,image/webp,*/*;q=0.8"}, ProblemJSON},
		{"axios", []string{axios}, ProblemJSON},
		{"jQuery", []string{"text/html, */*; q=0.01"}, HTML},
		{"AU-29", []string{"application/json"}, ProblemJSON},
		{"WF-10", []string{"text/html"}, HTML},
		{"WF-11", []string{"application/problem+json, application/json;q=0.9"}, ProblemJSON},
		{"plain text", []string{"text/plain"}, Text},
		{"capitals", []string{"TEXT/Plain"}, Text},
		{"whole type", []string{"text/*"}, HTML},
		{"named before wildcard of the same weight", []string{"*/*, text/plain"}, Text},
		{"subtype wildcard before wildcard", []string{"*/*, text/*"}, HTML},
		{"weights", []string{"text/html;q=0.4, text/plain;q=0.5, application/json;q=0.3"}, Text},
		{"three digits", []string{"text/html;q=0.499, text/plain;q=0.5"}, Text},
		{"capital Q", []string{"text/html;Q=0.1, text/plain"}, Text},
		{"exact name overrides the wildcard", []string{"*/*, application/problem+json;q=0.1, text/html;q=0.2, text/plain;q=0.9"}, Text},
		{"problem+json overrides json", []string{"application/json, application/problem+json;q=0.1, text/html;q=0.5"}, HTML},
		{"refused with 0", []string{"application/json;q=0, application/problem+json;q=0, */*"}, HTML},
		{"refused with 0.000", []string{"application/problem+json;q=0.000, text/html;q=0., */*"}, Text},
		{"everything refused", []string{"*/*;q=0"}, ProblemJSON},
		{"nothing of ours", []string{"image/png"}, ProblemJSON},
		{"nothing of ours, one refused", []string{"image/png, application/problem+json;q=0"}, HTML},
		{"RFC 9110 section 12.5.1", []string{"text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, text/plain;format=fixed;q=0.4, */*;q=0.5"}, Text},
		{"foreign parameter is better than nothing", []string{"text/html;level=1"}, HTML},
		{"foreign parameter gives way to the bare name", []string{"text/html;level=1, text/html;q=0.1, text/plain;q=0.2"}, Text},
		{"our charset", []string{"text/html;charset=\"UTF-8\";q=0.9, text/plain;q=0.8"}, HTML},
		{"several lines", []string{"text/html;q=0.1", "text/plain;q=0.2"}, Text},
		{"the higher of two weights", []string{"text/html;q=0.1, text/html;q=0.9, text/plain;q=0.5"}, HTML},
		{"empty elements", []string{", ,text/html,,"}, HTML},
		{"whitespace", []string{"\ttext/html ; q=0.5 ,  text/plain;q=0.6"}, Text},
		{"comma in quotes", []string{`text/html;x="a, text/plain";q=0.9, */*;q=0.1`}, HTML},
		{"after the weight nothing counts", []string{"text/html;q=0.9;level=1, text/plain;q=0.8"}, HTML},
		{"weight over 1 is ignored with its range", []string{"text/html;q=2, text/plain"}, Text},
		{"weight of 1.001", []string{"text/html;q=1.001, text/plain;q=0.1"}, Text},
		{"weight of four digits", []string{"text/html;q=0.9999, text/plain;q=0.1"}, Text},
		{"negative weight", []string{"text/html;q=-1, text/plain;q=0.1"}, Text},
		{"weight without number", []string{"text/html;q=, text/plain;q=0.1"}, Text},
		{"no subtype", []string{"text, text/plain;q=0.1"}, Text},
		{"star before slash only", []string{"*/html, text/plain;q=0.1"}, Text},
		{"parameter without value", []string{"text/html;level, text/plain;q=0.1"}, Text},
		{"open quote takes the rest of its line", []string{`text/html;x="a, text/html`, "text/plain"}, Text},
		{"garbage", []string{"\x00\xff;;==,\"\\"}, ProblemJSON},
		{"over 64 ranges", []string{strings.Repeat("image/png,", 64) + "text/html"}, ProblemJSON},
		{"64 ranges", []string{strings.Repeat("image/png,", 63) + "text/html"}, HTML},
		{"over 4 KiB", []string{strings.Repeat(" ", 4<<10) + ",text/html"}, ProblemJSON},
		{"over 4 KiB, what came before counts", []string{"text/html," + strings.Repeat("a", 1<<20) + ",text/plain;q=1"}, HTML},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Negotiate(tt.accept); got != tt.want {
				t.Errorf("Accept %q: got %s, want %s", tt.accept, got.MediaType(), tt.want.MediaType())
			}
		})
	}
}

// The slow twin: the grammar as regular expressions, every range kept, and for
// each format the most precise range looked for.

var (
	refParam = "[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([!#$%&'*+.^_`|~0-9A-Za-z-]+|\"(?:[^\"\\\\]|\\\\.)*\"))?[ \t]*"
	refRange = regexp.MustCompile("(?s)^[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)/([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*((?:;.*)?)$")
	refOne   = regexp.MustCompile("(?s)^;" + refParam + "(;|$)")
	refQ     = regexp.MustCompile(`^(0(\.[0-9]{0,3})?|1(\.0{0,3})?)$`)
	refEl    = regexp.MustCompile(`(?s)^(?:[^",]|"(?:[^"\\]|\\.)*")*(,|$)`)
)

func referenceNegotiate(lines []string) (Format, bool) {
	type media struct {
		typ, sub string
		foreign  bool
		q        float64
	}
	var all []media
	for _, line := range lines {
		for {
			el := refEl.FindString(line)
			if el == "" && line != "" {
				return 0, false // quotes without an end: what they swallow is not defined
			}
			rest := line[len(el):]
			if m := refRange.FindStringSubmatch(strings.TrimSuffix(el, ",")); m != nil && (m[1] != "*" || m[2] == "*") {
				one, ok := media{strings.ToLower(m[1]), strings.ToLower(m[2]), false, 1}, true
				for params := m[3]; params != ""; {
					p := refOne.FindStringSubmatch(params)
					if p == nil {
						ok = false
						break
					}
					params = params[len(p[0]):]
					if p[3] == ";" {
						params = ";" + params
					}
					if strings.EqualFold(p[1], "q") {
						if ok = refQ.MatchString(p[2]); ok {
							one.q, _ = strconv.ParseFloat(p[2], 64)
						}
						break
					}
					if p[1] != "" && (!strings.EqualFold(p[1], "charset") || !strings.EqualFold(strings.Trim(p[2], `"`), "utf-8")) {
						one.foreign = true
					}
				}
				if ok {
					all = append(all, one)
				}
			}
			if line = rest; line == "" {
				break
			}
		}
	}
	best, bestScore, bestNamed := Format(0), -2.0, 0
	for f, candidates := range [][]string{{"application/problem+json", "application/json", "application/*", "*/*"}, {"text/html", "", "text/*", "*/*"}, {"text/plain", "", "text/*", "*/*"}} {
		score, namedBy := 0.0, 0
	search:
		for i, name := range candidates {
			for _, foreign := range []bool{false, true} {
				q := -1.0
				for _, m := range all {
					if m.typ+"/"+m.sub == name && (i >= 2 || m.foreign == foreign) {
						q = max(q, m.q)
					}
				}
				if q >= 0 {
					if score = q; q == 0 {
						score = -1
					}
					namedBy = []int{3, 3, 2, 1}[i]
					break search
				}
			}
		}
		if score > bestScore || score == bestScore && namedBy > bestNamed {
			best, bestScore, bestNamed = Format(f), score, namedBy
		}
	}
	return best, true
}

func checkNegotiate(t *testing.T, lines []string) {
	got := Negotiate(lines)
	if got >= formatCount {
		t.Fatalf("%q: format %d", lines, got)
	}
	n := 0
	for _, l := range lines {
		n += len(l)
	}
	if strings.Count(strings.Join(lines, ","), ",")+1 > maxAcceptRanges || n > maxAcceptBytes {
		return
	}
	if want, ok := referenceNegotiate(lines); ok && got != want {
		t.Fatalf("%q: got %s, the reference says %s", lines, got.MediaType(), want.MediaType())
	}
}

func FuzzAccept(f *testing.F) {
	for _, s := range []string{
		"", "*/*", "text/html", "application/json;q=0.5,text/*;q=0.1\n*/*;q=0", "text/html;level=1;q=0.3", `text/html;x="a,b\"";q=0.5,text/plain`,
		"text/html;q=1.001", "text/html;charset=utf-8", "application/problem+json;q=0, application/json", ";,/=", `a/b;c="`, "text/html;;q=0.1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, accept string) { checkNegotiate(t, strings.Split(accept, "\n")) })
}

func TestNegotiateAgainstReference(t *testing.T) {
	pieces := []string{
		",", ",", ", ", ";", "; ", "q=", ";q=0.5", ";q=0", ";q=1", ";q=0.25", ";q=1.5", "\n", " ",
		"text/html", "text/plain", "text/*", "*/*", "application/json", "application/problem+json", "application/*", "TEXT/HTML", "image/png",
		";level=1", ";charset=utf-8", `;charset="UTF-8"`, `;x="a,b"`, `;x="a\"b;q=0"`, "/", "*", "=", `"`, "\xff",
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 50_000 {
		var b strings.Builder
		for range rnd.IntN(14) {
			b.WriteString(pieces[rnd.IntN(len(pieces))])
		}
		checkNegotiate(t, strings.Split(b.String(), "\n"))
	}
}

func BenchmarkNegotiate(b *testing.B) {
	for _, bb := range []struct{ name, accept string }{
		{"curl", "*/*"},
		{"browser", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"},
		{"hostile", strings.Repeat(`text/html;x="\"`, 1<<16)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			lines := []string{bb.accept}
			b.ReportAllocs()
			for b.Loop() {
				Negotiate(lines)
			}
		})
	}
}

package proof

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// pieces are what a text is damaged with.
var pieces = []string{"%", "+", "&", "=", "\\", "/*", "*/", "--", "#", " ", "\t", "'", "\"", "<", ">", "%00", "%u0027", "&lt;", "&#x27;",
	"\\u0027", "\\x3c", "K", "ſ", "\xff", "\xc0\xaf", "..", "/", ";", "^", "UNION", "select", "<script>", "%2e%2e%2f", "A"}

// damage changes a few places of a text.
func damage(r *rand.Rand, s string) string {
	for range 1 + r.IntN(3) {
		at := r.IntN(len(s) + 1)
		switch r.IntN(4) {
		case 0:
			s = s[:at] + pieces[r.IntN(len(pieces))] + s[at:]
		case 1:
			s = s[:at] + s[min(len(s), at+1+r.IntN(3)):]
		case 2:
			s = s[:at] + strings.ToUpper(s[at:])
		case 3:
			if at < len(s) {
				s = s[:at] + string([]byte{byte(' ' + r.IntN(224))}) + s[at+1:]
			}
		}
	}
	return s
}

// mutate returns a request made of pieces of others; nil if no server would take it.
func mutate(r *rand.Rand, all []*message) *message {
	pick := func() *http.Request { return all[r.IntN(len(all))].r.HTTP }
	base := all[r.IntN(len(all))]
	h := base.r.HTTP
	method, uri, body := h.Method, h.RequestURI, string(base.body)
	header := h.Header.Clone()
	for range 1 + r.IntN(3) {
		other := all[r.IntN(len(all))]
		switch r.IntN(9) {
		case 0:
			uri = other.r.HTTP.RequestURI
		case 1:
			body = string(other.body)
		case 2:
			for name, values := range other.r.HTTP.Header {
				header[name] = values
				break
			}
		case 3:
			if _, query, ok := strings.Cut(other.r.HTTP.RequestURI, "?"); ok {
				uri += "?&"[strings.Count(uri, "?")&1:][:1] + query
			}
		case 4:
			body = damage(r, body)
		case 5:
			uri = damage(r, uri)
		case 6:
			for name, values := range header {
				header[name] = []string{damage(r, strings.Join(values, ", "))}
				break
			}
		case 7:
			method = pick().Method
		case 8:
			header.Set("Content-Type", []string{"application/json", "application/x-www-form-urlencoded", "text/xml"}[r.IntN(3)])
		}
	}
	header.Del("Content-Length")
	header.Del("Transfer-Encoding")
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, uri, h.Host)
	if err := header.Write(&b); err != nil {
		return nil
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return parse(b.String())
}

// TestMutated holds the proof against the engine with mutations of the corpus.
func TestMutated(t *testing.T) {
	all := corpus()
	n := 200
	switch {
	case *full:
		n = 20_000
	case testing.Short(), raceEnabled:
		n = 30
	}
	for level := 1; level <= 4; level++ {
		t.Run(fmt.Sprintf("PL%d", level), func(t *testing.T) {
			t.Parallel()
			e := load(t, coreRuleSet(level))
			r := rand.New(rand.NewPCG(uint64(level), *firstSeed))
			clean, proved, wrong := 0, 0, 0
			for range n {
				m := mutate(r, all)
				if m == nil {
					continue
				}
				res, known := e.prove(m)
				if !known || !res.Clean {
					continue
				}
				proved++
				found := ""
				for range 3 {
					if found == "" {
						found = e.finding(t, m)
					}
				}
				if found == "" {
					clean++
					continue
				}
				t.Errorf("%s %s %q\n%.300q\nis not clean: %s", m.r.HTTP.Method, m.r.HTTP.RequestURI, m.r.HTTP.Header, m.body, found)
				if wrong++; wrong == 5 {
					return
				}
			}
			t.Logf("%d of %d are proved", proved, n)
			if proved == 0 {
				t.Error("none is proved")
			}
		})
	}
}

package waf

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// firsts are requests that are dear for an engine that has never read such a text.
func firsts() []costly {
	var all []costly
	body := func(name, contentType, content string, passes bool) {
		all = append(all, costly{name: name, passes: passes, request: func() *http.Request {
			return chrome("POST", "/api/notes", content, contentType)
		}})
	}
	for _, n := range []int{2000, 6000, 16 << 10, 64 << 10, mib} {
		body(fmt.Sprintf("%d bytes of attack words", n), plainText, hostile(n), false)
	}
	for _, n := range []int{6000, 64 << 10} {
		body(fmt.Sprintf("%d bytes of noise", n), plainText, noise(n), false)
	}
	for _, kind := range harmlessKinds() {
		switch kind.name {
		case "Chinese", "Hindi", "Russian", "Arabic", "base64", "code":
			size := 100_000
			if kind.name == "base64" {
				size /= 2
			}
			body(fmt.Sprintf("%d bytes of %s", size, kind.name), kind.contentType, kind.make(seeded(size), size), true)
		}
	}
	var form strings.Builder
	text := hostile(10_000)
	for i := range 80 {
		fmt.Fprintf(&form, "a%d=%s&", i, url.QueryEscape(text[i*60:i*60+60]))
	}
	body("80 arguments of 60 bytes of attack words", formType, form.String(), false)
	all = append(all, costly{name: "attack words, 64 KB in the query", request: func() *http.Request {
		r := chrome("GET", "/", "", "")
		r.RequestURI = "/?a=" + url.QueryEscape(hostile(30_000))
		path, query, _ := strings.Cut(r.RequestURI, "?")
		r.URL = &url.URL{Path: path, RawQuery: query}
		return r
	}}, costly{name: "a User-Agent of 64 KB of attack words", request: func() *http.Request {
		r := chrome("GET", "/", "", "")
		r.Header.Set("User-Agent", strings.ReplaceAll(hostile(64_000), "\n", " "))
		return r
	}})
	return all
}

// TestFirst holds the first request of a kind to a cost, in an engine that has read
// nothing. The bound is far above what is measured (bench/results/dear.md), so that a
// slow machine holds it too; what it was without counting new states is above it.
func TestFirst(t *testing.T) {
	if raceSlows > 1 || testing.Short() {
		t.Skip("the cost of instrumented code says nothing")
	}
	const bound = 150 * time.Millisecond
	var table strings.Builder
	for _, c := range firsts() {
		// The automata of the engine before must be gone.
		runtime.GC()
		runtime.GC()
		s, err := New(Config{Fast: true})
		if err != nil {
			t.Fatal(err)
		}
		first := measure(t, s, &c)
		second := measure(t, s, &c)
		if first.cpu > bound || second.cpu > bound {
			t.Errorf("%s: %v of CPU, then %v", c.name, first.cpu, second.cpu)
		}
		fmt.Fprintf(&table, "| %s | %.1f ms | %.1f ms | %.1f MB | %s |\n", c.name,
			first.cpu.Seconds()*1e3, second.cpu.Seconds()*1e3, float64(first.alloc)/1e6, first.answer)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Log("\n" + table.String())
	if *dearFile != "" {
		if err := os.WriteFile(*dearFile+".first", []byte(table.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

package waf

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

var dearFile = flag.String("dear", "", "write what the dearest requests cost to this `file`, as a table")

var dearShapes = flag.String("shapes", "", "measure only the dear requests whose names match this `expression`")

// processCPU returns the CPU time of the process, user and system.
func processCPU(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// costly is a request that is made to be dear, within the limits of the ready
// policy.
type costly struct {
	name    string
	request func() *http.Request
	// passes says that ordinary traffic looks like it, so that it must be let through.
	passes bool
}

const (
	mib       = 1 << 20
	plainText = "text/plain"
	formType  = "application/x-www-form-urlencoded"
)

// fill returns n bytes of repeated s.
func fill(s string, n int) string { return strings.Repeat(s, n/len(s)+1)[:n] }

// prose is text that nobody can object to.
func prose(n int) string {
	words := strings.Fields("the quick brown fox jumps over the lazy dog and then it rests for a while in the shade of an old tree near the river " +
		"where people of the village meet every evening talk about weather harvest children music and what has become of friends who moved away")
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(words[rng.IntN(len(words))])
		if rng.IntN(12) == 0 {
			b.WriteByte('.')
		}
		b.WriteByte(' ')
	}
	return b.String()[:n]
}

// hostile is text of the words of attacks, put together at random, so that an
// automaton comes to a new state with every byte.
func hostile(n int) string {
	parts := []string{"select", "union", "sleep(", "'", `"`, "<", "script", "on", "=", "/*", "*/", "--", ";", "|", "&&", "$(", "`", "cat", "etc/", "..", "\\", "%", "0x", "echo ", "php", "java.", "lang", "{{", "}}", "@", "#", "\n", " ", "\t", "é", "and 1", "or ", "(", ")", "a", "z9", "char(", "http://", "window.", "document", "[", "]", "base64", "1", ","}
	rng := rand.New(rand.NewPCG(3, 4))
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(parts[rng.IntN(len(parts))])
	}
	return b.String()[:n]
}

func noise(n int) string {
	rng := rand.New(rand.NewPCG(5, 6))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + rng.IntN(255))
	}
	return string(b)
}

// jsonOf returns a document of n members, with values of size bytes.
func jsonOf(n, size int) string {
	text := prose(n + size)
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"field%d":"%d %s"`, i, i, strings.TrimSpace(text[i:i+size]))
	}
	return b.String() + "}"
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

// dearest are the requests.
func dearest() []costly {
	var all []costly
	body := func(name, contentType string, content func() string, header ...string) {
		all = append(all, costly{name: name, request: func() *http.Request {
			r := chrome("POST", "/api/notes", content(), contentType)
			for _, h := range header {
				key, value, _ := strings.Cut(h, ": ")
				r.Header.Set(key, value)
			}
			return r
		}})
	}
	passes := func() { all[len(all)-1].passes = true }
	target := func(name string, uri func() string) {
		all = append(all, costly{name: name, request: func() *http.Request {
			r := chrome("GET", "/", "", "")
			r.RequestURI = uri()
			path, query, _ := strings.Cut(r.RequestURI, "?")
			r.URL = &url.URL{Path: path, RawQuery: query}
			return r
		}})
	}
	head := func(name string, set func(http.Header)) {
		all = append(all, costly{name: name, request: func() *http.Request {
			r := chrome("GET", "/", "", "")
			set(r.Header)
			return r
		}})
	}

	for _, unit := range []string{
		"0", "\x00", "'", `"`, "`", `\`, "%", "%25", "%u0041", "&#x41;", "/", "../", "(", "<", "<a ", "<!--", "<a/", "select ", "union all ",
		"${", "a=1 or ", "/*", "--", "QUJD", " ", "\n", "1,", `\x41`, "@@", ";", "é", "\xff", "<?php ", "|a", "http://1", "$$", "q'(", "{{", "\\'", "''", "1e", "-1+", "a.", "x'0", "&&", "on=",
	} {
		body(fmt.Sprintf("1 MiB of %q as text", unit), plainText, func() string { return fill(unit, mib) })
	}
	body("1 MiB of prose as text", plainText, func() string { return prose(mib) })
	body("64 KiB of prose as text", plainText, func() string { return prose(64 << 10) })
	passes()
	body("60 KB of quotes as text", plainText, func() string { return fill("'", 60_000) })
	body("60 KB of quotes in a form", formType, func() string { return "a=" + fill("%27", 60_000) })
	body("60 KB of quotes in JSON", "application/json", func() string { return `{"a":"` + fill("'", 60_000) + `"}` })
	body("1 MiB of attack words", plainText, func() string { return hostile(mib) })
	body("16 KiB of attack words", plainText, func() string { return hostile(16 << 10) })
	body("1 MiB of noise", plainText, func() string { return noise(mib) })
	body("1 MiB of prose, attacks at the end", plainText, func() string { return prose(mib-4096) + hostile(4096) })
	body("64 KiB of prose, attacks at the end", plainText, func() string { return prose(64<<10) + hostile(4096) })
	body("a field of 12 MB", formType, func() string { return "a=" + fill("0", 12_000_000) })
	body("a field of 1 MiB of prose in a form", formType, func() string { return "a=" + url.QueryEscape(prose(mib))[:mib-2] })
	body("a field of 1 MiB of prose in JSON", "application/json", func() string { return `{"a":"` + prose(mib-8) + `"}` })
	body("a node of 1 MiB of prose in XML", "text/xml", func() string { return "<a>" + prose(mib-7) + "</a>" })
	body("XML of 900 nodes", "text/xml", func() string { return "<a>" + fill("<b>The quick brown fox, and so on.</b> ", 900*39) + "</a>" })
	passes()
	body("1 MiB of attributes in XML", "text/xml", func() string { return "<a " + fill(`b="c" `, mib-5) + "/>" })
	body("1 MiB of elements in XML", "text/xml", func() string { return fill("<a>", mib) })
	body("100,000 arguments in a form", formType, func() string { return fill("a=1&", 400_000) })
	body("100,000 names in a form", formType, func() string {
		var b strings.Builder
		for i := range 100_000 {
			b.WriteString("a" + strconv.Itoa(i) + "&")
		}
		return b.String()
	})
	body("1,000 arguments of 1 KB in a form", formType, func() string {
		var b strings.Builder
		text := prose(10_000)
		for i := range 1000 {
			fmt.Fprintf(&b, "a%d=%s&", i, url.QueryEscape(text[i:i+950]))
		}
		return b.String()
	})
	body("999 arguments of 0.5 KB of attacks", formType, func() string {
		var b strings.Builder
		text := hostile(10_000)
		for i := range 999 {
			fmt.Fprintf(&b, "a%d=%s&", i, url.QueryEscape(text[i:i+500]))
		}
		return b.String()[:min(b.Len(), mib)]
	})
	body("100,000 values in JSON", "application/json", func() string { return "[" + fill("1,", 200_000) + "1]" })
	body("JSON of 64 KiB, 400 values", "application/json", func() string { return jsonOf(400, 140) })
	passes()
	body("JSON of 1 MiB, 990 values", "application/json", func() string { return jsonOf(990, 1035) })
	body("JSON, 1,000 deep", "application/json", func() string { return fill("[", 1000) + "1" + fill("]", 1000) })
	body("JSON, 1,000 deep, names of 1 KB", "application/json", func() string {
		return fill(`{"`+fill("k", 1000)+`":`, 1004*1000) + "1" + fill("}", 1000)
	})
	body("JSON, a name of 500 KB, 900 values", "application/json", func() string { return `{"` + fill("k", 500_000) + `":[` + fill("1,", 1800) + "1]}" })
	body("1 MiB of opening brackets", "application/json", func() string { return fill("[", mib) })
	body("1 MiB of lines of JSON", "application/x-ndjson", func() string { return fill("{\"a\":1}\n", mib) })
	body("GraphQL, 1 MiB", "application/graphql", func() string { return "{a(b:[" + fill(`"x",`, mib-100) + `"x"])}` })
	body("a file of 1 MB", "multipart/form-data; boundary=x", func() string {
		return parts("--x", `Content-Disposition: form-data; name="f"; filename="a.docx"`, "Content-Type: application/octet-stream", "", noise(1_000_000), "--x--")
	})
	passes()
	body("a multipart field of 1 MB of prose", "multipart/form-data; boundary=x", func() string {
		return parts("--x", `Content-Disposition: form-data; name="f"`, "", prose(1_000_000), "--x--")
	})
	body("900 files", "multipart/form-data; boundary=x", func() string {
		var b strings.Builder
		for i := range 900 {
			fmt.Fprintf(&b, "--x\r\nContent-Disposition: form-data; name=\"f%d\"; filename=\"f%d.txt\"\r\n\r\n%d\r\n", i, i, i)
		}
		return b.String() + "--x--\r\n"
	})
	body("10,000 parts", "multipart/form-data; boundary=x", func() string {
		return fill("--x\r\nContent-Disposition: form-data; name=f\r\n\r\n1\r\n", 49*10_000) + "--x--\r\n"
	})
	body("1 MiB of part headers", "multipart/form-data; boundary=x", func() string {
		return "--x\r\nContent-Disposition: form-data; name=f\r\n" + fill("A: b\r\n", mib-100) + "\r\n\r\n1\r\n--x--\r\n"
	})
	body("64 KiB of zeros that unpack to 1 MiB", plainText, func() string { return zipped(fill("0", mib)) }, "Content-Encoding: gzip")

	target("100,000 arguments in the query", func() string { return "/?" + fill("a=1&", 400_000) })
	target("900 arguments in the query", func() string { return "/?" + fill("a=tea+pots&", 900*11) })
	target("an argument of 64 KB in the query", func() string { return "/?a=" + fill("tea+", 64_000) })
	target("quotes, 64 KB in the query", func() string { return "/?a=" + fill("'", 64_000) })
	target("attack words, 64 KB in the query", func() string { return "/?a=" + url.QueryEscape(hostile(30_000)) })
	target("a path of 64 KB", func() string { return "/" + fill("a/", 64_000) })
	target("a path of 64 KB of dots", func() string { return "/" + fill("./", 64_000) })
	head("a cookie of 64 KB", func(h http.Header) { h.Set("Cookie", "a="+fill("0", 64_000)) })
	head("a cookie of 64 KB of quotes", func(h http.Header) { h.Set("Cookie", "a="+fill("'", 64_000)) })
	head("10,000 cookies", func(h http.Header) { h.Set("Cookie", fill("a=1; ", 50_000)) })
	head("1,000 cookies by name", func(h http.Header) {
		var b strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&b, "c%d=%d; ", i, i)
		}
		h.Set("Cookie", b.String())
	})
	head("a header line of 64 KB", func(h http.Header) { h.Set("X-Data", fill("0", 64_000)) })
	head("a header line of 64 KB of quotes", func(h http.Header) { h.Set("X-Data", fill("'", 64_000)) })
	head("a Referer of 64 KB", func(h http.Header) { h.Set("Referer", "https://example.com/"+fill("a/", 64_000)) })
	head("a User-Agent of 64 KB of attacks", func(h http.Header) { h.Set("User-Agent", strings.ReplaceAll(hostile(64_000), "\n", " ")) })
	head("1,000 header lines of 1 KB", func(h http.Header) {
		for i := range 1000 {
			h.Set("X-"+strconv.Itoa(i), prose(1000))
		}
	})
	return all
}

// measured is what one request has cost.
type measured struct {
	cpu    time.Duration
	alloc  uint64
	answer string
}

// measure judges a request.
func measure(t *testing.T, s *Stage, c *costly) (m measured) {
	t.Helper()
	r := filter.NewRequest(c.request(), testTime)
	defer r.Release()
	runtime.GC() // of what made the request
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := processCPU(t)
	x, err := s.Inspect(r)
	d := x.Decision
	m.cpu = processCPU(t) - start
	runtime.ReadMemStats(&after)
	m.alloc = after.TotalAlloc - before.TotalAlloc
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	if m.answer = "passes, " + x.Judged.Path.String(); d.Refuses() {
		m.answer = strconv.Itoa(d.StatusCode())
		if d.Rule != "" {
			m.answer += ", rule " + d.Rule
		}
		if x.Judged.Cause != "" {
			m.answer += "; " + strings.TrimSpace(x.Judged.Cause+" "+strings.TrimPrefix(strconv.Itoa(x.Judged.Rule), "0"))
		}
	}
	if c.passes && d.Refuses() {
		t.Errorf("%s: %v %v %v, must pass", c.name, d.Reason, d.Rule, d.Payload)
	}
	return m
}

// TestDearest holds every legal request to a cost. The bound is far above what is
// measured (bench/results/dear.md), so that a slow machine holds it too.
func TestDearest(t *testing.T) {
	if raceSlows > 1 || testing.Short() {
		t.Skip("the cost of instrumented code says nothing")
	}
	const bound = time.Second
	s := mustNew(t, Config{Fast: true, Warm: true})
	if err := s.Warmed(t.Context()); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	only := regexp.MustCompile(*dearShapes)
	for _, c := range dearest() {
		if !only.MatchString(c.name) {
			continue
		}
		cold := measure(t, s, &c)
		warm := measure(t, s, &c)
		if cold.cpu > bound || warm.cpu > bound {
			t.Errorf("%s: %v of CPU, then %v", c.name, cold.cpu, warm.cpu)
		}
		fmt.Fprintf(&table, "| %s | %.1f ms | %.1f ms | %.1f MB | %s |\n", strings.ReplaceAll(c.name, "|", `\|`),
			cold.cpu.Seconds()*1e3, warm.cpu.Seconds()*1e3, float64(warm.alloc)/1e6, warm.answer)
	}
	t.Log("\n" + table.String())
	if *dearFile != "" {
		if err := os.WriteFile(*dearFile, []byte(table.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

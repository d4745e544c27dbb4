package injection

import (
	"strings"
	"testing"

	"github.com/corazawaf/libinjection-go"
)

// ordinary values by kind, as requests carry them.
var ordinary = []struct {
	kind   string
	values []string
}{
	{"words", []string{"hello", "id", "search", "username", "page", "Berlin", "true", "null", "de-DE", "utf-8", "keep-alive", "no-cache"}},
	{"numbers", []string{"1", "42", "2024", "3.14159", "-17", "1e6", "0x1f", "1,234.56", "+49 30 1234567", "99.99"}},
	{"names", []string{"Anna Schmidt", "O'Brien", "Jean-Luc Picard", "Ёлкина Мария", "李小龙", "Müller & Söhne GmbH", "D'Angelo, R."}},
	{"emails", []string{"user@example.org", "first.last+tag@mail.example.co.uk", "info@xn--bcher-kva.example"}},
	{"urls", []string{"https://www.example.org/path/to/page.html?id=5&lang=en#top", "/api/v1/users/42/orders?from=2024-01-01&to=2024-02-01", "http://localhost:8080/", "/static/js/app.4f3a9c.js"}},
	{"uuids", []string{"123e4567-e89b-12d3-a456-426614174000", "F9168C5E-CEB2-4FAA-B6BF-329BF39FA1E4"}},
	{"dates", []string{"2024-02-29", "2024-02-29T12:34:56Z", "Tue, 15 Nov 1994 08:12:31 GMT", "12/31/2024", "31.12.2024 23:59"}},
	{"json", []string{`{"id":5,"name":"Anna","tags":["a","b"],"ok":true}`, `[1,2,3]`, `{"query":"it's \"fine\"","n":null}`}},
	{"english", []string{"The quick brown fox jumps over the lazy dog.", "It's a nice day, isn't it? We'll see you at 5 o'clock and bring \"the book\".", "Please select one or more items from the list; prices are in EUR (incl. VAT)."}},
	{"german", []string{"Wir freuen uns, Ihnen mitteilen zu können, daß Ihre Bestellung unterwegs ist.", "Straße und Hausnummer (z. B. Hauptstraße 5)"}},
	{"russian", []string{"Съешь же ещё этих мягких французских булок, да выпей чаю.", "Привет, как дела?"}},
	{"chinese", []string{"我能吞下玻璃而不伤身体。", "北京市朝阳区建国路88号"}},
	{"user agents", []string{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36", "curl/8.5.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"}},
	{"accept", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8", "*/*", "en-US,en;q=0.9,de;q=0.8", "gzip, deflate, br, zstd", `"Chromium";v="126", "Not/A)Brand";v="8"`}},
	{"cookies", []string{"GA1.1.1234567890.1700000000", "session=abc123def456; theme=dark; _ga=GA1.2.123.456", "s%3AabcDEF123.xyz%2F%2B"}},
	{"base64", []string{"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U", "dGhlIHF1aWNrIGJyb3duIGZveA==", "Zm9v+YmFy/YmF6"}},
	{"html", []string{"<p>Hello <b>world</b>, <a href=\"https://example.org/\">link</a></p>", "a < b and c > d"}},
	{"prose 64K", []string{strings.Repeat("It was the best of times, it was the worst of times; she said \"no\" and didn't come. ", 780)}},
	{"base64 64K", []string{strings.Repeat("iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4", 1024)}},
}

func BenchmarkOrdinary(b *testing.B) {
	for _, o := range ordinary {
		size := 0
		for _, s := range o.values {
			size += len(s)
		}
		run := func(name string, ask func(string) bool) {
			b.Run(o.kind+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					for _, s := range o.values {
						ask(s)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(o.values)), "ns/value")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/byte")
			})
		}
		run("sqli", MaySQLi)
		run("sqli-library", func(s string) bool { ok, _ := libinjection.IsSQLi(s); return ok })
		run("xss", MayXSS)
		run("xss-library", libinjection.IsXSS)
	}
}

// BenchmarkCorpus reads the values of the CRS corpus, attacks among them.
func BenchmarkCorpus(b *testing.B) {
	values := corpusValues()
	run := func(name string, ask func(string) bool) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, s := range values {
					ask(s)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(values)), "ns/value")
		})
	}
	run("sqli", MaySQLi)
	run("sqli-with-fingerprint", func(s string) bool { ok, _ := SQLi(s); return ok })
	run("sqli-library", func(s string) bool { ok, _ := libinjection.IsSQLi(s); return ok })
	run("xss", MayXSS)
	run("xss-library", libinjection.IsXSS)
}

// BenchmarkHostile reads 64 KB that make a careless reader quadratic.
func BenchmarkHostile(b *testing.B) {
	values := hostile(64 << 10)
	for _, s := range values {
		b.Run(strings.ToValidUTF8(strings.Map(printable, s[:min(6, len(s))]), "?"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				MaySQLi(s)
				MayXSS(s)
			}
		})
	}
}

func printable(r rune) rune {
	if r <= ' ' || r == '/' || r > '~' {
		return '_'
	}
	return r
}

package waf

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
)

// chrome returns a request with the header fields of a current browser.
func chrome(method, target, body, contentType string) *http.Request {
	r := newHTTP(method, target, body,
		`Sec-Ch-Ua: "Chromium";v="126", "Google Chrome";v="126", "Not.A/Brand";v="24"`,
		"Sec-Ch-Ua-Mobile: ?0", `Sec-Ch-Ua-Platform: "Linux"`, "Upgrade-Insecure-Requests: 1",
		"Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: navigate", "Sec-Fetch-User: ?1", "Sec-Fetch-Dest: document",
		"Referer: https://shop.example.com/catalogue", "Accept-Encoding: gzip, deflate, br, zstd",
		"Accept-Language: en-GB,en;q=0.9,de;q=0.8", "Cookie: sid=8f14e45fceea167a5a36dedd4bea2543; theme=dark")
	r.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// json4K is a JSON document of four kilobytes, as a shop's API takes it.
var json4K = func() string {
	var b strings.Builder
	b.WriteString(`{"order":{"customer":"Ada Lovelace","items":[`)
	for i := 0; b.Len() < 4000; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"sku":"TEA-%04d","title":"Assam, second flush","quantity":%d,"price":"12.50"}`, i, i%7)
	}
	b.WriteString(`]}}`)
	return b.String()
}()

func benchmark(b *testing.B, s *Stage, want filter.Verdict, request func() *http.Request) {
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		r := filter.NewRequest(request(), testTime)
		r.Client = r.Peer
		b.StartTimer()
		d, err := s.Check(r)
		if err != nil || d.Verdict != want {
			b.Fatalf("%v, %v", d.Verdict, err)
		}
		b.StopTimer()
		r.Release()
		b.StartTimer()
	}
}

func BenchmarkGET(b *testing.B) {
	benchmark(b, readyStage(b), filter.Continue, func() *http.Request {
		return chrome("GET", "/search?q=tea+pots&page=2&sort=price", "", "")
	})
}

func BenchmarkStatic(b *testing.B) {
	benchmark(b, readyStage(b), filter.Continue, func() *http.Request {
		return chrome("GET", "/assets/app.3f2a1c.js", "", "")
	})
}

func BenchmarkForm(b *testing.B) {
	benchmark(b, readyStage(b), filter.Continue, func() *http.Request {
		return chrome("POST", "/account", "first=Ada&last=Lovelace&mail=ada%40example.com&phone=555-0123&street=12+Main+Street&city=London&zip=W1&country=GB&note=Ring+twice&news=on",
			"application/x-www-form-urlencoded")
	})
}

func BenchmarkJSON4K(b *testing.B) {
	benchmark(b, readyStage(b), filter.Continue, func() *http.Request {
		return chrome("POST", "/api/orders", json4K, "application/json")
	})
}

func BenchmarkSQLi(b *testing.B) {
	benchmark(b, readyStage(b), filter.Block, func() *http.Request {
		return chrome("GET", "/search?q=1%27%20UNION%20SELECT%20password%20FROM%20users--%20-", "", "")
	})
}

func BenchmarkUpload(b *testing.B) {
	content := strings.Repeat("\xff\xd8\x00x", 5<<10)
	body := parts("--x", `Content-Disposition: form-data; name="f"; filename="beach.jpg"`, "Content-Type: image/jpeg", "", content, "--x--")
	benchmark(b, readyStage(b), filter.Continue, func() *http.Request {
		return chrome("POST", "/photos", body, "multipart/form-data; boundary=x")
	})
}

func BenchmarkNotInspected(b *testing.B) {
	benchmark(b, readyStage(b), filter.Continue, func() *http.Request {
		return chrome("POST", "/rpc", "\x0a\x03abc\x00", "application/x-protobuf")
	})
}

func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	keep := mustNew(b, Config{Threshold: 6}) // holds what the engine remembers
	_ = keep
	for i := 0; b.Loop(); i++ {
		s, err := New(Config{Threshold: 100 + i})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

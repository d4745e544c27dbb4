package gate

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/corazawaf/coraza/v3"
)

// browser are the header fields of a page load in Chrome.
var browser = [][2]string{
	{"Host", "shop.example.com"},
	{"Connection", "keep-alive"},
	{"Sec-Ch-Ua", `"Chromium";v="126", "Google Chrome";v="126", "Not-A.Brand";v="99"`},
	{"Sec-Ch-Ua-Mobile", "?0"},
	{"Sec-Ch-Ua-Platform", `"Linux"`},
	{"Upgrade-Insecure-Requests", "1"},
	{"User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"},
	{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
	{"Sec-Fetch-Site", "same-origin"},
	{"Sec-Fetch-Mode", "navigate"},
	{"Sec-Fetch-User", "?1"},
	{"Sec-Fetch-Dest", "document"},
	{"Referer", "https://shop.example.com/products"},
	{"Accept-Encoding", "gzip, deflate, br, zstd"},
	{"Accept-Language", "en-US,en;q=0.9,de;q=0.8"},
	{"Cookie", "session=f3a9c1d27b604e58; theme=dark"},
}

func withHeader(more ...[2]string) [][2]string {
	return append(append([][2]string(nil), browser...), more...)
}

// workloads are the requests that are measured.
func workloads() map[string]*request {
	form := url.Values{}
	for i := range 10 {
		form.Set(fmt.Sprintf("field%d", i), "a short text of a customer, number "+strings.Repeat("x", i))
	}
	var items []string
	for n := 0; n < 4000; n += len(items[len(items)-1]) + 1 {
		i := len(items)
		items = append(items, fmt.Sprintf(`{"id":%d,"name":"Article number %d","price":%d.99,"tags":["new","red"],"stock":true}`, i, i, 10+i))
	}
	body := `{"items":[` + strings.Join(items, ",") + `]}`
	return map[string]*request{
		"GET": {method: "GET", uri: "/products/list?page=2&sort=price&q=red+shoes", proto: "HTTP/1.1", header: browser},
		"Form": {method: "POST", uri: "/checkout", proto: "HTTP/1.1", body: form.Encode(), header: withHeader(
			[2]string{"Content-Type", "application/x-www-form-urlencoded"}, [2]string{"Content-Length", fmt.Sprint(len(form.Encode()))})},
		"JSON4K": {method: "POST", uri: "/api/v1/orders", proto: "HTTP/1.1", body: body, header: withHeader(
			[2]string{"Content-Type", "application/json"}, [2]string{"Content-Length", fmt.Sprint(len(body))})},
		"SQLi": {method: "GET", uri: "/products?id=1%27+UNION+SELECT+password+FROM+users--+-", proto: "HTTP/1.1", header: browser},
	}
}

func benchmark(b *testing.B, name string) {
	for _, level := range []int{1, 2} {
		plain, gated, g := load(b, coreRuleSet(level))
		if g.Off() != "" {
			b.Fatal(g.Off())
		}
		r := workloads()[name]
		r.compare(b, plain, gated)
		for _, e := range []struct {
			name string
			waf  coraza.WAF
		}{{"plain", plain}, {"gate", gated}} {
			b.Run(fmt.Sprintf("PL%d/%s", level, e.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_ = r.evaluate(b, e.waf).Close()
				}
			})
		}
	}
}

func BenchmarkGET(b *testing.B)    { benchmark(b, "GET") }
func BenchmarkForm(b *testing.B)   { benchmark(b, "Form") }
func BenchmarkJSON4K(b *testing.B) { benchmark(b, "JSON4K") }
func BenchmarkSQLi(b *testing.B)   { benchmark(b, "SQLi") }

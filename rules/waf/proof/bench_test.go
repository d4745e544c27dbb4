package proof

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moatwaf/moat/rules/waf/view"
)

// browser are the header fields of a page load in Chrome.
const browser = "Host: shop.example.com\r\nConnection: keep-alive\r\n" +
	"Sec-Ch-Ua: \"Chromium\";v=\"126\", \"Google Chrome\";v=\"126\", \"Not-A.Brand\";v=\"99\"\r\n" +
	"Sec-Ch-Ua-Mobile: ?0\r\nSec-Ch-Ua-Platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
	"Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n" +
	"Referer: https://shop.example.com/products\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-US,en;q=0.9,de;q=0.8\r\nCookie: session=f3a9c1d27b604e58; theme=dark\r\n"

func post(path, contentType, body string) *message {
	return parse(fmt.Sprintf("POST %s HTTP/1.1\r\n%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", path, browser, contentType, len(body), body))
}

func get() *message {
	return parse("GET /products/list?page=2&sort=price&q=teapots HTTP/1.1\r\n" + browser + "\r\n")
}

func form() *message {
	f := url.Values{}
	for i := range 10 {
		f.Set(fmt.Sprintf("field%d", i), "a short text of a customer, number "+strings.Repeat("x", i))
	}
	return post("/checkout", "application/x-www-form-urlencoded", f.Encode())
}

func jsonOf(size int) *message {
	var b strings.Builder
	b.WriteString(`{"items":[`)
	for i := 0; b.Len() < size; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":%d,"name":"Article number %d","price":%d.99,"tags":["new","red"],"stock":true}`, i, i, 10+i)
	}
	b.WriteString(`]}`)
	return post("/api/v1/orders", "application/json", b.String())
}

func textOf(size int) *message {
	words := strings.Fields("the quick brown fox jumps over a lazy dog while nobody in particular looks at it and so on for ever")
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
	}
	return post("/api/v1/notes", "application/json", `{"note":"`+b.String()+`"}`)
}

func upload() *message {
	const boundary = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
	part := func(head, content string) string {
		return "--" + boundary + "\r\n" + head + "\r\n\r\n" + content + "\r\n"
	}
	body := part(`Content-Disposition: form-data; name="title"`, "A day at the beach") +
		part("Content-Disposition: form-data; name=\"photo\"; filename=\"beach.jpg\"\r\nContent-Type: image/jpeg", strings.Repeat("\xff\xd8\x00x", 5<<10)) +
		"--" + boundary + "--\r\n"
	return post("/photos", "multipart/form-data; boundary="+boundary, body)
}

// levels runs f for the paranoia levels that are measured.
func levels(b *testing.B, f func(b *testing.B, e *engine)) {
	for _, level := range []int{1, 2} {
		e := load(b, coreRuleSet(level))
		if e.proof.Off() != "" {
			b.Fatal(e.proof.Off())
		}
		b.Run(fmt.Sprintf("PL%d", level), func(b *testing.B) { f(b, e) })
	}
}

func benchmark(b *testing.B, m *message) {
	levels(b, func(b *testing.B, e *engine) {
		res, known := e.prove(m)
		if !known || !res.Clean {
			b.Fatalf("%v %+v; %s", known, res, e.finding(b, m))
		}
		b.Run("plain", func(b *testing.B) {
			b.ReportAllocs()
			start := processor()
			for b.Loop() {
				e.finding(b, m)
			}
			b.ReportMetric(float64(processor()-start)/float64(b.N), "cpu-ns/op")
		})
		b.Run("all", func(b *testing.B) {
			b.ReportAllocs()
			start := processor()
			for b.Loop() {
				if res, _ := e.prove(m); !res.Clean {
					b.Fatal(res)
				}
			}
			b.ReportMetric(float64(processor()-start)/float64(b.N), "cpu-ns/op")
		})
		b.Run("view", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v := view.Get()
				e.views.Head(v, m.r, m.kind)
				e.views.Body(v, view.Body{Kind: m.kind, Data: m.body}, v.Single(processorVariable))
				v.Release()
			}
		})
	})
}

// processor returns the time that the process has spent on a processor, which a
// busy machine lengthens less than the time on the wall.
func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkGET(b *testing.B)       { benchmark(b, get()) }
func BenchmarkForm(b *testing.B)      { benchmark(b, form()) }
func BenchmarkJSON4K(b *testing.B)    { benchmark(b, jsonOf(4000)) }
func BenchmarkJSON64K(b *testing.B)   { benchmark(b, jsonOf(12000)) }
func BenchmarkText64K(b *testing.B)   { benchmark(b, textOf(64000)) }
func BenchmarkMultipart(b *testing.B) { benchmark(b, upload()) }

// BenchmarkColdHeaders forgets what header fields lead to before each request, which
// is part of what it measures.
func BenchmarkColdHeaders(b *testing.B) {
	m := get()
	levels(b, func(b *testing.B, e *engine) {
		e.prove(m)
		b.ReportAllocs()
		sets := e.proof.scans.memory.sets
		for b.Loop() {
			for i := range sets {
				for j := range sets[i].ways {
					if sets[i].ways[j].Load() != nil {
						sets[i].ways[j].Store(nil)
					}
				}
			}
			clear(e.proof.scans.memory.door)
			if res, _ := e.prove(m); !res.Clean {
				b.Fatal(res)
			}
		}
	})
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		load(b, coreRuleSet(1))
	}
}

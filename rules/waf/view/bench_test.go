package view_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf/view"
)

// chrome is what Chrome sends with a GET.
const chrome = "GET /products/list?category=garden&page=2&sort=price HTTP/1.1\r\n" +
	"Host: shop.example.com\r\n" +
	"Connection: keep-alive\r\n" +
	"sec-ch-ua: \"Chromium\";v=\"126\", \"Google Chrome\";v=\"126\", \"Not-A.Brand\";v=\"8\"\r\n" +
	"sec-ch-ua-mobile: ?0\r\n" +
	"sec-ch-ua-platform: \"Linux\"\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n" +
	"Sec-Fetch-Site: same-origin\r\n" +
	"Sec-Fetch-Mode: navigate\r\n" +
	"Sec-Fetch-User: ?1\r\n" +
	"Sec-Fetch-Dest: document\r\n" +
	"Referer: https://shop.example.com/products\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n" +
	"Cookie: session=4f5a1c9e2b7d40f8a6c3; theme=dark\r\n\r\n"

// sample is a body of a usual request.
type sample struct {
	name, contentType string
	body              []byte
	kind              view.Kind
	processor         string
	whole             bool
}

var samples = []sample{
	{"form", "application/x-www-form-urlencoded", []byte(strings.Join([]string{
		"first_name=Anna", "last_name=M%C3%BCller", "email=anna%40example.com", "street=Main+Street+12", "city=Berlin",
		"zip=10115", "country=DE", "phone=%2B49+30+1234567", "newsletter=on", "comment=Please+leave+it+at+the+door",
	}, "&")), view.Form, "URLENCODED", false},
	{"json-4K", "application/json", order(14), view.JSON, "JSON", false},
	{"json-64K-array", "application/json", []byte("[" + repeat(900, `{"t":"`+strings.Repeat("x", 64)+`"}`, ",") + "]"), view.JSON, "JSON", false},
	{"json-64K-text", "application/json", []byte(`{"text":"` + strings.Repeat("lorem ipsum ", 5461) + `"}`), view.JSON, "JSON", false},
	{"multipart-20K", "multipart/form-data; boundary=----WebKitFormBoundaryABCDEFGHIJKLMNOP", upload(20 << 10), view.Multipart, "MULTIPART", false},
	{"text-64K", "text/plain", bytes.Repeat([]byte("lorem ipsum "), 5461), view.Text, "RAW", false},
	{"xml-prepared", "text/xml", []byte("<x>" + repeat(40, `<a v="urn:example"/><t>urn:example</t><t>text of some length &amp; more</t>`, "") + "</x>"), view.XML, "XML", false},
	{"xml-soap", "text/xml", []byte(`<?xml version="1.0" encoding="UTF-8"?><soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope"><soap:Body>` +
		repeat(40, "<m:Item id=\"#\">\n  <m:Name>text of some length &amp; more</m:Name>\n</m:Item>\n", "") + `</soap:Body></soap:Envelope>`), view.XML, "XML", true},
}

// order is a JSON document as an API gets it: about 4 KB with 14 items.
func order(items int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"customer":{"id":48213,"name":"Anna M\u00fcller","email":"anna@example.com","vip":false,"notes":null},"items":[`)
	for i := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"sku":"SKU-%05d","title":"Garden chair, oak, \"natural\" finish","quantity":%d,"price":{"amount":%d.95,"currency":"EUR"},"tags":["garden","oak","outdoor"],"options":{"gift":true,"color":"natural","message":"Happy birthday from all of us"}}`, i, i%3+1, 20+i)
	}
	b.WriteString(`],"total":519.30,"createdAt":"2026-03-01T12:00:00Z"}`)
	return b.Bytes()
}

// upload is a multipart body as Chrome sends it, with a file of n bytes.
func upload(n int) []byte {
	const boundary = "------WebKitFormBoundaryABCDEFGHIJKLMNOP\r\n"
	file := make([]byte, n)
	for i := range file {
		file[i] = byte(i * 7919 >> 3)
	}
	return []byte(boundary + "Content-Disposition: form-data; name=\"title\"\r\n\r\nHolidays in Rome\r\n" +
		boundary + "Content-Disposition: form-data; name=\"album\"\r\n\r\n2026\r\n" +
		boundary + "Content-Disposition: form-data; name=\"photo\"; filename=\"IMG_2231.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n" +
		string(file) + "\r\n" + boundary[:len(boundary)-2] + "--\r\n")
}

func (s *sample) request(tb testing.TB) *filter.Request {
	tb.Helper()
	hr := request("POST", "/api/orders?source=web", "Content-Type: "+s.contentType+"\nAccept: */*\nUser-Agent: Mozilla/5.0\nCookie: session=4f5a1c9e", s.body)
	r := filter.NewRequest(hr, time.Unix(1700000000, 0))
	r.Client = r.Peer
	return r
}

func chromeRequest(tb testing.TB) *filter.Request {
	tb.Helper()
	hr, _ := parse(tb, chrome)
	r := filter.NewRequest(hr, time.Unix(1700000000, 0))
	r.Client = r.Peer
	return r
}

func BenchmarkHead(b *testing.B) {
	r := chromeRequest(b)
	defer r.Release()
	p := view.New(view.Options{})
	b.ReportAllocs()
	for b.Loop() {
		v := view.Get()
		if p.Head(v, r, view.None) != view.Known {
			b.Fatal("not known")
		}
		v.Release()
	}
}

func BenchmarkHeadAndBody(b *testing.B) {
	p := view.New(view.Options{})
	for _, s := range samples {
		b.Run(s.name, func(b *testing.B) {
			r := s.request(b)
			defer r.Release()
			b.SetBytes(int64(len(s.body)))
			b.ReportAllocs()
			for b.Loop() {
				v := view.Get()
				if p.Head(v, r, s.kind) != view.Known || p.Body(v, view.Body{Kind: s.kind, Data: s.body, Whole: s.whole}, s.processor) != view.Known {
					b.Fatal("not known")
				}
				v.Release()
			}
		})
	}
}

// TestSamples compares the requests of the benchmarks with the engine.
func TestSamples(t *testing.T) {
	hr, _ := parse(t, chrome)
	if out := plainPolicy().compare(t, hr, nil); out.head != view.Known || out.body != view.Known {
		t.Errorf("Chrome's GET: %v, %v", out.head, out.body)
	}
	for _, s := range samples {
		hr := request("POST", "/api/orders?source=web", "Content-Type: "+s.contentType, s.body)
		if out := plainPolicy().compare(t, hr, s.body); out.head != view.Known || out.body != view.Known {
			t.Errorf("%s: %v, %v", s.name, out.head, out.body)
		}
	}
}

// TestAllocations holds that a View costs no allocation, whatever the body.
func TestAllocations(t *testing.T) {
	p := view.New(view.Options{})
	r := chromeRequest(t)
	defer r.Release()
	v := new(view.View)
	if n := testing.AllocsPerRun(100, func() {
		if p.Head(v, r, view.None) != view.Known || p.Body(v, view.Body{}, "") != view.Known {
			t.Fatal("not known")
		}
		v.Reset()
	}); n > 0 {
		t.Errorf("%v allocations for a GET", n)
	}
	for _, s := range samples {
		r := s.request(t)
		if n := testing.AllocsPerRun(100, func() {
			if p.Head(v, r, s.kind) != view.Known || p.Body(v, view.Body{Kind: s.kind, Data: s.body, Whole: s.whole}, s.processor) != view.Known {
				t.Fatal("not known")
			}
			v.Reset()
		}); n > 0 {
			t.Errorf("%s: %v allocations", s.name, n)
		}
		r.Release()
	}
}

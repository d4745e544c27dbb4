package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/moatwaf/moat/rules/waf/differ"
)

// A workload makes requests of one kind. No two have the same argument values, as
// with real clients; fields of the header are the same where it does not say otherwise.
type workload struct {
	name      string
	paranoia  int
	must, aim float64 // how many times cheaper than plain Coraza
	blocked   bool
	make      func(r *rand.Rand) *http.Request
}

const (
	formType = "application/x-www-form-urlencoded"
	agent    = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
	cookie   = "sid=8f14e45fceea167a5a36dedd4bea2543; theme=dark"
	referer  = "https://shop.example.com/catalogue"
)

// request returns a request with Chrome's header fields, as net/http's server hands
// it to a handler.
func request(method, target, contentType, body string) *http.Request {
	var src io.Reader
	if body != "" {
		src = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, src)
	r.Host = "shop.example.com"
	r.RemoteAddr = "198.51.100.7:40000"
	h := r.Header
	h.Set("User-Agent", agent)
	h.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8")
	h.Set("Sec-Ch-Ua", `"Chromium";v="126", "Google Chrome";v="126", "Not.A/Brand";v="24"`)
	h.Set("Sec-Ch-Ua-Mobile", "?0")
	h.Set("Sec-Ch-Ua-Platform", `"Linux"`)
	h.Set("Upgrade-Insecure-Requests", "1")
	h.Set("Sec-Fetch-Site", "same-origin")
	h.Set("Sec-Fetch-Mode", "navigate")
	h.Set("Sec-Fetch-User", "?1")
	h.Set("Sec-Fetch-Dest", "document")
	h.Set("Referer", referer)
	h.Set("Accept-Encoding", "gzip, deflate, br, zstd")
	h.Set("Accept-Language", "en-GB,en;q=0.9,de;q=0.8")
	h.Set("Cookie", cookie)
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	if body != "" {
		h.Set("Content-Length", fmt.Sprint(len(body)))
	}
	return r
}

var nouns = strings.Fields("tea pots assam kettle porcelain strainer caddy oolong green mint lemon honey spoon saucer samovar ceylon darjeeling")

func noun(r *rand.Rand) string { return nouns[r.IntN(len(nouns))] }

func hexOf(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "0123456789abcdef"[r.IntN(16)]
	}
	return string(b)
}

func get(r *rand.Rand) *http.Request {
	return request("GET", fmt.Sprintf("/search?q=%s+%s&page=%d&sort=price", noun(r), noun(r), r.IntN(5000)), "", "")
}

// cold is get with header values that no other request has.
func cold(r *rand.Rand) *http.Request {
	q := get(r)
	q.Header.Set("User-Agent", fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.%d.%d.%d Safari/537.36", r.IntN(100), r.IntN(10000), r.IntN(1000)))
	q.Header.Set("Referer", fmt.Sprintf("https://shop.example.com/catalogue/%s/%d?from=%s", noun(r), r.IntN(1<<30), noun(r)))
	q.Header.Set("Cookie", "sid="+hexOf(r, 32)+"; theme="+noun(r))
	q.Header.Set("Accept-Language", fmt.Sprintf("en-GB,en;q=0.%d,de;q=0.%d", r.IntN(1000), r.IntN(1000)))
	q.Header.Set("Sec-Ch-Ua", fmt.Sprintf(`"Chromium";v="%d", "Google Chrome";v="126", "Not.A/Brand";v="%d"`, r.IntN(10000), r.IntN(10000)))
	return q
}

func form(r *rand.Rand) *http.Request {
	return request("POST", "/account", formType, fmt.Sprintf(
		"first=%s&last=%s&mail=%s%%40example.com&phone=0%d&street=%d+Main+Street&city=London&zip=W%d&country=GB&note=Ring+twice+for+%s&news=on",
		noun(r), noun(r), noun(r), r.IntN(1<<20), r.IntN(100), r.IntN(20), noun(r)))
}

// document returns JSON of n bytes, as a shop's API takes it.
func document(r *rand.Rand, n int) string {
	type item struct {
		SKU      string `json:"sku"`
		Title    string `json:"title"`
		Quantity int    `json:"quantity"`
		Price    string `json:"price"`
	}
	var items []item
	for size := 60; size < n; size += 78 {
		items = append(items, item{fmt.Sprintf("TEA-%04d", r.IntN(10000)), noun(r) + ", " + noun(r) + " " + noun(r), r.IntN(9), fmt.Sprintf("%d.50", r.IntN(90))})
	}
	b, err := json.Marshal(map[string]any{"order": map[string]any{"customer": noun(r), "items": items}})
	if err != nil {
		panic(err) // made of plain values
	}
	return string(b)
}

// large returns JSON of 64 KB with as many values as are inspected: fewer than 1,000.
func large(r *rand.Rand) string {
	items := make([]map[string]any, 300)
	for i := range items {
		text := ""
		for len(text) < 150 {
			text += noun(r) + " "
		}
		items[i] = map[string]any{"sku": fmt.Sprintf("TEA-%04d", r.IntN(10000)), "title": text, "quantity": r.IntN(9)}
	}
	b, err := json.Marshal(map[string]any{"items": items})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// prose returns n bytes of words.
func prose(r *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(noun(r))
		b.WriteByte(" .,"[r.IntN(3)])
		b.WriteByte(' ')
	}
	return b.String()[:n]
}

func upload(r *rand.Rand) *http.Request {
	content := make([]byte, 20<<10)
	for i := range content {
		content[i] = byte(r.IntN(256))
	}
	copy(content, "\xff\xd8\xff\xe0\x00\x10JFIF")
	body := "--x\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\n" + noun(r) + "\r\n--x\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"" + noun(r) +
		".jpg\"\r\nContent-Type: image/jpeg\r\n\r\n" + string(content) + "\r\n--x--\r\n"
	return request("POST", "/photos", "multipart/form-data; boundary=x", body)
}

var workloads = []workload{
	{"GET, Chrome's header, 3 arguments, 2 cookies", 1, 130, 250, false, get},
	{"the same, header never seen", 1, 70, 120, false, cold},
	{"form, 10 fields", 1, 150, 250, false, form},
	{"JSON, 4 KB", 1, 500, 1000, false, func(r *rand.Rand) *http.Request {
		return request("POST", "/api/orders", "application/json", document(r, 4<<10))
	}},
	{"JSON, 64 KB", 1, 220, 500, false, func(r *rand.Rand) *http.Request { return request("POST", "/api/orders", "application/json", large(r)) }},
	{"text, 64 KB in one field", 1, 220, 500, false, func(r *rand.Rand) *http.Request {
		return request("POST", "/notes", formType, "text="+url.QueryEscape(prose(r, 64<<10)))
	}},
	{"multipart, a file of 20 KB", 1, 50, 100, false, upload},
	{"PL2: GET", 2, 150, 300, false, get},
	{"PL2: form, 10 fields", 2, 150, 300, false, form},
	{"blocked GET", 1, 5, 10, true, func(r *rand.Rand) *http.Request {
		return request("GET", "/search?page="+fmt.Sprint(r.IntN(1000))+"&q=1%27%20UNION%20SELECT%20password%20FROM%20users--%20-", "", "")
	}},
	{"blocked POST", 1, 5, 10, true, func(r *rand.Rand) *http.Request {
		return request("POST", "/comment", formType, "id="+fmt.Sprint(r.IntN(1000))+"&text=%3Cscript%3Ealert(document.cookie)%3C%2Fscript%3E")
	}},
}

// mixed returns a sample of clean traffic: of the regression corpus and of browsers,
// apps and services.
func mixed(r *rand.Rand, corpus, shapes int) (all []*differ.Request, fromCorpus int) {
	list := differ.Corpus()
	for _, i := range r.Perm(len(list))[:min(corpus, len(list))] {
		m := list[i]
		if q, err := differ.Parse(&m); err == nil {
			all = append(all, q)
		}
	}
	fromCorpus = len(all)
	for i := range shapes {
		m := differ.Shapes[i%len(differ.Shapes)].Make(r)
		if q, err := differ.Parse(&m); err == nil {
			all = append(all, q)
		}
	}
	return all, fromCorpus
}

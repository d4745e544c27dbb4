package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// A workload makes the bytes of one kind of request.
type workload struct {
	name   string
	most   float64 // how many times the CPU of Caddy alone
	weight int     // it gets one request of so many
	make   func(*rand.Rand) (method, target, contentType, body string)
}

var nouns = strings.Fields("tea pots assam kettle porcelain strainer caddy oolong green mint lemon honey spoon saucer samovar ceylon darjeeling")

func noun(r *rand.Rand) string { return nouns[r.IntN(len(nouns))] }

var workloads = []workload{
	{"get", 1.2, 1, func(r *rand.Rand) (string, string, string, string) {
		return "GET", fmt.Sprintf("/search?q=%s+%s&page=%d&sort=price", noun(r), noun(r), r.IntN(5000)), "", ""
	}},
	{"form, 10 fields", 1.3, 1, func(r *rand.Rand) (string, string, string, string) {
		return "POST", "/account", "application/x-www-form-urlencoded", fmt.Sprintf(
			"first=%s&last=%s&mail=%s%%40example.com&phone=0%d&street=%d+Main+Street&city=London&zip=W%d&country=GB&note=Ring+twice+for+%s&news=on",
			noun(r), noun(r), noun(r), r.IntN(1<<20), r.IntN(100), r.IntN(20), noun(r))
	}},
	{"JSON, 4 KB", 1.6, 2, func(r *rand.Rand) (string, string, string, string) {
		var b strings.Builder
		b.WriteString(`{"order":{"customer":"` + noun(r) + `","items":[`)
		for b.Len() < 4000 {
			fmt.Fprintf(&b, `{"sku":"TEA-%04d","title":"%s, %s %s","quantity":%d,"price":"%d.50"},`, r.IntN(10000), noun(r), noun(r), noun(r), r.IntN(9), r.IntN(90))
		}
		return "POST", "/api/orders", "application/json", strings.TrimSuffix(b.String(), ",") + "]}}"
	}},
}

// wire returns the bytes of a request with Chrome's header fields.
func (w *workload) wire(r *rand.Rand) []byte {
	method, target, contentType, body := w.make(r)
	var b strings.Builder
	b.WriteString(method + " " + target + " HTTP/1.1\r\nHost: shop.example.com\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
		"Sec-Ch-Ua: \"Chromium\";v=\"126\", \"Google Chrome\";v=\"126\", \"Not.A/Brand\";v=\"24\"\r\nSec-Ch-Ua-Mobile: ?0\r\nSec-Ch-Ua-Platform: \"Linux\"\r\n" +
		"Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n" +
		"Referer: https://shop.example.com/catalogue\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n" +
		"Cookie: sid=8f14e45fceea167a5a36dedd4bea2543; theme=dark\r\n")
	if body != "" {
		fmt.Fprintf(&b, "Content-Type: %s\r\nContent-Length: %d\r\n", contentType, len(body))
	}
	return []byte(b.String() + "\r\n" + body)
}

// load sends n requests over a few connections that are kept, and expects 200 to each.
func load(address string, w *workload, turn, n int) error {
	var (
		wg    sync.WaitGroup
		left  atomic.Int64
		mu    sync.Mutex
		fault error
	)
	left.Store(int64(n))
	for i := range *conns {
		wg.Go(func() {
			if err := worker(address, w, rand.New(rand.NewPCG(uint64(turn+1), uint64(i))), &left); err != nil {
				mu.Lock()
				fault = err
				mu.Unlock()
				left.Store(0)
			}
		})
	}
	wg.Wait()
	return fault
}

func worker(address string, w *workload, r *rand.Rand, left *atomic.Int64) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for left.Add(-1) >= 0 {
		if _, err := c.Write(w.wire(r)); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
	}
	return nil
}

package proof_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf"
)

// BenchmarkAttack is what a request costs that is refused, with and without the
// proof in front.
func BenchmarkAttack(b *testing.B) {
	for _, fast := range []bool{false, true} {
		s, err := waf.New(waf.Config{Fast: fast})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		name := "plain"
		if fast {
			name = "fast"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				hr := httptest.NewRequest("GET", "/products?id=1%27+UNION+SELECT+password+FROM+users--+-", nil)
				hr.Host = "shop.example.com"
				hr.Header = http.Header{
					"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"},
					"Accept":     {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
					"Cookie":     {"session=f3a9c1d27b604e58; theme=dark"}, "Accept-Language": {"en-US,en;q=0.9,de;q=0.8"},
					"Accept-Encoding": {"gzip, deflate, br, zstd"}, "Referer": {"https://shop.example.com/products"},
				}
				r := filter.NewRequest(hr, time.Unix(0, 0))
				r.Client = r.Peer
				if d, err := s.Check(r); err != nil || d.Verdict != filter.Block {
					b.Fatal(d, err)
				}
				r.Release()
			}
		})
	}
}

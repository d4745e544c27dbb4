package traefik

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/moatwaf/moat/filter"
)

// browserRequest is a GET with what a browser and Traefik's entry point send.
func browserRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/articles/2026/10?page=2&sort=new", nil)
	r.Host = "www.example.com"
	for name, value := range map[string]string{
		"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
		"Accept-Language": "en-US,en;q=0.5", "Accept-Encoding": "gzip, deflate, br", "Cookie": "session=4f9d2c1ab3e84d6f; theme=dark",
		"X-Real-Ip": "192.0.2.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "www.example.com", "X-Forwarded-Port": "80", "X-Forwarded-Server": "traefik-1",
	} {
		r.Header.Set(name, value)
	}
	return r
}

// BenchmarkAllowed is the plugin and a daemon without rules together, in one
// process, without Traefik and without Yaegi.
func BenchmarkAllowed(b *testing.B) {
	w := &world{engine: new(filter.Engine), socket: filepath.Join(b.TempDir(), "s")}
	w.engine.Swap(filter.NewPipeline(filter.Config{}))
	w.start(b)
	defer w.stop(b)
	passed := 0
	h := w.plugin(b, func(http.ResponseWriter, *http.Request) { passed++ }, nil)
	rw, r := httptest.NewRecorder(), browserRequest()
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(rw, r)
	}
	if passed < b.N {
		b.Errorf("%d of %d passed: %d %s", passed, b.N, rw.Code, rw.Body)
	}
}

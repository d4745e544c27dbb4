package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	"github.com/traefik/traefik/v3/pkg/plugins"
)

// interpreted returns the middleware as Traefik runs it: interpreted, in front of next.
func interpreted(tb testing.TB, next http.Handler, config map[string]any) http.Handler {
	tb.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	to := filepath.Join(dir, "plugins-local", "src", "github.com", "moatwaf", "moat")
	if err := os.MkdirAll(filepath.Join(to, "deploy", "traefik"), 0o700); err != nil {
		tb.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy", "traefik", "*.go"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, file := range append(files, filepath.Join(root, ".traefik.yml")) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, strings.TrimPrefix(file, root)), content, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Chdir(dir)
	zerolog.SetGlobalLevel(zerolog.ErrorLevel)
	local := map[string]plugins.LocalDescriptor{"moat": {ModuleName: "github.com/moatwaf/moat"}}
	if err := plugins.SetupLocalPlugins(local); err != nil {
		tb.Fatal(err)
	}
	builder, err := plugins.NewBuilder(nil, nil, local)
	if err != nil {
		tb.Fatal(err)
	}
	constructor, err := builder.Build("moat", config, "moat")
	if err != nil {
		tb.Fatal(err)
	}
	handler, err := constructor(context.Background(), next)
	if err != nil {
		tb.Fatal(err)
	}
	return handler
}

// BenchmarkAllowed is the interpreted plugin, and a daemon that lets everything
// pass: what is left for the plugin to save. cpu-ns/op is the CPU time of both.
func BenchmarkAllowed(b *testing.B) {
	socket := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go yes(conn)
		}
	}()
	passed := 0
	h := interpreted(b, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed++ }), map[string]any{"socket": "unix:" + socket})
	r := httptest.NewRequest(http.MethodGet, "/articles/2026/10?page=2&sort=new", nil)
	r.Host = "www.example.com"
	for name, value := range map[string]string{
		"User-Agent": "curl/8.14.1", "Accept": "*/*", "X-Request-Id": "7f3a",
		"X-Real-Ip": "192.0.2.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "www.example.com", "X-Forwarded-Port": "80", "X-Forwarded-Server": "traefik-1",
	} {
		r.Header.Set(name, value)
	}
	rw := httptest.NewRecorder()
	h.ServeHTTP(rw, r)
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		h.ServeHTTP(rw, r)
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
	if passed < b.N {
		b.Errorf("%d of %d passed: %d %s", passed, b.N, rw.Code, rw.Body)
	}
}

// yes lets every request pass.
func yes(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	buffer := bufio.NewReaderSize(conn, 64<<10)
	for {
		if _, err := buffer.Peek(1); err != nil {
			return
		}
		if _, err := buffer.Discard(buffer.Buffered()); err != nil { // a question is one write
			return
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 204 No Content\r\nMoat-Verdict: pass\r\n\r\n"); err != nil {
			return
		}
	}
}

// cpu returns the CPU time of this process in nanoseconds.
func cpu(tb testing.TB) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"golang.org/x/crypto/bcrypt"
)

// newProxy returns the reverse proxy of a server, set up as Traefik does it. A
// server with the scheme h2c gets HTTP/2 without TLS.
func newProxy(server string) (http.Handler, error) {
	target, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 200, IdleConnTimeout: 90 * time.Second, Protocols: new(http.Protocols)}
	switch target.Scheme {
	case "http":
		transport.Protocols.SetHTTP1(true)
	case "h2c":
		target.Scheme = "http"
		transport.Protocols.SetUnencryptedHTTP2(true)
	default:
		return nil, fmt.Errorf("server %s: the scheme is http or h2c", server)
	}
	return &httputil.ReverseProxy{
		Transport:     transport,
		BufferPool:    copyBuffers,
		FlushInterval: 100 * time.Millisecond,
		Rewrite: func(pr *httputil.ProxyRequest) {
			for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
				if values, ok := pr.In.Header[name]; ok {
					pr.Out.Header[name] = values
				}
			}
			chain := append(pr.Out.Header["X-Forwarded-For"], hostname(pr.In.RemoteAddr))
			pr.Out.Header["X-Forwarded-For"] = []string{strings.Join(chain, ", ")}
			u := pr.Out.URL
			if parsed, err := url.ParseRequestURI(pr.In.RequestURI); err == nil {
				u = parsed
			}
			pr.Out.URL = &url.URL{Scheme: target.Scheme, Host: target.Host, Path: u.Path, RawPath: u.RawPath, RawQuery: strings.ReplaceAll(u.RawQuery, ";", "&")}
			for name := range pr.Out.Trailer {
				pr.Out.Trailer[name] = nil
			}
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			status := http.StatusBadGateway
			if errors.Is(err, context.Canceled) {
				status = 499
			}
			w.WriteHeader(status)
		},
	}, nil
}

// bufferPool holds what answers are copied through, in the size of Traefik's own
// (its package proxy/httputil). Without it the collector would run several times as
// often as in Traefik, at a price that depends on how much memory a plugin keeps.
type bufferPool struct{ pool sync.Pool }

var copyBuffers = &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}}

// Get implements httputil.BufferPool.
func (b *bufferPool) Get() []byte { return b.pool.Get().(*[32 << 10]byte)[:] }

// Put implements httputil.BufferPool.
func (b *bufferPool) Put(p []byte) { b.pool.Put((*[32 << 10]byte)(p)) }

// newBasicAuth stands for Traefik's middleware of this name, with passwords hashed by
// bcrypt. Its answer is that of Traefik.
func newBasicAuth(config *dynamic.BasicAuth, next http.Handler) (http.Handler, error) {
	lines := config.Users
	if config.UsersFile != "" {
		content, err := os.ReadFile(config.UsersFile)
		if err != nil {
			return nil, err
		}
		lines = append(lines, strings.Fields(string(content))...)
	}
	users := map[string][]byte{}
	for _, line := range lines {
		name, hash, ok := strings.Cut(line, ":")
		if !ok {
			return nil, errors.New("a user without a password")
		}
		users[name] = []byte(hash)
	}
	realm := config.Realm
	if realm == "" {
		realm = "traefik"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, _ := r.BasicAuth()
		if bcrypt.CompareHashAndPassword(users[name], []byte(password)) != nil {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("WWW-Authenticate", `Basic realm="`+realm+`"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte("401 Unauthorized\n"))
			return
		}
		next.ServeHTTP(w, r)
	}), nil
}

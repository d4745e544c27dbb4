package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() { caddy.RegisterModule(demo{}) }

// demo is the built-in upstream of "moat serve" without --upstream: an open page,
// a page under /private/, a form target and an echo.
type demo struct{}

// CaddyModule implements caddy.Module.
func (demo) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.moat_demo",
		New: func() caddy.Module { return new(demo) },
	}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (demo) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case r.Method == http.MethodOptions:
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Path == "/":
		fmt.Fprintln(w, "This page is open. The built-in upstream of moat answered.")
	case r.URL.Path == "/private/":
		fmt.Fprintln(w, "This page is for known callers. The built-in upstream of moat answered.")
	case r.URL.Path == "/login":
		fmt.Fprintln(w, "A login would be tried here.")
	case r.URL.Path == "/echo":
		// The body goes back as it comes; nothing is held in memory.
		_ = http.NewResponseController(w).EnableFullDuplex()
		if r.ProtoMajor == 1 && r.Header.Get("Expect") != "" {
			// Once the answer has begun the server does not ask for the body.
			w.WriteHeader(http.StatusContinue)
		}
		fmt.Fprintf(w, "%s %s %s\nHost: %s\n", r.Method, r.URL.RequestURI(), r.Proto, r.Host)
		_ = r.Header.Write(w)
		fmt.Fprintln(w)
		_, err := io.Copy(w, r.Body)
		return err
	default:
		http.NotFound(w, r)
	}
	return nil
}

var _ caddyhttp.MiddlewareHandler = demo{}

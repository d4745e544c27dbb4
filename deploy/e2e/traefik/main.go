// Command traefik is the part of Traefik that a plugin meets, for the tests of
// deploy/traefik: Traefik's own plugin runtime (its package plugins and the Yaegi
// interpreter), fed from Traefik's own configuration types by the decoder that
// Traefik uses, between an entry point and a reverse proxy that treat requests as
// Traefik's do.
//
// It is a module of its own, because Traefik's requirements are no business of
// moat's. The whole of Traefik takes ten minutes to compile and this takes one;
// binary/build builds the whole.
//
//	traefik --configFile traefik.yml
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/rs/zerolog/log"
	"github.com/traefik/traefik/v3/pkg/plugins"
)

func main() {
	configFile := flag.String("configFile", "traefik.yml", "static configuration")
	flag.Parse()
	log.Logger = zerolog.New(os.Stderr).With().Timestamp().Logger()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *configFile); err != nil {
		slog.Error("traefik", "error", err)
		os.Exit(1)
	}
}

// run serves until ctx is done, and then until the requests under way have ended.
func run(ctx context.Context, configFile string) error {
	static, err := readStatic(configFile)
	if err != nil {
		return err
	}
	// As Traefik does it: from ./plugins-local in the working directory.
	local := static.Experimental.LocalPlugins
	if err := plugins.SetupLocalPlugins(local); err != nil {
		return err
	}
	builder, err := plugins.NewBuilder(nil, nil, local)
	if err != nil {
		return err
	}
	routes := &routes{file: static.Providers.File.Filename, builder: builder}
	if err := routes.load(); err != nil {
		return err
	}
	go routes.watch(ctx)

	ended := make(chan error)
	servers := make([]*http.Server, 0, len(static.EntryPoints))
	for name, entryPoint := range static.EntryPoints {
		handler, err := newEntryPoint(entryPoint, routes.of(name))
		if err != nil {
			return err
		}
		listener, err := net.Listen("tcp", entryPoint.Address)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: handler, Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		servers = append(servers, server)
		go func() { ended <- server.Serve(listener) }()
	}
	select {
	case err = <-ended:
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, server := range servers {
		err = errors.Join(err, server.Shutdown(grace))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // streams that nobody ends
	}
	return err
}

package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// parts are the modules whose versions decide what moat does.
var parts = []string{
	"github.com/caddyserver/caddy/v2",
	"github.com/corazawaf/coraza/v3",
	"github.com/corazawaf/coraza-coreruleset/v4",
}

func printVersion(_ []string, stdout, _ io.Writer) int {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		fmt.Fprintln(stdout, "moat (unknown build)")
		return exitOK
	}
	version := info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	fmt.Fprintf(stdout, "moat %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, path := range parts {
		for _, m := range info.Deps {
			if m.Path == path {
				fmt.Fprintf(stdout, "%s %s\n", m.Path, m.Version)
			}
		}
	}
	return exitOK
}

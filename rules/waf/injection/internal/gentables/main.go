// Command gentables writes the data of libinjection-go, as found in the
// module cache at the version of go.mod, into the package injection.
//
// It reads the Go source of that module, because its tables are not exported.
// A test of the package does the same and fails when the written tables and
// the module differ.
package main

import (
	"fmt"
	"os"

	"github.com/moatwaf/moat/rules/waf/injection/internal/tables"
)

func main() {
	if err := run("tables.go"); err != nil {
		fmt.Fprintln(os.Stderr, "gentables:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	src, err := tables.Locate()
	if err != nil {
		return err
	}
	t, err := tables.Read(src.Dir)
	if err != nil {
		return err
	}
	text, err := tables.Format(src.Version, t)
	if err != nil {
		return err
	}
	return os.WriteFile(out, text, 0o644)
}

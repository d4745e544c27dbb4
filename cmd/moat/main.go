// Command moat is an edge filter: a Caddy with moat inside, and the commands
// with which an operator checks and tunes a policy.
//
//	moat serve      filters in front of an upstream; without flags, a demonstration
//	moat check      reports every fault of a policy file
//	moat explain    says what a policy does with one request, and why
//	moat bans       lists, makes and lifts bans of a running moat
//	moat lists      shows and edits address lists of a running moat
//	moat schema     prints the JSON Schema of policy files
//	moat version    prints the version
//
// Every command of Caddy (run, reload, adapt, validate, ...) works as well, with
// the moat directive built in.
package main

import (
	"fmt"
	"io"
	"os"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/moatwaf/moat/deploy/caddy"
)

// The exit codes of moat's commands.
const (
	exitOK      = 0
	exitFinding = 1 // the command ran and found a fault
	exitUsage   = 2 // the command could not run as it was called
)

// command is one of moat's own commands.
type command struct {
	name    string
	args    string
	summary string
	run     func(args []string, stdout, stderr io.Writer) int
}

func commands() []command {
	return []command{
		{"serve", "[--listen ADDR] [--upstream URL | --decide ADDR...] [--policy FILE] [--admin ADDR]", "filter in front of an upstream, or decide for another proxy", serve},
		{"check", "[--format text|json] POLICY...", "report every fault of policy files", check},
		{"explain", "[--format text|json] [--client IP] [--entry N] POLICY REQUEST", "say what a policy does with one request, and why", explain},
		{"bans", "[--admin ADDR] [list | add [--for DURATION] IP | lift IP]", "list, make and lift bans of a running moat", bans},
		{"lists", "[--admin ADDR] [show NAME | add [--for DURATION] NAME IP... | remove NAME IP...]", "show and edit address lists of a running moat", lists},
		{"schema", "", "print the JSON Schema of policy files", printSchema},
		{"version", "", "print the version", printVersion},
		{"help", "", "print this text", help},
	}
}

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		os.Exit(help(nil, os.Stdout, os.Stderr))
	}
	for _, c := range commands() {
		if c.name == args[0] {
			os.Exit(c.run(args[1:], os.Stdout, os.Stderr))
		}
	}
	caddycmd.Main()
}

func help(_ []string, stdout, _ io.Writer) int {
	fmt.Fprint(stdout, "moat is an edge filter for web applications.\n\nUsage:\n  moat COMMAND [flags]\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(stdout, "  %-8s %s\n", c.name, c.summary)
		if c.args != "" {
			fmt.Fprintf(stdout, "           moat %s %s\n", c.name, c.args)
		}
	}
	fmt.Fprint(stdout, "\nCaddy's commands work too, with the moat directive built in:\n  run, start, stop, reload, adapt, validate, fmt, list-modules, environ, ...\n")
	return exitOK
}

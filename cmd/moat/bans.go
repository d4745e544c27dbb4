package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
)

const bansUsage = `Usage: moat bans [--admin ADDR] [list]
       moat bans [--admin ADDR] add [--for DURATION] ADDRESS|PREFIX
       moat bans [--admin ADDR] lift ADDRESS|PREFIX

Lists the bans of a running moat, bans an address or a prefix, or lifts the bans
that hold for it. Exit code 0: done, 1: moat refused or there is no such ban,
2: wrong call, or no answer.

Flags:
`

// bansTimeout is how long "moat bans" waits for the admin address.
const bansTimeout = 10 * time.Second

// bans is the command: a client of the admin routes /moat/bans.
func bans(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("bans", flag.ContinueOnError)
	fs.SetOutput(stderr)
	admin := fs.String("admin", "127.0.0.1:2020", "admin `address` of the running moat, or its URL")
	fs.Usage = func() {
		fmt.Fprint(stderr, bansUsage)
		fs.PrintDefaults()
	}
	usage := func() int {
		fs.Usage()
		return exitUsage
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	base := *admin
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	base = strings.TrimSuffix(base, "/") + "/moat/bans"

	switch args := fs.Args(); {
	case len(args) == 0 || len(args) == 1 && args[0] == "list":
		return askBans(http.MethodGet, base, nil, stdout, stderr)
	case args[0] == "add":
		sub := flag.NewFlagSet("bans add", flag.ContinueOnError)
		sub.SetOutput(stderr)
		d := sub.String("for", "1h", "`duration` of the ban")
		sub.Usage = fs.Usage
		if err := sub.Parse(args[1:]); err != nil || sub.NArg() != 1 {
			return usage()
		}
		body, err := json.Marshal(map[string]string{"ip": sub.Arg(0), "for": *d})
		if err != nil {
			fmt.Fprintln(stderr, "moat bans:", err)
			return exitUsage
		}
		return askBans(http.MethodPost, base, body, stdout, stderr)
	case args[0] == "lift" && len(args) == 2:
		return askBans(http.MethodDelete, base+"/"+(&url.URL{Path: args[1]}).EscapedPath(), nil, stdout, stderr)
	}
	return usage()
}

// askBans makes one request to the admin address and prints its answer.
func askBans(method, address string, body []byte, stdout, stderr io.Writer) int {
	req, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		fmt.Fprintln(stderr, "moat bans:", err)
		return exitUsage
	}
	res, err := (&http.Client{Timeout: bansTimeout}).Do(req)
	if err != nil {
		fmt.Fprintln(stderr, "moat bans:", err)
		return exitUsage
	}
	defer res.Body.Close()
	type one struct {
		Prefix string    `json:"prefix"`
		Since  time.Time `json:"since"`
		Until  time.Time `json:"until"`
		Rule   string    `json:"rule"`
		Level  int       `json:"level"`
	}
	var answer struct {
		Bans, Banned, Lifted []one
		Error, Warning       string
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<30)).Decode(&answer); err != nil {
		fmt.Fprintf(stderr, "moat bans: %s does not answer as moat does (status %d)\n", address, res.StatusCode)
		return exitUsage
	}
	if answer.Warning != "" {
		fmt.Fprintln(stderr, "moat bans:", answer.Warning)
	}
	if res.StatusCode != http.StatusOK {
		fmt.Fprintln(stderr, "moat bans:", answer.Error)
		return exitFinding
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	print := func(what string, list []one) {
		for _, b := range list {
			fmt.Fprintf(table, "%s%s\tuntil %s\tby %s\tno. %d\n", what, b.Prefix, b.Until.UTC().Format(time.RFC3339), b.Rule, b.Level)
		}
	}
	print("", answer.Bans)
	print("banned ", answer.Banned)
	print("lifted ", answer.Lifted)
	if method == http.MethodGet && len(answer.Bans) == 0 {
		fmt.Fprintln(table, "no bans")
	}
	if err := table.Flush(); err != nil {
		fmt.Fprintln(stderr, "moat bans:", err)
		return exitUsage
	}
	return exitOK
}

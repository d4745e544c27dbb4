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
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const listsUsage = `Usage: moat lists [--admin ADDR]
       moat lists [--admin ADDR] show NAME
       moat lists [--admin ADDR] add [--for DURATION] NAME ENTRY...
       moat lists [--admin ADDR] remove NAME ENTRY...

Shows the address lists of a running moat, and edits those that are kept in the
store. An entry is an address, a prefix or a range a-b; a single - reads entries
from standard input, one a line. An edit is in force on all nodes within a second.
Exit code 0: done, 1: moat refused, 2: wrong call, or no answer.

Flags:
`

const (
	// listBatch is how many entries one request to the admin address names: the
	// URL of a removal has a bound.
	listBatch = 500
	// maxListInput bounds what is read from standard input, in bytes.
	maxListInput = 16 << 20
)

// lists is the command: a client of the admin routes /moat/lists.
func lists(args []string, stdout, stderr io.Writer) int {
	return listsFrom(args, os.Stdin, stdout, stderr)
}

// listsFrom is lists with a standard input.
func listsFrom(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("lists", flag.ContinueOnError)
	fs.SetOutput(stderr)
	admin := fs.String("admin", "127.0.0.1:2020", "admin `address` of the running moat, or its URL")
	fs.Usage = func() {
		fmt.Fprint(stderr, listsUsage)
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
	c := listsClient{base: strings.TrimSuffix(base, "/") + "/moat/lists", stdout: stdout, stderr: stderr}

	switch args := fs.Args(); {
	case len(args) == 0:
		return c.all()
	case args[0] == "show" && len(args) == 2:
		return c.show(args[1])
	case args[0] == "add":
		sub := flag.NewFlagSet("lists add", flag.ContinueOnError)
		sub.SetOutput(stderr)
		d := sub.String("for", "", "`duration` for which the entries stay; default: until they are removed")
		sub.Usage = fs.Usage
		if err := sub.Parse(args[1:]); err != nil || sub.NArg() < 2 {
			return usage()
		}
		return c.edit("added", sub.Arg(0), sub.Args()[1:], stdin, func(entries []string) (string, []byte, error) {
			body, err := json.Marshal(map[string]any{"entries": entries, "for": *d})
			return http.MethodPost, body, err
		})
	case args[0] == "remove" && len(args) >= 3:
		return c.edit("removed", args[1], args[2:], stdin, func([]string) (string, []byte, error) { return http.MethodDelete, nil, nil })
	}
	return usage()
}

// listsClient asks the admin address.
type listsClient struct {
	base           string
	stdout, stderr io.Writer
}

// listsAnswer is an answer of the admin routes.
type listsAnswer struct {
	Lists []struct {
		Name, Kept string
		Entries    int
		Synced     *bool
	}
	Entries []struct {
		Entry string
		Until *time.Time
	}
	Synced  *bool
	Changed int
	Error   string
}

// ask makes one request. It returns an exit code other than exitOK after it has told
// why there is no good answer.
func (c *listsClient) ask(method, address string, body []byte) (answer listsAnswer, code int) {
	req, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err == nil {
		var res *http.Response
		if res, err = (&http.Client{Timeout: bansTimeout}).Do(req); err == nil {
			defer res.Body.Close()
			if json.NewDecoder(io.LimitReader(res.Body, 1<<30)).Decode(&answer) != nil {
				err = fmt.Errorf("%s does not answer as moat does (status %d)", c.base, res.StatusCode)
			} else if res.StatusCode != http.StatusOK {
				fmt.Fprintln(c.stderr, "moat lists:", answer.Error)
				return answer, exitFinding
			}
		}
	}
	if err != nil {
		fmt.Fprintln(c.stderr, "moat lists:", err)
		return answer, exitUsage
	}
	return answer, exitOK
}

func (c *listsClient) all() int {
	answer, code := c.ask(http.MethodGet, c.base, nil)
	if code != exitOK {
		return code
	}
	table := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, l := range answer.Lists {
		note := ""
		if l.Synced != nil && !*l.Synced {
			note = "the store is away: last known copy"
		}
		fmt.Fprintf(table, "%s\t%d entries\tin the %s\t%s\n", l.Name, l.Entries, l.Kept, note)
	}
	if len(answer.Lists) == 0 {
		fmt.Fprintln(table, "no lists")
	}
	return c.flush(table)
}

func (c *listsClient) show(name string) int {
	answer, code := c.ask(http.MethodGet, c.base+"/"+url.PathEscape(name), nil)
	if code != exitOK {
		return code
	}
	if answer.Synced != nil && !*answer.Synced {
		fmt.Fprintln(c.stderr, "moat lists: the store is away: this is the last known copy")
	}
	table := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, e := range answer.Entries {
		if e.Until == nil {
			fmt.Fprintln(table, e.Entry)
		} else {
			fmt.Fprintf(table, "%s\tuntil %s\n", e.Entry, e.Until.UTC().Format(time.RFC3339))
		}
	}
	return c.flush(table)
}

func (c *listsClient) flush(table *tabwriter.Writer) int {
	if err := table.Flush(); err != nil {
		fmt.Fprintln(c.stderr, "moat lists:", err)
		return exitUsage
	}
	return exitOK
}

// edit makes the requests of an edit, and prints how many entries changed.
func (c *listsClient) edit(done, name string, entries []string, stdin io.Reader, request func(entries []string) (method string, body []byte, err error)) int {
	if len(entries) == 1 && entries[0] == "-" {
		var err error
		if entries, err = readEntries(stdin); err != nil {
			fmt.Fprintln(c.stderr, "moat lists:", err)
			return exitUsage
		}
	}
	changed := 0
	for part := range slices.Chunk(entries, listBatch) {
		method, body, err := request(part)
		if err != nil {
			fmt.Fprintln(c.stderr, "moat lists:", err)
			return exitUsage
		}
		address := c.base + "/" + url.PathEscape(name)
		if body == nil {
			address += "?" + url.Values{"entry": part}.Encode()
		}
		answer, code := c.ask(method, address, body)
		if code != exitOK {
			if changed > 0 {
				fmt.Fprintf(c.stderr, "moat lists: %d entries were %s before\n", changed, done)
			}
			return code
		}
		changed += answer.Changed
	}
	fmt.Fprintf(c.stdout, "%s %d of %d\n", done, changed, len(entries))
	return exitOK
}

// readEntries reads entries, one a line, with comments as lists have them.
func readEntries(from io.Reader) ([]string, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxListInput+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxListInput {
		return nil, fmt.Errorf("more than %d bytes of entries", maxListInput)
	}
	var entries []string
	for line := range strings.Lines(string(data)) {
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		if line = strings.TrimSpace(line); line != "" {
			entries = append(entries, line)
		}
	}
	if len(entries) == 0 {
		return nil, errors.New("there are no entries")
	}
	return entries, nil
}

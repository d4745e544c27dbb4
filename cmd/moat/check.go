package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/moatwaf/moat/filter/policy"
	"github.com/moatwaf/moat/rules"
)

const checkUsage = `Usage: moat check [--format text|json] POLICY...

Reads each policy and everything that it names, as a reload would, and reports
every fault with its place. With waf.engine fast it also names the payload rules
because of which requests need the engine all the same. Exit code 0: none, 1: some, 2: wrong call.

Flags:
`

// finding is a fault as JSON.
type finding struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// checked is the outcome for one policy, as JSON.
type checked struct {
	Policy   string          `json:"policy"`
	OK       bool            `json:"ok"`
	Findings []finding       `json:"findings,omitempty"`
	Summary  *policy.Summary `json:"summary,omitempty"`
}

func check(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	fs.SetOutput(stderr)
	format := fs.String("format", "text", "`form` of the report: text or json")
	fs.Usage = func() {
		fmt.Fprint(stderr, checkUsage)
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if *format != "text" && *format != "json" {
		fmt.Fprintf(stderr, "moat check: unknown format %q: text or json\n", *format)
		return exitUsage
	}
	if fs.NArg() == 0 {
		fs.Usage()
		return exitUsage
	}
	code := exitOK
	var all []checked
	for _, file := range fs.Args() {
		// A name that leads nowhere is a wrong call, not a fault of a policy.
		if _, err := os.Stat(file); err != nil {
			fmt.Fprintln(stderr, "moat check:", err)
			return exitUsage
		}
		c := checkOne(file)
		if !c.OK {
			code = exitFinding
		}
		all = append(all, c)
	}
	if *format == "json" {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(all); err != nil {
			fmt.Fprintln(stderr, "moat check:", err)
			return exitUsage
		}
		return code
	}
	for _, c := range all {
		for _, f := range c.Findings {
			fmt.Fprintln(stdout, (&rules.Error{
				Pos:  rules.Position{File: f.File, Line: f.Line, Column: f.Column},
				Path: f.Path, Msg: f.Message, Hint: f.Hint,
			}).Error())
		}
		if c.OK {
			s := c.Summary
			fmt.Fprintf(stdout, "%s: good: %d access rules, %d tiers, %d payload rules, %d lists with %d entries, %d countries, %d auth methods\n",
				c.Policy, s.AccessRules, s.Tiers, s.PayloadRules, s.Lists, s.ListEntries, s.Countries, s.AuthMethods)
			printFast(stdout, c.Policy, s.Fast)
		}
	}
	return code
}

// printFast says which payload rules cost the fast engine its speed, and why. They
// are no faults: the verdicts are right with them.
func printFast(w io.Writer, file string, f *policy.FastEngine) {
	if f == nil {
		return
	}
	if f.ProofOff != "" {
		fmt.Fprintf(w, "%s: engine fast: every request goes through the engine: %s\n", file, f.ProofOff)
	}
	if f.GateOff != "" {
		fmt.Fprintf(w, "%s: engine fast: every rule is evaluated: %s\n", file, f.GateOff)
	}
	for _, c := range f.Costly {
		fmt.Fprintf(w, "%s: engine fast: rule %d sends requests through the engine: %s\n", file, c.Rule, c.Reason)
	}
	for _, c := range f.CostlyMatched {
		fmt.Fprintf(w, "%s: engine fast: rule %d sends the requests that it matches through the engine: %s\n", file, c.Rule, c.Reason)
	}
	if f.Unfit > 0 {
		fmt.Fprintf(w, "%s: engine fast: waf.memory has no room for %d automata: their rules are held against every value\n", file, f.Unfit)
	}
}

func checkOne(file string) checked {
	summary, err := policy.Check(context.Background(), policy.Options{File: file})
	if err == nil {
		return checked{Policy: file, OK: true, Summary: &summary}
	}
	c := checked{Policy: file}
	var faults rules.Errors
	if !errors.As(err, &faults) {
		faults = rules.Errors{{Pos: rules.Position{File: file}, Msg: err.Error()}}
	}
	for _, f := range faults {
		c.Findings = append(c.Findings, finding{f.Pos.File, f.Pos.Line, f.Pos.Column, f.Path, f.Msg, f.Hint})
	}
	return c
}

func printSchema(_ []string, stdout, stderr io.Writer) int {
	enc := json.NewEncoder(stdout)
	enc.SetIndent("", "  ")
	if err := enc.Encode(policy.Schema()); err != nil {
		fmt.Fprintln(stderr, "moat schema:", err)
		return exitUsage
	}
	return exitOK
}

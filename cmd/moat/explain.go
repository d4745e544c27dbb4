package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/policy"
	"github.com/moatwaf/moat/filter/traffic"
	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/waf"
)

const explainUsage = `Usage: moat explain [--format text|json] [--client IP] [--entry N] POLICY REQUEST

Sends one request through every stage of a policy and says what each saw, what it
decided and why, and how long it took. Nothing is put in force: limits start full,
no ban is known, no other server is asked.

REQUEST is a file, or - for the standard input: a request as it stands on the wire,
a curl command line, an HTTP archive or an entry of one, a line of moat's audit log.

Exit code 0: explained, whatever the decision; 1: the policy or the request has
faults; 2: wrong call. The output holds parts of the request.

Flags:
`

// explained is the report as JSON.
type explained struct {
	Request  explainedRequest `json:"request"`
	Client   string           `json:"client,omitempty"`
	Peer     string           `json:"peer,omitempty"`
	Country  string           `json:"country,omitempty"`
	ASN      uint32           `json:"asn,omitempty"`
	Host     string           `json:"host"`
	Path     string           `json:"path"`
	Stages   []explainedStage `json:"stages"`
	Detected []explainedStage `json:"detected,omitempty"`
	Decision explainedStage   `json:"decision"`
}

type explainedRequest struct {
	Form   string `json:"form"`
	Method string `json:"method"`
	Target string `json:"target"`
	Body   int    `json:"body_bytes"`
}

type explainedStage struct {
	Stage   string            `json:"stage,omitempty"`
	Verdict string            `json:"verdict"`
	Reason  string            `json:"reason,omitempty"`
	Rule    string            `json:"rule,omitempty"`
	Status  int               `json:"status,omitempty"`
	Detail  string            `json:"detail,omitempty"`
	Error   string            `json:"error,omitempty"`
	Micros  *float64          `json:"us,omitempty"`
	Payload *explainedPayload `json:"payload,omitempty"`
}

type explainedPayload struct {
	Proved    bool             `json:"proved"`
	Path      string           `json:"path"`
	NotProved string           `json:"not_proved,omitempty"`
	Body      string           `json:"body"`
	Processor string           `json:"processor,omitempty"`
	Score     int              `json:"score"`
	Threshold int              `json:"threshold"`
	Values    []explainedValue `json:"values,omitempty"`
	Matches   []explainedMatch `json:"matches,omitempty"`
}

type explainedValue struct {
	Variable string `json:"variable"`
	Name     string `json:"name,omitempty"`
	Value    string `json:"value"`
}

type explainedMatch struct {
	Rule    int    `json:"rule"`
	Message string `json:"message"`
	explainedValue
}

func explain(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("explain", flag.ContinueOnError)
	fs.SetOutput(stderr)
	format := fs.String("format", "text", "`form` of the report: text or json")
	client := fs.String("client", "", "the `IP` address from which the request comes; left out: that of the record, or 192.0.2.1")
	entry := fs.Int("entry", 1, "which request of several, from 1")
	fs.Usage = func() {
		fmt.Fprint(stderr, explainUsage)
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if *format != "text" && *format != "json" {
		fmt.Fprintf(stderr, "moat explain: unknown format %q: text or json\n", *format)
		return exitUsage
	}
	if fs.NArg() != 2 {
		fs.Usage()
		return exitUsage
	}
	file, source := fs.Arg(0), fs.Arg(1)
	if _, err := os.Stat(file); err != nil {
		fmt.Fprintln(stderr, "moat explain:", err)
		return exitUsage
	}
	data, err := readRequest(source)
	if err != nil {
		fmt.Fprintln(stderr, "moat explain:", err)
		return exitUsage
	}
	name := source
	if name == "-" {
		name = "standard input"
	}
	all, err := traffic.Parse(data)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", name, placed(err))
		return exitFinding
	}
	if *entry < 1 || *entry > len(all) {
		fmt.Fprintf(stderr, "moat explain: %s has %d requests, not %d\n", name, len(all), *entry)
		return exitUsage
	}
	m := &all[*entry-1]
	m.Client = cmp.Or(*client, m.Client)
	hr, err := m.Request()
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", name, placed(err))
		return exitFinding
	}
	t, err := policy.Explain(context.Background(), policy.Options{File: file}, hr)
	if err != nil {
		var faults rules.Errors
		if errors.As(err, &faults) {
			for _, f := range faults {
				fmt.Fprintln(stderr, f.Error())
			}
		} else {
			fmt.Fprintf(stderr, "%s: %v\n", file, err)
		}
		return exitFinding
	}
	x := report(m, t)
	if *format == "json" {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(x); err != nil {
			fmt.Fprintln(stderr, "moat explain:", err)
			return exitUsage
		}
		return exitOK
	}
	x.print(stdout)
	if m.Form == traffic.FormAudit {
		fmt.Fprintln(stdout, "\nAn audit line has no body and no header but the User-Agent: what they led to is not here.")
	}
	return exitOK
}

// readRequest reads the text of a request, bounded.
func readRequest(source string) ([]byte, error) {
	src := io.Reader(os.Stdin)
	if source != "-" {
		f, err := os.Open(source)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		src = f
	}
	return io.ReadAll(io.LimitReader(src, traffic.MaxSize+1))
}

// placed returns an error with its line first, as editors read it.
func placed(err error) string {
	var fault *traffic.Error
	if errors.As(err, &fault) && fault.Line > 0 {
		return fmt.Sprintf("%d: %s", fault.Line, fault.Msg)
	}
	return err.Error()
}

// report turns a trace into the report.
func report(m *traffic.Message, t *policy.Trace) *explained {
	x := &explained{
		Request: explainedRequest{Form: m.Form, Method: m.Method, Target: m.Target, Body: len(m.Body)},
		Client:  t.Client, Peer: t.Peer, Country: t.Country, ASN: t.ASN, Host: t.Host, Path: t.Path,
		Decision: stageReport("", &t.Decision),
	}
	x.Decision.Stage = t.Decision.Stage
	for i := range t.Stages {
		s := &t.Stages[i]
		e := stageReport(s.Name, &s.Decision)
		if s.Err != nil {
			e.Verdict, e.Error = "error", s.Err.Error()
		}
		us := float64(s.Duration) / float64(time.Microsecond)
		e.Micros = &us
		if s.Payload != nil {
			e.Payload = payloadReport(s.Payload)
		}
		x.Stages = append(x.Stages, e)
	}
	for i := range t.Detected {
		x.Detected = append(x.Detected, stageReport(t.Detected[i].Stage, &t.Detected[i]))
	}
	return x
}

func stageReport(name string, d *filter.Decision) explainedStage {
	e := explainedStage{Stage: name, Verdict: d.Verdict.String(), Rule: d.Rule, Status: d.StatusCode(), Detail: d.Detail}
	if d.Refuses() {
		e.Reason = d.Reason.String()
	}
	return e
}

func payloadReport(p *waf.Explanation) *explainedPayload {
	e := &explainedPayload{
		Proved: p.Proved, Path: p.Judged.Path.String(), NotProved: whyNot(p.Judged), Body: p.Kind, Processor: p.Processor,
		Score: p.Score, Threshold: p.Threshold,
	}
	value := func(v waf.Value) explainedValue { return explainedValue{v.Variable, v.Name, v.Value} }
	for _, v := range p.Values {
		e.Values = append(e.Values, value(v))
	}
	for _, m := range p.Matches {
		e.Matches = append(e.Matches, explainedMatch{m.Rule, m.Message, value(m.Value)})
	}
	return e
}

// whyNot says why a request was not proved to be clean; empty if it was, or if
// nobody tried.
func whyNot(j waf.Judged) string {
	switch {
	case j.Cause == "":
		return ""
	case j.Cause == "shape":
		return "the request is not taken apart without the engine: " + shape(j.What)
	case j.Cause == "cost":
		return "it would cost too much"
	case j.Cause == "panic":
		return "a fault of the fast engine"
	case j.Rule != 0 && j.What == "":
		return fmt.Sprintf("rule %d matches", j.Rule)
	case j.Rule != 0:
		return fmt.Sprintf("rule %d: %s", j.Rule, j.What)
	}
	return j.What
}

// shapes are the words of package view, as an operator reads them.
var shapes = map[string]string{
	"arguments": "more arguments, fields or parts than the limit, or very many",
	"header":    "a field name that could be folded to another one",
	"size":      "a body over the engine's limit",
	"processor": "a body parser that a rule has chosen",
	"json":      "JSON that does not parse, or is deeply nested",
	"multipart": "multipart that two parsers could read differently",
	"xml":       "XML that does not parse, or with more than elements and text",
	"forced":    "a rule wants REQUEST_BODY for every type",
}

// shape returns what a word for a shape means.
func shape(word string) string {
	if text, ok := shapes[word]; ok {
		return text
	}
	return word
}

// print writes the report as text.
func (x *explained) print(w io.Writer) {
	fmt.Fprintf(w, "request   %s %s", x.Request.Method, printable(x.Request.Target))
	if x.Request.Body > 0 {
		fmt.Fprintf(w, ", body of %d bytes", x.Request.Body)
	}
	fmt.Fprintf(w, "\nhost      %s\npath      %s\nclient    %s", printable(x.Host), printable(x.Path), x.Client)
	if x.Peer != x.Client {
		fmt.Fprintf(w, " through %s", x.Peer)
	}
	if x.Country != "" {
		fmt.Fprintf(w, ", country %s", x.Country)
	}
	if x.ASN != 0 {
		fmt.Fprintf(w, ", AS%d", x.ASN)
	}
	fmt.Fprint(w, "\n\n")
	for i := range x.Stages {
		s := &x.Stages[i]
		fmt.Fprintf(w, "%-9s %s  [%.0f us]\n", s.Stage, s.summary(), *s.Micros)
		if s.Payload != nil {
			s.Payload.print(w)
		}
	}
	for i := range x.Detected {
		fmt.Fprintf(w, "%-9s would have said: %s\n", x.Detected[i].Stage, x.Detected[i].summary())
	}
	fmt.Fprintf(w, "\ndecision  %s", x.Decision.summary())
	if x.Decision.Stage != "" {
		fmt.Fprintf(w, ", by %s", x.Decision.Stage)
	}
	fmt.Fprintln(w)
}

// summary returns a decision in one line.
func (s *explainedStage) summary() string {
	var b strings.Builder
	b.WriteString(s.Verdict)
	if s.Status != 0 {
		fmt.Fprintf(&b, " %d", s.Status)
	}
	if s.Reason != "" {
		fmt.Fprintf(&b, " (%s)", s.Reason)
	}
	if s.Rule != "" {
		fmt.Fprintf(&b, ", rule %s", s.Rule)
	}
	for _, text := range []string{s.Detail, s.Error} {
		if text != "" {
			b.WriteString(": " + printable(text))
		}
	}
	return b.String()
}

// print writes what the payload rules saw and found.
func (p *explainedPayload) print(w io.Writer) {
	switch {
	case p.Proved:
		fmt.Fprintln(w, "          proved: no rule can match, the engine is not asked")
	case p.NotProved != "":
		fmt.Fprintf(w, "          not proved: %s", p.NotProved)
		switch p.Path {
		case waf.PathFollowed.String():
			fmt.Fprint(w, "; judged without the engine all the same")
		case waf.PathEngine.String():
			fmt.Fprint(w, "; judged by the engine")
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "          body as %s", p.Body)
	if p.Processor != "" && p.Processor != "URLENCODED" && !strings.EqualFold(p.Processor, p.Body) {
		fmt.Fprintf(w, ", read by %s", p.Processor)
	}
	if p.Threshold > 0 {
		fmt.Fprintf(w, "; score %d of %d", p.Score, p.Threshold)
	}
	fmt.Fprintln(w)
	for _, v := range p.Values {
		fmt.Fprintf(w, "            %s\n", v)
	}
	for _, m := range p.Matches {
		fmt.Fprintf(w, "          rule %d: %s\n            %s\n", m.Rule, printable(m.Message), m.explainedValue)
	}
}

// String returns a value as rules name it.
func (v explainedValue) String() string {
	name := v.Variable
	if v.Name != "" {
		name += ":" + printable(v.Name)
	}
	return name + " = " + fmt.Sprintf("%q", v.Value)
}

// printable returns a text that does nothing to a terminal.
func printable(s string) string {
	q := fmt.Sprintf("%q", s)
	q = q[1 : len(q)-1]
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(q)
}

// Package crscorpus holds the regression tests of the OWASP Core Rule Set as
// requests: the golden corpus against which moat's payload engines are held.
//
// The tests come from the module coraza-coreruleset/v4/tests (Apache-2.0), in the
// format of go-ftw. Raw returns the bytes that go-ftw would send, Request what
// net/http's server makes of them.
package crscorpus

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/corazawaf/coraza-coreruleset/v4/tests"
	"go.yaml.in/yaml/v3"
)

// Case is one stage of one test: a request and what the rules must say to it.
type Case struct {
	// ID is "rule-test", with "-stage" behind it from the second stage on.
	ID string
	// Rule is the rule under test.
	Rule int
	// File is the path within the tests module.
	File string
	// Desc is the author's description; often empty.
	Desc string
	// Raw is the request as go-ftw writes it to the connection.
	Raw []byte
	// Want is the expectation.
	Want Want
}

// Want is what a test expects. Empty parts expect nothing.
type Want struct {
	// Status is the status of the response; 0 for any. Tests that expect 200 have
	// an upstream in mind that answers so.
	Status int
	// Rules must all be in the log, NotRules must not.
	Rules, NotRules []int
	// Match is a regular expression that a line of the log must match, NotMatch
	// one that no line may.
	Match, NotMatch string
	// Error says that the connection may fail without an answer.
	Error bool
	// Isolated says that the log holds no rule but the expected one.
	Isolated bool
}

// Response reports whether the test is about a response: of the rules that read
// responses, or of the correlation behind them.
func (c *Case) Response() bool { return strings.HasPrefix(c.File, "RESPONSE-") }

// All returns the corpus, in order of file and test. It panics on a malformed
// test: the corpus is part of the build. The result is shared and must not be
// changed.
var All = sync.OnceValue(func() []Case {
	files, err := fs.Glob(tests.FS, "*/*.yaml")
	if err != nil {
		panic(err)
	}
	slices.Sort(files)
	var all []Case
	for _, name := range files {
		data, err := fs.ReadFile(tests.FS, name)
		if err != nil {
			panic(err)
		}
		cases, err := parse(name, data)
		if err != nil {
			panic(fmt.Errorf("%s: %w", name, err))
		}
		all = append(all, cases...)
	}
	return all
})

// The format of a file, as far as the corpus uses it. Decoding is strict, so that
// a new field is noticed.
type file struct {
	Meta   yaml.Node `yaml:"meta"`
	Author string    `yaml:"author"` // one file has it here
	RuleID int       `yaml:"rule_id"`
	Tests  []struct {
		ID     int    `yaml:"test_id"`
		Desc   string `yaml:"desc"`
		Stages []struct {
			Input  input  `yaml:"input"`
			Output output `yaml:"output"`
		} `yaml:"stages"`
	} `yaml:"tests"`
}

type input struct {
	DestAddr       string    `yaml:"dest_addr"`
	Port           int       `yaml:"port"`
	Protocol       string    `yaml:"protocol"`
	Method         *string   `yaml:"method"`
	URI            *string   `yaml:"uri"`
	Version        *string   `yaml:"version"`
	Headers        yaml.Node `yaml:"headers"`
	Data           string    `yaml:"data"`
	EncodedRequest string    `yaml:"encoded_request"`
	Autocomplete   *bool     `yaml:"autocomplete_headers"`
}

type output struct {
	Status      int  `yaml:"status"`
	ExpectError bool `yaml:"expect_error"`
	RetryOnce   bool `yaml:"retry_once"`
	Isolated    bool `yaml:"isolated"`
	Log         struct {
		ExpectIDs    []int  `yaml:"expect_ids"`
		NoExpectIDs  []int  `yaml:"no_expect_ids"`
		MatchRegex   string `yaml:"match_regex"`
		NoMatchRegex string `yaml:"no_match_regex"`
	} `yaml:"log"`
}

// parse returns the cases of a file.
func parse(name string, data []byte) ([]Case, error) {
	var f file
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil // a file of comments: a rule without tests
		}
		return nil, err
	}
	var cases []Case
	for _, t := range f.Tests {
		for i, stage := range t.Stages {
			id := fmt.Sprintf("%d-%d", f.RuleID, t.ID)
			if i > 0 {
				id = fmt.Sprintf("%s-%d", id, i+1)
			}
			raw, err := stage.Input.raw()
			if err != nil {
				return nil, fmt.Errorf("test %s: %w", id, err)
			}
			out := stage.Output
			cases = append(cases, Case{
				ID: id, Rule: f.RuleID, File: name, Desc: strings.TrimSpace(t.Desc), Raw: raw,
				Want: Want{
					Status: out.Status, Error: out.ExpectError, Isolated: out.Isolated,
					Rules: out.Log.ExpectIDs, NotRules: out.Log.NoExpectIDs,
					Match: out.Log.MatchRegex, NotMatch: out.Log.NoMatchRegex,
				},
			})
		}
	}
	return cases, nil
}

// raw returns the bytes of a request.
func (in *input) raw() ([]byte, error) {
	if in.EncodedRequest != "" {
		return base64.StdEncoding.DecodeString(in.EncodedRequest)
	}
	var h header
	for i := 0; i+1 < len(in.Headers.Content); i += 2 {
		h = append(h, field{in.Headers.Content[i].Value, in.Headers.Content[i+1].Value})
	}
	return buildRaw(or(in.Method, "GET"), or(in.URI, "/"), or(in.Version, "HTTP/1.1"), h, in.Data, in.Autocomplete == nil || *in.Autocomplete), nil
}

func or(s *string, otherwise string) string {
	if s == nil {
		return otherwise
	}
	return *s
}

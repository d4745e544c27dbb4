package policy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/moatwaf/moat/rules"
)

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	raw, err := json.Marshal(Schema())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("policy.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("policy.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance returns a policy as the values that a schema is about.
func instance(t *testing.T, file string) (any, bool) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return nil, false
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, false
	}
	v, err = jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return v, true
}

// notation are the policies whose fault lies in how the YAML is written, which a
// schema cannot see.
var notation = map[string]bool{"duplicate-key": true, "merge-key": true, "tab-indentation": true, "two-documents": true, "waf-body-limit-unit": true, "list-interval-too-short": true, "store-budget-too-long": true, "waf-memory-too-small": true}

// TestSchemaAgreesWithTheDecoder holds the schema against the decoder: what one
// takes, the other takes.
func TestSchemaAgreesWithTheDecoder(t *testing.T) {
	s := compiledSchema(t)
	var files []string
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml", "../../cmd/moat/ready/policy.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		files = append(files, found...)
	}
	refused := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		v, ok := instance(t, file)
		if !ok || notation[name] {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p := defaults()
		decodes := len(rules.Decode(file, data, &p)) == 0
		err = s.Validate(v)
		if decodes != (err == nil) {
			// Some faults of values are for the decoder's own types to find.
			if decodes || !schemaIsSilent[name] {
				t.Errorf("%s: decoder takes it: %v; schema: %v", file, decodes, err)
			}
		}
		if err != nil {
			refused++
		}
	}
	if refused < 10 {
		t.Errorf("the schema refused only %d policies", refused)
	}
}

// schemaIsSilent are the policies that a schema lets pass and the decoder does not.
var schemaIsSilent = map[string]bool{"list-file-and-url": true, "list-store-and-file": true, "list-store-with-interval": true, "list-without-source": true}

func FuzzPolicy(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := defaults()
		errs := rules.Decode("policy.yaml", data, &p)
		lines := strings.Count(string(data), "\n") + 1
		for _, e := range errs {
			if e.Pos.File != "policy.yaml" || e.Pos.Line < 1 || e.Pos.Line > lines+1 || e.Msg == "" {
				t.Errorf("fault without a place in %d lines: %v", lines, e)
			}
		}
	})
}

package match

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/moatwaf/moat/rules"
)

// The schema that editors get takes the conditions that the decoder takes.
func TestSchema(t *testing.T) {
	type document struct {
		Condition
	}
	text, err := json.Marshal(rules.Schema(document{}, rules.SchemaOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("policy.json", parsed); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("policy.json")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		yaml string
		good bool
	}{
		{`{}`, true},
		{`match: {ip: $office, country: [DE, AT], asn: [64500, AS64501], host: a.example, path: /a/*, method: GET}`, true},
		{`match: {header: {user-agent: [curl/*, ""]}, claim: {plan: pro, level: 3, beta: true, groups: [a, 1]}}`, true},
		{`match: {not: {not: {ip: 10.0.0.0/8}}, expr: "true"}`, true},
		{`expr: 'http.host == "a"'`, true},
		{`match: {ips: 10.0.0.1}`, false},
		{`match: {not: {ips: 10.0.0.1}}`, false},
		{`match: {ip: []}`, false},
		{`match: {asn: 0}`, false},
		{`match: {asn: AS}`, false},
		{`match: {country: true}`, false},
		{`match: {claim: {a: {b: c}}}`, false},
		{`match: [a]`, false},
		{`expr: true`, false},
	}
	for _, tt := range tests {
		var value any
		if err := yaml.Unmarshal([]byte(tt.yaml), &value); err != nil {
			t.Fatal(err)
		}
		err := schema.Validate(value)
		if (err == nil) != tt.good {
			t.Errorf("%s: the schema says %v", tt.yaml, err)
		}
		if _, errs := decode(t, tt.yaml); (errs == nil) != tt.good {
			t.Errorf("%s: the decoder says %v", tt.yaml, errs)
		}
	}
}

package rules

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	generated, err := json.Marshal(Schema(document{}, SchemaOptions{ID: "https://moat.example/test.json", Title: "Test"}))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(generated)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("https://moat.example/test.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("https://moat.example/test.json")
	if err != nil {
		t.Fatalf("%v\n%s", err, generated)
	}
	return s
}

// plainValue turns a node into what a validator takes, as an editor that knows
// YAML 1.2 reads it.
func plainValue(t *testing.T, n *Node) any {
	t.Helper()
	switch n.Kind() {
	case List:
		list := []any{}
		for _, item := range n.Items() {
			list = append(list, plainValue(t, item))
		}
		return list
	case Mapping:
		m := map[string]any{}
		for _, e := range n.Entries() {
			m[e.Key.String()] = plainValue(t, e.Value)
		}
		return m
	}
	switch {
	case n.IsNull():
		return nil
	case n.IsString():
		return n.String()
	}
	if n.y.Tag == tagBool {
		return strings.EqualFold(n.String(), "true")
	}
	if n.y.Tag == tagInt {
		if _, err := strconv.ParseFloat(n.String(), 64); err == nil {
			return json.Number(strings.TrimPrefix(n.String(), "+"))
		}
	}
	var v any
	if err := n.y.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// schemaBlind are the bad files whose fault a schema cannot see: bounds of
// durations and sizes, and notation.
var schemaBlind = map[string]bool{
	"duplicate-key.yaml": true, "duration-too-short.yaml": true, "size-too-small.yaml": true,
	"second-document.yaml": true, "merge-key.yaml": true, "tag.yaml": true, "complex-key.yaml": true,
	"float.yaml": true, // NaN and infinity are no JSON
}

func TestSchemaAgreesWithFiles(t *testing.T) {
	schema := compileSchema(t)
	for _, dir := range []string{"good", "bad"} {
		for _, path := range yamlFiles(t, dir) {
			name := filepath.Base(path)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			n, _ := parse(name, data)
			if n == nil || schemaBlind[name] {
				continue
			}
			err = schema.Validate(plainValue(t, n))
			if dir == "good" && err != nil {
				t.Errorf("%s: the schema refuses a good document: %v", name, err)
			}
			if dir == "bad" && err == nil {
				t.Errorf("%s: the schema takes a bad document", name)
			}
		}
	}
}

// TestSchemaAgreesWithDecoder changes good documents at random, and holds what
// the decoder says of them against what the schema says.
func TestSchemaAgreesWithDecoder(t *testing.T) {
	schema := compileSchema(t)
	data, err := os.ReadFile("testdata/good/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	counts := map[bool]int{}
	for range 1000 {
		first, _, err := parseYAML(data)
		if err != nil {
			t.Fatal(err)
		}
		mutate(random, first.Content[0])
		text, err := yaml.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		n, errs := parse("p", text)
		if n == nil || errs != nil {
			continue // notation, about which a schema has no say
		}
		errs = Decode("p", text, new(document))
		verdict := schema.Validate(plainValue(t, n))
		if (errs == nil) != (verdict == nil) {
			t.Errorf("decoder: %v\nschema: %v\n%s", errs, verdict, text)
		}
		counts[errs == nil]++
	}
	if counts[true] < 100 || counts[false] < 100 {
		t.Errorf("the documents are one-sided: %v", counts)
	}
}

// mutate removes, renames, doubles or replaces one value.
func mutate(random *rand.Rand, root *yaml.Node) {
	var all []*yaml.Node
	var collect func(*yaml.Node)
	collect = func(n *yaml.Node) {
		all = append(all, n)
		for _, c := range n.Content {
			collect(c)
		}
	}
	collect(root)
	n := all[random.IntN(len(all))]
	scalars := []string{"1", "0", "5", "404", "true", "DE", "block", "detect", "GET", "5m", "1h", "1MiB", "64KiB", "1.5", "-3", "300", "5000000000", "''", "[]", "{}", "[a]", "{a: b}", "[[]]"}
	switch n.Kind {
	case yaml.MappingNode:
		if len(n.Content) > 0 {
			i := random.IntN(len(n.Content)/2) * 2
			n.Content = append(n.Content[:i:i], n.Content[i+2:]...)
		}
	case yaml.SequenceNode:
		if len(n.Content) > 0 {
			n.Content = n.Content[1:]
		}
	case yaml.ScalarNode:
		var other yaml.Node
		if err := yaml.Unmarshal([]byte(scalars[random.IntN(len(scalars))]), &other); err != nil {
			panic(err)
		}
		anchor := n.Anchor
		*n = *other.Content[0]
		n.Anchor = anchor
	}
}

func TestSchemaOfUnits(t *testing.T) {
	schema := compileSchema(t)
	for _, text := range []string{"1h", "5m30s", "1d", "1d12h", "", "5", "-5m", "1h.5m", ".5h", "1w", "1 h", "2dd", "1d5", "90µs1h", "5m\n"} {
		_, err := ParseDuration(text)
		verdict := schema.Validate(map[string]any{"version": 1, "waf": map[string]any{"every": text}})
		if (err == nil) != (verdict == nil) {
			t.Errorf("duration %q: parser %v, schema %v", text, err, verdict)
		}
	}
	for _, text := range []string{"1KiB", "1 MiB", "1.5GiB", "12", "", "1mb", "1K", "-1B", "1  B", "1MiB "} {
		_, err := ParseSize(text)
		verdict := schema.Validate(map[string]any{"version": 1, "waf": map[string]any{"limit": text}})
		if (err == nil) != (verdict == nil) {
			t.Errorf("size %q: parser %v, schema %v", text, err, verdict)
		}
	}
}

func TestSchemaTellsDescriptions(t *testing.T) {
	s := Schema(&document{}, SchemaOptions{Description: "whole"})
	defs := s["$defs"].(map[string]any)
	doc := defs["rules.document"].(map[string]any)
	lists := doc["properties"].(map[string]any)["lists"].(map[string]any)
	if got := lists["description"]; got != "Lists of addresses." {
		t.Errorf("description of lists: %v", got)
	}
	if s["description"] != "whole" || s["$ref"] != "#/$defs/rules.document" {
		t.Errorf("root: %v", s)
	}
}

type undescribed struct{}

func (*undescribed) UnmarshalRules(*Node) Errors { return nil }

func TestSchemaWantsDescriber(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic for a type that does not describe itself")
		}
	}()
	Schema(struct {
		A undescribed `yaml:"a"`
	}{}, SchemaOptions{})
}

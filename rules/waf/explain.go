package waf

import (
	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/filter"
)

// Explanation is a decision with what the rules saw of the request and what they
// found in it. It holds parts of the request: it is for whoever has given the
// request, and never for a log.
type Explanation struct {
	Inspection
	// Kind is how the body was shown to the rules: "none", "text", "form",
	// "multipart", "json", "ndjson", "xml". Processor is the parser that read it.
	Kind, Processor string
	// Values are what the rules saw, without the header; bounded in number and length.
	Values []Value
	// Matches are the values that rules with a message matched, in order; bounded.
	Matches []Match
}

// Value is one value that rules look at.
type Value struct {
	Variable string // "ARGS_POST"
	Name     string // within the collection; empty for a variable with one value
	Value    string // cut to its first bytes
}

// Match is a rule and one value that it matched.
type Match struct {
	Rule    int
	Message string
	Value
}

// Bounds of an Explanation.
const (
	maxExplained      = 200 // values, and matches
	maxExplainedBytes = 512 // of one
)

// kindNames are the body kinds as an Explanation spells them.
var kindNames = [...]string{
	kindNone: "none", kindText: "text", kindForm: "form", kindMultipart: "multipart", kindJSON: "json", kindNDJSON: "ndjson", kindXML: "xml",
}

// explained are the variables whose values an Explanation holds.
var explained = []variables.RuleVariable{
	variables.RequestLine, variables.RequestFilename, variables.ArgsGet, variables.ArgsPost, variables.RequestCookies,
	variables.Files, variables.FilesNames, variables.RequestXML, variables.RequestBody,
}

// Explain decides like Check and tells what the rules saw and found. It evaluates
// the request a second time, with the engine, whatever the first way was; a request
// that costs too much is not evaluated again. An error is a fault of the engine.
func (s *Stage) Explain(r *filter.Request) (Explanation, error) {
	i, err := s.Inspect(r)
	x := Explanation{Inspection: i, Kind: kindNames[bodyKindOf(r.HTTP)]}
	if err != nil || i.Judged.Path == PathEnded || i.Judged.Path == PathBody {
		return x, err
	}
	e, ok := s.engine.(plain)
	if p, isProving := s.engine.(*proving); isProving {
		e, ok = p.plain, true
	}
	if !ok {
		return x, nil
	}
	e.look = func(tx transaction) {
		x.Processor = tx.Variables().RequestBodyProcessor().Get()
		x.Values = valuesOf(tx)
		x.Matches = matchesOf(tx.MatchedRules())
	}
	_, err = e.evaluate(r, func(kind bodyKind) (payload, *filter.Decision) {
		p, refusal := s.readPayload(r, kind, s.config.BodyLimit)
		x.Kind = kindNames[p.kind]
		return p, refusal
	})
	return x, err
}

// valuesOf returns what the rules saw.
func valuesOf(tx transaction) []Value {
	var all []Value
	add := func(v variables.RuleVariable, name, value string) {
		if len(all) < maxExplained && (value != "" || name != "") {
			all = append(all, Value{v.Name(), cutTo(name), cutTo(value)})
		}
	}
	for _, v := range explained {
		switch c := tx.Collection(v).(type) {
		case collection.Single:
			add(v, "", c.Get())
		case nil:
		default:
			for _, d := range c.FindAll() {
				add(v, d.Key(), d.Value())
			}
		}
	}
	return all
}

// matchesOf returns what rules with a message matched.
func matchesOf(rules []types.MatchedRule) []Match {
	var all []Match
	for _, m := range rules {
		if l, ok := m.(interface{ Log() bool }); m.Message() == "" || ok && !l.Log() {
			continue
		}
		for _, d := range m.MatchedDatas() {
			if len(all) == maxExplained {
				return all
			}
			message := d.Message()
			if message == "" {
				message = m.Message()
			}
			all = append(all, Match{m.Rule().ID(), message, Value{d.Variable().Name(), cutTo(d.Key()), cutTo(d.Value())}})
		}
	}
	return all
}

// cutTo returns the beginning of a text that an Explanation holds.
func cutTo(s string) string {
	if len(s) > maxExplainedBytes {
		return s[:maxExplainedBytes] + "..."
	}
	return s
}

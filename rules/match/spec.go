package match

import (
	"strconv"
	"strings"

	"github.com/moatwaf/moat/rules"
)

// Spec is a condition as the operator writes it. All keys that are written must
// hold; of a list, one member is enough. A Spec without keys holds for every
// request.
type Spec struct {
	IP      OneOrMore[string]            `yaml:"ip" doc:"client address: an address, a prefix, a range (first-last) or the name of a list ($office)"`
	Country OneOrMore[string]            `yaml:"country" doc:"country of the client address, ISO 3166-1 alpha-2"`
	ASN     OneOrMore[ASN]               `yaml:"asn" doc:"autonomous system of the client address: 64500 or AS64500"`
	Host    OneOrMore[string]            `yaml:"host" doc:"host name without port; *.example.com is every name below example.com, not example.com itself"`
	Path    OneOrMore[string]            `yaml:"path" doc:"path, decoded: /login is this path only, /admin/* is /admin and everything below it; * stands for a part of a segment, ** for any number of segments"`
	Method  OneOrMore[string]            `yaml:"method" doc:"request method, upper case"`
	Header  map[string]OneOrMore[string] `yaml:"header" doc:"request header fields: a value, the beginning of a value and *, * for any value, or \"\" for none"`
	Claim   map[string]OneOrMore[Claim]  `yaml:"claim" doc:"claims of the verified caller; needs an identity"`
	Not     *rules.Located[Spec]         `yaml:"not" doc:"holds where this condition does not"`
	Expr    rules.Located[string]        `yaml:"expr" doc:"a CEL expression that is true or false"`
}

// Condition is what a rule, a tier or a requirement embeds to take a condition:
// the keys match and expr. Both must hold where both are written.
type Condition struct {
	Match *Spec                 `yaml:"match" doc:"the condition; without it, every request"`
	Expr  rules.Located[string] `yaml:"expr" doc:"a CEL expression that is true or false"`
}

// Empty reports whether the condition holds for every request because nothing
// is written.
func (c *Condition) Empty() bool {
	return !c.Expr.Set() && (c.Match == nil || c.Match.empty())
}

func (s *Spec) empty() bool {
	return s.IP == nil && s.Country == nil && s.ASN == nil && s.Host == nil && s.Path == nil &&
		s.Method == nil && len(s.Header) == 0 && len(s.Claim) == 0 && s.Not == nil && !s.Expr.Set()
}

// OneOrMore is a list that may be written as its only item, without brackets. An
// empty list is a fault: it would match nothing.
type OneOrMore[T any] []rules.Located[T]

// UnmarshalRules implements rules.Unmarshaler.
func (l *OneOrMore[T]) UnmarshalRules(n *rules.Node) rules.Errors {
	if n.Kind() == rules.List && len(n.Items()) == 0 {
		return rules.Errors{n.Errorf("remove the key, or name what shall match", "an empty list matches nothing")}
	}
	return n.DecodeSingle((*[]rules.Located[T])(l))
}

// JSONSchema implements rules.Describer.
func (l *OneOrMore[T]) JSONSchema() map[string]any {
	return map[string]any{"anyOf": []any{
		rules.TypeSchema[T](),
		map[string]any{"type": "array", "items": rules.TypeSchema[T](), "minItems": 1},
	}}
}

// ASN is an autonomous system number (RFC 6793), written 64500 or AS64500. 0 is
// reserved (RFC 7607) and stands for an unknown network, so it cannot be written.
type ASN uint32

// UnmarshalRules implements rules.Unmarshaler.
func (a *ASN) UnmarshalRules(n *rules.Node) rules.Errors {
	if !n.IsString() {
		var number uint32
		if errs := n.Decode(&number); errs != nil {
			return errs
		}
		*a = ASN(number)
	} else {
		text := n.String()
		if len(text) > 2 && strings.EqualFold(text[:2], "AS") {
			text = text[2:]
		}
		number, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return rules.Errors{n.Errorf("such as 64500 or AS64500", "%q is no autonomous system number", n.String())}
		}
		*a = ASN(number)
	}
	if *a == 0 {
		return rules.Errors{n.Errorf("", "the autonomous system number 0 is reserved")}
	}
	return nil
}

// JSONSchema implements rules.Describer.
func (a *ASN) JSONSchema() map[string]any {
	return map[string]any{"anyOf": []any{
		map[string]any{"type": "integer", "minimum": 1, "maximum": 1<<32 - 1},
		map[string]any{"type": "string", "pattern": "^([Aa][Ss])?0*[1-9][0-9]{0,9}$"},
	}}
}

// Claim is the value that a claim must have: a string, a number (float64) or a
// truth value. The string "*" stands for any value.
type Claim struct{ Value any }

// UnmarshalRules implements rules.Unmarshaler. The type is the one that is
// written: 3 is a number and "3" a string.
func (c *Claim) UnmarshalRules(n *rules.Node) rules.Errors {
	if n.IsString() {
		c.Value = n.String()
		return nil
	}
	var truth bool
	if n.Decode(&truth) == nil {
		c.Value = truth
		return nil
	}
	var number float64
	if n.Decode(&number) == nil {
		c.Value = number
		return nil
	}
	return n.Expected("a string, a number, true or false", "")
}

// JSONSchema implements rules.Describer.
func (c *Claim) JSONSchema() map[string]any {
	return map[string]any{"type": []any{"string", "number", "boolean"}}
}

package seclang

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental/plugins/macro"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
)

// Compiled is what the engine has made of a Program: its own operators and
// transformations, so that nobody needs to write them anew. It is immutable; the
// functions are safe for concurrent use, as the engine's are.
type Compiled struct {
	// Links are in the order of Program.Rules, each with its links.
	Links [][]CompiledLink
}

// CompiledLink is the engine's side of a Link.
type CompiledLink struct {
	// Operator does not know of negation; nil for SecAction.
	Operator plugintypes.Operator
	// Transforms are those of Link.Transforms.
	Transforms []plugintypes.Transformation
	// Log says that the engine reports the rule when it matches: the last of log
	// and nolog. It is that of the first link that counts.
	Log bool
	// Status is that of the last status action; 0 for none.
	Status int
}

// Verify holds the model against the rules in an engine that has loaded the same
// files: the same rules and markers in the same order, each with the same number,
// phase, tags and message, and each link with the same targets, exclusions,
// operator, transformations and actions. The error names the first difference.
//
// The rule observer of the engine reports rules as they are added, before later
// directives change or remove them, and no links. So the engine's own list is
// read, by reflection; a list that looks different from that of Coraza v3.8.1 is
// an error, never a panic.
func (p *Program) Verify(waf coraza.WAF) (c *Compiled, err error) {
	defer func() {
		if v := recover(); v != nil {
			c, err = nil, fmt.Errorf("the engine's rules cannot be read: %v", v)
		}
	}()
	rules := reflect.ValueOf(waf).FieldByName("waf").Elem().FieldByName("Rules").FieldByName("rules")
	if n := rules.Len(); n != len(p.Rules) {
		return nil, fmt.Errorf("the engine has %d rules and markers, the model %d", n, len(p.Rules))
	}
	c = &Compiled{Links: make([][]CompiledLink, len(p.Rules))}
	for i, r := range p.Rules {
		if c.Links[i], err = r.verify(rules.Index(i)); err != nil {
			return nil, fmt.Errorf("%s:%d: rule %d: %w", r.File, r.Line, r.ID, err)
		}
	}
	return c, nil
}

// verify compares one rule and its links.
func (r *Rule) verify(v reflect.Value) ([]CompiledLink, error) {
	if err := cmp("marker", v.FieldByName("SecMark_").String(), r.Marker); err != nil {
		return nil, err
	}
	if err := cmp("number", int(v.FieldByName("ID_").Int()), r.ID); err != nil {
		return nil, err
	}
	if err := cmp("phase", int(v.FieldByName("Phase_").Int()), r.Phase); err != nil {
		return nil, err
	}
	var links []CompiledLink
	for n := 0; r.Marker == ""; n++ {
		if n == len(r.Links) {
			return nil, fmt.Errorf("the engine has more than %d links", n)
		}
		l, err := r.Links[n].verify(v)
		if err != nil {
			return nil, fmt.Errorf("link %d: %w", n, err)
		}
		links = append(links, l)
		next := v.FieldByName("Chain")
		if next.IsNil() {
			break
		}
		v = next.Elem()
	}
	return links, cmp("links", len(links), len(r.Links))
}

// verify compares one link.
func (l *Link) verify(v reflect.Value) (c CompiledLink, err error) {
	var errs []error
	check := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	check(cmp("capture", v.FieldByName("Capture").Bool(), l.Capture))
	check(cmp("multiMatch", v.FieldByName("MultiMatch").Bool(), l.MultiMatch))
	check(cmp("chain", v.FieldByName("HasChain").Bool(), l.Chain))
	check(l.verifyMetadata(v))
	check(l.verifyTargets(v.FieldByName("variables")))

	operator := v.FieldByName("operator")
	check(cmp("operator", !operator.IsNil(), l.Operator != nil))
	if len(errs) == 0 && l.Operator != nil {
		op := operator.Elem()
		check(cmp("argument", op.FieldByName("Data").String(), l.Operator.Arg))
		check(cmp("negation", op.FieldByName("Negation").Bool(), l.Operator.Negated))
		name := op.FieldByName("Function").String()
		if l.Operator.Negated {
			name = name[1:]
		}
		check(cmp("operator", name, "@"+l.Operator.Name))
		c.Operator = open(op.FieldByName("Operator")).(plugintypes.Operator)
	}

	c.Log = v.FieldByName("Log").Bool()
	c.Status = int(v.FieldByName("DisruptiveStatus").Int())
	transforms := v.FieldByName("transformations")
	check(cmp("transformations", transforms.Len(), len(l.Transforms)))
	for i := range transforms.Len() {
		c.Transforms = append(c.Transforms, open(transforms.Index(i).FieldByName("Function")).(plugintypes.Transformation))
	}
	if len(errs) > 0 {
		return CompiledLink{}, errs[0]
	}
	return c, nil
}

// verifyMetadata compares message, tags and the names of the actions.
func (l *Link) verifyMetadata(v reflect.Value) error {
	msg := ""
	if m, ok := open(v.FieldByName("Msg")).(macro.Macro); ok {
		msg = m.String()
	}
	if err := cmp("msg", msg, l.Msg); err != nil {
		return err
	}
	if tags := open(v.FieldByName("Tags_")).([]string); !slices.Equal(tags, l.Tags) {
		return fmt.Errorf("tags: %q in the engine, %q in the model", tags, l.Tags)
	}
	actions := v.FieldByName("actions")
	n := 0
	for _, a := range l.Actions {
		if a.Kind == KindMetadata {
			continue
		}
		if n == actions.Len() {
			return fmt.Errorf("the engine has no action %s", a.Name)
		}
		if err := cmp("action", actions.Index(n).FieldByName("Name").String(), a.Name); err != nil {
			return err
		}
		n++
	}
	return cmp("number of actions", actions.Len(), n)
}

// verifyTargets compares the targets and their exclusions.
func (l *Link) verifyTargets(v reflect.Value) error {
	if err := cmp("number of targets", v.Len(), len(l.Targets)); err != nil {
		return err
	}
	for i, t := range l.Targets {
		e := v.Index(i)
		if err := cmp("variable", e.FieldByName("Variable").Uint(), uint64(t.Variable)); err != nil {
			return err
		}
		if err := cmp("count", e.FieldByName("Count").Bool(), t.Count); err != nil {
			return err
		}
		if err := t.Key.verify(e); err != nil {
			return err
		}
		except := e.FieldByName("Exceptions")
		if err := cmp("number of exclusions", except.Len(), len(t.Except)); err != nil {
			return err
		}
		for j, k := range t.Except {
			if err := k.verify(except.Index(j)); err != nil {
				return fmt.Errorf("exclusion: %w", err)
			}
		}
	}
	return nil
}

// verify compares a selector.
func (k Key) verify(v reflect.Value) error {
	re := open(v.FieldByName("KeyRx")).(*regexp.Regexp)
	if err := cmp("expression in a selector", re != nil, k.Regex); err != nil {
		return err
	}
	if k.Regex {
		return cmp("selector", re.String(), k.Text)
	}
	return cmp("selector", v.FieldByName("KeyStr").String(), k.Text)
}

// open returns the value of a field that may be unexported.
func open(v reflect.Value) any {
	return reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem().Interface()
}

// cmp returns an error if the engine and the model differ.
func cmp[T comparable](what string, engine, model T) error {
	if engine == model {
		return nil
	}
	return fmt.Errorf("%s: %v in the engine, %v in the model", what, engine, model)
}

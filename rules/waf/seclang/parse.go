package seclang

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parser reads directives in the order of the engine.
type parser struct {
	*Program
	defaults map[int][]Action
}

// phase2Defaults are the engine's own, where SecDefaultAction sets none.
var phase2Defaults = parseActions("phase:2,log,auditlog,pass")

// Parse reads the files in order. The error names what keeps the model from being
// complete; it is not meant for those who write rules.
func Parse(files []File) (*Program, error) {
	p := parser{
		Program:  &Program{Settings: map[string]string{}, Datasets: map[string][]string{}},
		defaults: map[int][]Action{2: phase2Defaults},
	}
	for i := range files {
		all, err := files[i].directives()
		if err != nil {
			return nil, err
		}
		for _, d := range all {
			if err := p.directive(&d); err != nil {
				return nil, fmt.Errorf("%s:%d: %s: %w", d.file, d.line, d.name, err)
			}
		}
	}
	return p.Program, nil
}

func (p *parser) directive(d *directive) error {
	switch d.name {
	case "include":
		return fmt.Errorf("%s is not resolved", d.opts)
	case "secrule", "secaction":
		return p.rule(d)
	case "secmarker":
		p.Rules = append(p.Rules, &Rule{Marker: d.opts, File: d.file, Line: d.line, Raw: "SecMarker " + d.opts})
	case "secdefaultaction":
		own := parseActions(d.opts)
		n := 0
		for _, a := range own {
			if a.Name == "phase" {
				n = phase(a.Value)
			}
		}
		if n == 0 {
			return fmt.Errorf("no phase")
		}
		p.defaults[n] = own
	case "secruleremovebyid":
		return p.removeByID(d.opts)
	case "secruleremovebytag":
		p.remove(func(r *Rule) bool { return r.hasTag(d.opts) })
	case "secruleremovebymsg":
		p.remove(func(r *Rule) bool { return len(r.Links) > 0 && r.Links[0].Msg == d.opts && d.opts != "" })
	case "secruleupdatetargetbyid":
		return p.updateByID(d.opts, func(r *Rule, list string) error {
			return r.Links[0].parseTargets(strings.Trim(list, `"`))
		})
	case "secruleupdatetargetbytag":
		words := strings.Fields(d.opts)
		if len(words) != 2 {
			return fmt.Errorf("%d words", len(words))
		}
		for _, r := range p.Rules {
			if r.hasTag(strings.Trim(words[0], `"`)) {
				if err := r.Links[0].parseTargets(strings.Trim(words[1], `"`)); err != nil {
					return err
				}
			}
		}
	case "secruleupdateactionbyid":
		return p.updateByID(d.opts, func(r *Rule, list string) error {
			own := parseActions(strings.Trim(list, `"`))
			l := &r.Links[0]
			if disruptive(own) {
				l.Actions = slices.DeleteFunc(l.Actions, func(a Action) bool { return a.Kind == KindDisruptive })
			}
			r.Updated = true
			return r.apply(l, own, nil)
		})
	case "secdataset":
		name, content, _ := strings.Cut(d.opts, " ")
		var words []string
		for line := range strings.SplitSeq(strings.Trim(content, "`"), "\n") {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				words = append(words, line)
			}
		}
		p.Datasets[name] = words
	default:
		p.Settings[d.name] = d.opts
	}
	return nil
}

// rule adds a rule, or a link to the chain that waits for one.
func (p *parser) rule(d *directive) error {
	var (
		l    Link
		list string
		own  []Action
	)
	if d.name == "secrule" {
		targets, operator, actions, err := splitRule(d.opts)
		if err != nil {
			return err
		}
		if err := l.parseTargets(targets); err != nil {
			return err
		}
		l.Operator, list = parseOperator(operator), actions
	} else {
		list = unquote(d.opts)
	}
	r := &Rule{Phase: 2, File: d.file, Line: d.line, Raw: d.raw}
	if list != "" {
		own = parseActions(list)
		if err := r.apply(&l, own, p.defaults); err != nil {
			return err
		}
	}
	if n := len(p.Rules); n > 0 && p.Rules[n-1].open() {
		last := p.Rules[n-1]
		if disruptive(own) {
			return fmt.Errorf("a disruptive action in a link of rule %d", last.ID)
		}
		last.Links = append(last.Links, l)
		return nil
	}
	r.Links = []Link{l}
	p.Rules = append(p.Rules, r)
	return nil
}

// open reports whether the rule waits for another link.
func (r *Rule) open() bool { return len(r.Links) > 0 && r.Links[len(r.Links)-1].Chain }

// hasTag reports whether the rule has a tag. Those of chained links do not count.
func (r *Rule) hasTag(tag string) bool {
	return len(r.Links) > 0 && slices.Contains(r.Links[0].Tags, tag)
}

func (p *parser) remove(is func(*Rule) bool) { p.Rules = slices.DeleteFunc(p.Rules, is) }

func (p *parser) removeByID(opts string) error {
	for word := range strings.FieldsSeq(opts) {
		lo, hi, err := idRange(word)
		if err != nil {
			return err
		}
		if lo != hi || strings.Contains(word, "-") {
			p.remove(func(r *Rule) bool { return r.ID >= lo && r.ID <= hi })
			continue
		}
		// A single number removes one entry, the first.
		if i := slices.IndexFunc(p.Rules, func(r *Rule) bool { return r.ID == lo }); i >= 0 {
			p.Rules = slices.Delete(p.Rules, i, i+1)
		}
	}
	return nil
}

// updateByID calls update for the rules of a list of numbers and ranges. As in the
// engine, a single number ends the list.
func (p *parser) updateByID(opts string, update func(r *Rule, list string) error) error {
	words := strings.Fields(opts)
	if len(words) < 2 {
		return fmt.Errorf("%d words", len(words))
	}
	list := words[len(words)-1]
	for _, word := range words[:len(words)-1] {
		lo, hi, err := idRange(word)
		if err != nil {
			return err
		}
		for _, r := range p.Rules {
			if r.ID < lo || r.ID > hi {
				continue
			}
			if len(r.Links) == 0 {
				return fmt.Errorf("%s covers a marker", word)
			}
			if err := update(r, list); err != nil {
				return err
			}
			if lo == hi {
				break
			}
		}
		if lo == hi {
			return nil
		}
	}
	return nil
}

// idRange parses a number, or two with a dash between them.
func idRange(word string) (lo, hi int, err error) {
	first, last, isRange := strings.Cut(word, "-")
	if lo, err = strconv.Atoi(first); err != nil {
		return 0, 0, fmt.Errorf("rule number %q", word)
	}
	hi = lo
	if isRange {
		if hi, err = strconv.Atoi(last); err != nil || lo > hi {
			return 0, 0, fmt.Errorf("range %q", word)
		}
	}
	return lo, hi, nil
}

package waf

import (
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"

	"github.com/moatwaf/moat/rules"
)

// checker reads the operator's directives in the order of the engine and finds
// what the engine would not tell, or not where.
type checker struct {
	src   *source
	errs  *rules.Errors
	known map[int]rules.Position // rules so far
	crs   bool                   // the Core Rule Set is among them

	chain    *directive // the start of a chain that waits for its next link
	defaults map[string]rules.Position
}

// checkDirectives returns the faults of a plan that can be seen without the
// engine, and reads the data files that the rules name.
func checkDirectives(plan []segment, src *source) rules.Errors {
	var errs rules.Errors
	c := checker{src: src, errs: &errs, known: map[int]rules.Position{}, defaults: map[string]rules.Position{}}
	for id := range ownRules() {
		c.known[id] = rules.Position{File: "moat"}
	}
	for i := range plan {
		s := &plan[i]
		if s.crs {
			c.crs = true
			for id, pos := range crsRules() {
				if other, ok := c.known[id]; ok {
					errs.Add(other, "", "choose a number from 1 to 99999", "rule %d is a rule of the Core Rule Set (%s)", id, pos)
				}
				c.known[id] = pos
			}
		}
		for j := range s.directives {
			c.directive(&s.directives[j])
		}
		if c.chain != nil && (i+1 == len(plan) || plan[i+1].file != s.file) {
			errs.Add(c.chain.pos(), "", "remove chain from its last rule", "the chain has no next rule in its file")
			c.chain = nil
		}
	}
	return errs
}

// ownRules returns the numbers that operators cannot use.
func ownRules() map[int]bool {
	own := map[int]bool{200000: true, 200001: true, 200006: true, ruleBodyError: true, ruleStrict: true,
		ruleArgsHeaders: true, ruleArgsBody: true, ruleURI: true}
	for id := ownRuleMin; id <= ownRuleMax; id++ {
		own[id] = true
	}
	return own
}

// crsRules returns the numbers of the shipped rules with their places.
var crsRules = sync.OnceValue(func() map[int]rules.Position {
	ids := map[int]rules.Position{}
	names, err := fs.Glob(coreruleset.FS, "@owasp_crs/*.conf")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, name := range names {
		data, err := fs.ReadFile(coreruleset.FS, name)
		if err != nil {
			panic(err) // embedded
		}
		var errs rules.Errors
		for _, d := range scan(path.Base(name), data, &errs) {
			if r, ok := parseRule(&d); ok {
				if id, err := strconv.Atoi(r.value("id")); err == nil {
					ids[id] = d.pos()
				}
			}
		}
	}
	return ids
})

// directive checks one directive.
func (c *checker) directive(d *directive) {
	r, ok := parseRule(d)
	if !ok {
		refuse(d, nil, c.errs)
	} else {
		refuse(d, &r, c.errs)
		c.rule(d, &r)
		return
	}
	switch d.name {
	case "secruleremovebyid":
		for id := range strings.FieldsSeq(d.args) {
			if touchesOwn(id) {
				c.errs.Add(d.pos(), "", "", "%s would remove a rule of moat (%d to %d)", firstWord(d.raw), ownRuleMin, ownRuleMax)
			} else {
				c.exists(d, id)
			}
		}
	case "secruleupdatetargetbyid", "secruleupdateactionbyid":
		ids := strings.Fields(d.args)
		if len(ids) < 2 {
			return // the engine tells
		}
		if len(ids) > 2 {
			// The engine stops at the first number, and takes the last word for the
			// whole list.
			c.errs.Add(d.pos(), "", "write one directive for each number, and no spaces in the list", "%s takes one number or range and one word", firstWord(d.raw))
			return
		}
		if touchesOwn(ids[0]) {
			c.errs.Add(d.pos(), "", "", "%s would change a rule of moat (%d to %d)", firstWord(d.raw), ownRuleMin, ownRuleMax)
		} else {
			c.exists(d, ids[0])
		}
	case "secdefaultaction":
		r := rule{actions: parseActions(d.args)}
		phase := r.value("phase")
		if first, ok := c.defaults[phase]; ok {
			c.errs.Add(d.pos(), "", "", "the default actions of phase %s are set already (%s)", phase, first)
		} else if c.crs {
			c.errs.Add(d.pos(), "", "put it into a file named crs-setup.conf", "default actions behind the Core Rule Set come too late")
		}
		c.defaults[phase] = d.pos()
	}
}

// rule checks what a rule says of itself and of other rules.
func (c *checker) rule(d *directive, r *rule) {
	inChain := c.chain != nil
	if _, ok := r.has("chain"); !ok {
		c.chain = nil
	} else if !inChain {
		c.chain = d
	}
	id, hasID := r.has("id")
	n, err := strconv.Atoi(id)
	switch {
	case inChain:
	case !hasID:
		c.errs.Add(d.pos(), "", "add id: with a number from 1 to 99999", "the rule has no number")
	case err != nil || n <= 0:
		c.errs.Add(d.pos(), "", "write a number from 1 to 99999", "%q is no rule number", id)
	default:
		if other, ok := c.known[n]; ok {
			c.errs.Add(d.pos(), "", "choose another number from 1 to 99999", "rule %d is there already (%s)", n, other)
		}
		c.known[n] = d.pos()
	}
	switch op := strings.ToLower(strings.TrimLeft(r.operator, "!@")); op {
	case "pmfromfile", "pmf", "ipmatchfromfile", "ipmatchf":
		file := r.argument
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(d.file), file)
		}
		if _, err := c.src.read(file); err != nil {
			c.errs.Add(d.pos(), "", "", "%s: %v", file, err)
		}
	case "validateschema":
		file := r.argument
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(d.file), file)
		}
		if _, err := c.src.read(file); err != nil {
			c.errs.Add(d.pos(), "", "", "%s: %v", file, err)
		} else if other, ok := c.src.schemas[r.argument]; ok && other != file {
			c.errs.Add(d.pos(), "", "write the complete path", "%s is also %s", r.argument, other)
		}
		c.src.schemas[r.argument] = file
	}
}

// exists reports a number or range that names no rule so far.
func (c *checker) exists(d *directive, word string) {
	lo, hi, ok := idRange(word)
	if !ok {
		return // the engine tells
	}
	if lo == hi {
		if _, ok := c.known[lo]; ok {
			return
		}
	} else {
		for id := range c.known {
			if id >= lo && id <= hi {
				return
			}
		}
	}
	hint := "rules that are defined further down are not known yet"
	if _, ok := crsRules()[lo]; ok && !c.crs {
		hint = "put it into a file named RESPONSE-999-EXCLUSION-RULES-AFTER-CRS.conf"
	}
	c.errs.Add(d.pos(), "", hint, "%s: there is no rule %s here", firstWord(d.raw), word)
}

// idRange parses a rule number or a range of them.
func idRange(word string) (lo, hi int, ok bool) {
	word = strings.Trim(word, `"'`)
	first, last, isRange := strings.Cut(word, "-")
	lo, err := strconv.Atoi(first)
	if err != nil {
		return 0, 0, false
	}
	if !isRange {
		return lo, lo, true
	}
	hi, err = strconv.Atoi(last)
	return lo, hi, err == nil && lo <= hi
}

// touchesOwn reports whether a number or range covers a rule of moat's own, but
// not those of the recommended configuration, which operators may exclude.
func touchesOwn(word string) bool {
	lo, hi, ok := idRange(word)
	return ok && lo <= ownRuleMax && hi >= ownRuleMin
}

// value returns the value of an action; empty if the rule has none of that name.
func (r *rule) value(name string) string {
	v, _ := r.has(name)
	return v
}

// argumentsLimit returns the last SecArgumentsLimit of the operator's directives.
func argumentsLimit(segs []segment) int {
	limit := defaultArguments
	for i := range segs {
		for j := range segs[i].directives {
			if d := &segs[i].directives[j]; d.name == "secargumentslimit" {
				if n, err := strconv.Atoi(d.args); err == nil && n > 0 {
					limit = n
				}
			}
		}
	}
	return limit
}

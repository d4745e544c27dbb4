package waf

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/corazawaf/coraza/v3"

	"github.com/moatwaf/moat/rules"
)

// unit is what is compiled by itself to find a fault's place: a directive, or a
// chain of rules.
type unit struct {
	directives []directive
	prelude    string // what the unit needs to exist
}

// units returns the operator's directives as units.
func units(plan []segment) []unit {
	var (
		all      []unit
		datasets strings.Builder
		chained  bool
	)
	for i := range plan {
		for _, d := range plan[i].directives {
			r, isRule := parseRule(&d)
			if isRule && chained {
				last := &all[len(all)-1]
				last.directives = append(last.directives, d)
			} else {
				all = append(all, unit{directives: []directive{d}, prelude: prelude(&d, datasets.String())})
			}
			if isRule {
				_, chained = r.has("chain")
			}
			if d.name == "secdataset" {
				datasets.WriteString(d.raw)
			}
		}
	}
	return all
}

// prelude returns the directives without which d cannot compile alone.
func prelude(d *directive, datasets string) string {
	switch d.name {
	case "secrule":
		if strings.Contains(d.raw, "FromDataset") {
			return datasets
		}
	case "secruleupdatetargetbyid", "secruleupdateactionbyid":
		word, _, _ := strings.Cut(d.args, " ")
		if lo, _, ok := idRange(word); ok {
			return fmt.Sprintf("SecRule ARGS \"@streq x\" \"id:%d,phase:2,pass,nolog\"\n", lo)
		}
	case "secruleupdatetargetbytag":
		tag, _, _ := strings.Cut(d.args, " ")
		return fmt.Sprintf("SecRule ARGS \"@streq x\" \"id:1,phase:2,pass,nolog,tag:'%s'\"\n", strings.Trim(tag, `"'`))
	}
	return ""
}

// trials numbers the compilations, so that no two share a path.
var trials atomic.Uint64

// compileUnits compiles each of the operator's units by itself and returns the
// faults with their places. The engine stops at the first one and names no line.
func compileUnits(plan []segment, src *source) rules.Errors {
	var errs rules.Errors
	for _, u := range units(plan) {
		d := &u.directives[0]
		if d.name == "secdefaultaction" {
			// The engine reads it with the next rule.
			u.directives = append(u.directives, directive{raw: "SecAction \"id:1,phase:2,pass,nolog\"\n"})
		}
		err := compileUnit(&u, src)
		if err == nil {
			continue
		}
		// In a chain, the first link with which it fails.
		for n := 1; n < len(u.directives) && d.name == "secrule"; n++ {
			if compileUnit(&unit{u.directives[:n], u.prelude}, src) != nil {
				break
			}
			d = &u.directives[n]
		}
		msg, hint := explain(err)
		errs.Add(d.pos(), "", hint, "%s", msg)
	}
	return errs
}

// compileUnit compiles one unit.
func compileUnit(u *unit, src *source) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the engine failed: %v", v)
		}
	}()
	root := &engineFS{prefix: "/trial" + strconv.FormatUint(trials.Add(1), 10), src: src, segments: map[string]string{}}
	conf := coraza.NewWAFConfig().WithRootFS(root)
	if u.prelude != "" {
		conf = conf.WithDirectives(u.prelude)
	}
	waf, err := coraza.NewWAF(conf.WithDirectivesFromFile(root.add(&segment{file: u.directives[0].file, directives: u.directives})))
	if err != nil {
		return err
	}
	if c, ok := waf.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// engineNoise is what the engine says around the cause of an error.
var engineNoise = regexp.MustCompile(`(?:invalid WAF config from (?:file|string): |failed to parse string: |failed to compile the directive "[a-z]+": )+`)

// notNumber is how strconv reports a word.
var notNumber = regexp.MustCompile(`strconv\.\w+: parsing ("[^"]*"): [a-z ]+`)

// hints are what to do about common errors of the engine.
var hints = []struct {
	text, hint string
}{
	{"error parsing regexp", "expressions are RE2: no look-around, no back-references"},
	{"unknown directive", "directive and arguments are parted by a space"},
	{"the engine failed", "another rule has the same words for another purpose; write one of them differently"},
}

// explain returns the cause of an engine error, and what to do about it.
func explain(err error) (msg, hint string) {
	msg = engineNoise.ReplaceAllString(err.Error(), "")
	msg = notNumber.ReplaceAllString(msg, "$1 is no number")
	msg = strings.ReplaceAll(msg, "(?sm)", "")
	for _, h := range hints {
		if strings.Contains(msg, h.text) {
			return msg, h.hint
		}
	}
	return msg, ""
}

// locate finds the directive at which a plan fails that has no fault in its
// parts, by loading ever shorter beginnings of it.
func (s *source) locate(plan []segment, err error) *rules.Error {
	var at []*directive
	for i := range plan {
		for j := range plan[i].directives {
			at = append(at, &plan[i].directives[j])
		}
	}
	// The first n directives load, the first n+1 do not.
	lo, hi := 0, len(at)
	for lo < hi {
		mid := (lo + hi + 1) / 2
		l, failed := load(digest{byte(trials.Add(1)), 0xff}, cutPlan(plan, mid), s)
		if failed != nil {
			hi = mid - 1
			continue
		}
		lo = mid
		if c, ok := l.waf.(io.Closer); ok {
			_ = c.Close() // it was a trial
		}
	}
	msg, hint := explain(err)
	fault := &rules.Error{Msg: msg, Hint: hint}
	if lo < len(at) {
		fault.Pos = at[lo].pos()
	}
	return fault
}

// cutPlan returns a plan with the first n of the operator's directives.
func cutPlan(plan []segment, n int) []segment {
	var out []segment
	for _, s := range plan {
		if s.file != "" {
			k := min(n, len(s.directives))
			n -= k
			s.directives = s.directives[:k]
		}
		out = append(out, s)
	}
	return out
}

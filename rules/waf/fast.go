package waf

import (
	"fmt"
	"io/fs"
	"slices"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"

	"github.com/moatwaf/moat/rules/waf/gate"
	"github.com/moatwaf/moat/rules/waf/seclang"
)

// loadBudgeted builds the engine of a plan with a budget and, for the fast engine,
// with a gate. A plan about which the gate can say nothing is loaded all the same;
// GateOff tells why.
func loadBudgeted(key digest, plan []segment, src *source, fast bool) (*loaded, error) {
	slot := gate.NewSlot()
	defer slot.Loaded()
	budget := newBudget(fast)
	defer budget.loaded()
	own := budget.directives()
	if fast {
		own = slot.Directives(ownRuleGate1, ownRuleGate2) + own
	}
	// Behind moat's own first rules, which choose the body parser and prepare the
	// collections, and ahead of all others.
	plan = slices.Insert(slices.Clone(plan), 1, segment{text: own})
	l, err := load(key, plan, src)
	if err != nil {
		return nil, err
	}
	l.budget = budget
	root := newEngineFS(key, src)
	files, err := root.files(plan)
	if err != nil {
		return nil, err
	}
	program, err := seclang.Parse(files)
	if err != nil {
		if fast {
			l.off = fmt.Sprintf("the rules are not understood: %v", err)
		}
		return l, nil
	}
	budget.know(program)
	if !fast {
		return l, nil
	}
	l.gate = gate.New(program, l.waf, gate.Options{
		Actions:    []string{prepareAction, budgetAction},
		Transforms: []string{freshPrefix},
		ReadFile:   root.ReadFile,
		MaxWork:    budgetFast,
		Exceeded:   ended,
	})
	l.off = l.gate.Off()
	slot.Set(l.gate)
	return l, nil
}

// files returns the segments of a plan under the names that the engine has for
// them, the shipped rules file by file.
func (f *engineFS) files(plan []segment) ([]seclang.File, error) {
	var files []seclang.File
	for i := range plan {
		s := &plan[i]
		switch {
		case s.crs:
			names, err := fs.Glob(coreruleset.FS, "@owasp_crs/*.conf")
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				data, err := fs.ReadFile(coreruleset.FS, name)
				if err != nil {
					return nil, err
				}
				files = append(files, seclang.File{Name: name, Text: string(data)})
			}
		case s.file == "":
			files = append(files, seclang.File{Name: "moat", Text: s.text})
		default:
			name := f.add(s)
			files = append(files, seclang.File{Name: name, Text: f.segments[name]})
		}
	}
	return files, nil
}

// GateOff returns why rules that cannot match are evaluated all the same; empty if
// Config.Fast is not set, or if they are not evaluated.
func (s *Stage) GateOff() string { return s.loaded.off }

// Candidates returns the rules of the request phases that are evaluated for every
// request, with the reason; nil without Config.Fast.
func (s *Stage) Candidates() map[int]string {
	if s.loaded.gate == nil {
		return nil
	}
	return s.loaded.gate.Reasons()
}

package waf

import (
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"

	"github.com/moatwaf/moat/rules/waf/dfa"
	"github.com/moatwaf/moat/rules/waf/gate"
	"github.com/moatwaf/moat/rules/waf/proof"
	"github.com/moatwaf/moat/rules/waf/seclang"
	"github.com/moatwaf/moat/rules/waf/view"
)

// What is remembered of values that come again takes at most so many bytes, and at
// most 3/8 and 1/8 of what the automata may take: in the proof, and where findings are
// followed, which is asked less.
const (
	maxCache       = 24 << 20
	maxFollowCache = 8 << 20
)

// loadBudgeted builds the engine of a plan with a budget and, for the fast engine,
// with a gate. A plan about which the gate can say nothing is loaded all the same;
// GateOff tells why.
func loadBudgeted(key digest, plan []segment, src *source, c *Config) (*loaded, error) {
	fast := c.Fast
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
	l.memory = dfa.NewMemory(int(c.Memory))
	l.gate = gate.New(program, l.waf, gate.Options{
		Actions:    []string{prepareAction, budgetAction},
		Transforms: []string{freshPrefix},
		ReadFile:   root.ReadFile,
		Memory:     l.memory,
		MaxWork:    budgetFast,
		Exceeded:   ended,
	})
	l.off = l.gate.Off()
	slot.Set(l.gate)
	l.proof = proof.New(program, l.waf, proof.Options{
		Actions:    []string{prepareAction, budgetAction, gate.ActionName},
		Transforms: []string{freshPrefix},
		Unreported: []int{ruleScore, ruleEarlyScore},
		ReadFile:   root.ReadFile,
		Memory:     l.memory,
		MaxCache:   min(maxCache, int(c.Memory)*3/8),
		MaxCost:    maxProofCost,
	})
	if l.proof.Off() == "" {
		l.follow = proof.New(program, l.waf, proof.Options{
			Actions:    []string{prepareAction, budgetAction, gate.ActionName},
			Transforms: []string{freshPrefix},
			Unreported: []int{ruleScore, ruleEarlyScore},
			ReadFile:   root.ReadFile,
			Memory:     l.memory,
			MaxCache:   min(maxFollowCache, int(c.Memory)/8),
			MaxCost:    maxProofCost,
			Follow:     true,
			Numbers:    followed[:],
		})
	}
	// Ahead of the first request, so that none pays for it.
	l.proof.Prepare(never)
	if l.follow != nil {
		l.follow.Prepare(never)
	}
	l.depth = jsonDepth
	if n, err := strconv.Atoi(program.Settings["secrequestbodyjsondepthlimit"]); err == nil && n > 0 {
		l.depth = n
	}
	return l, nil
}

// never does not stop what can be stopped.
func never() bool { return false }

// evaluator returns the way in which a stage evaluates the rules.
func (l *loaded) evaluator(c *Config) evaluator {
	engine := plain{waf: l.waf, small: l.budget.small, arguments: c.arguments}
	if c.Unbounded {
		engine.small = math.MaxInt
	}
	if l.proof == nil || l.proof.Off() != "" {
		return engine
	}
	return &proving{plain: engine, proof: l.proof, follow: l.follow, views: view.New(view.Options{
		Arguments: c.arguments,
		JSONDepth: l.depth,
		BodyLimit: engineLimit(c),
	})}
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

// ProofOff returns why every request is evaluated by the engine; empty if
// Config.Fast is not set, or if clean requests are not.
func (s *Stage) ProofOff() string {
	switch {
	case !s.config.Fast:
		return ""
	case s.loaded.proof == nil:
		return s.loaded.off
	}
	return s.loaded.proof.Off()
}

// Unproved returns the rules because of which a request that reaches them is
// evaluated by the engine, with the reason; nil without Config.Fast.
func (s *Stage) Unproved() map[int]string {
	if s.loaded.proof == nil {
		return nil
	}
	return s.loaded.proof.Reasons()
}

// Unfollowed returns the rules because of which a request that they match, or match a
// part of, is evaluated by the engine, with the reason; nil without Config.Fast. Those
// of Unproved are not among them.
func (s *Stage) Unfollowed() map[int]string {
	p := s.loaded.follow
	if p == nil {
		return nil
	}
	unfollowed := p.Matched()
	maps.Copy(unfollowed, p.Reasons())
	maps.DeleteFunc(unfollowed, func(rule int, _ string) bool { return s.loaded.proof.Reasons()[rule] != "" })
	return unfollowed
}

// Unfit returns how many automata there is no Config.Memory for, so that their patterns
// are held against every value one by one; 0 without Config.Fast.
func (s *Stage) Unfit() int {
	if s.loaded.follow == nil {
		return 0
	}
	return s.loaded.proof.Unfit() + s.loaded.follow.Unfit()
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

// Memory returns how many bytes the automata of the fast engine have taken, and how
// many they may take; 0 without Config.Fast. Stages with the same rules share them.
func (s *Stage) Memory() (taken, size int) {
	m := s.loaded.memory
	if m == nil {
		return 0, 0
	}
	return m.Size() - m.Left(), m.Size()
}

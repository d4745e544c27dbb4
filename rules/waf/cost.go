package waf

import (
	"regexp/syntax"
	"strconv"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/rules/waf/seclang"
)

// What the engine needs, in nanoseconds on one core of an ordinary server, as
// measured on hostile texts with all rules of the Core Rule Set.
const (
	costRule      = 500 // a rule, whatever it finds
	costValue     = 200 // a value for a rule, whatever its length
	costTransform = 8   // a transformation of a byte
	costXSS       = 100 // @detectXSS, for a byte
	costOther     = 8   // other operators, for a byte

	// A regular expression costs for a byte what it costs to keep the threads
	// that its instructions make.
	costThread  = 2
	costProgram = 100
	costSmall   = 8 // for an instruction of a program of a few
	costMost    = 1800
)

// ruleCosts is what the rules of an engine cost. It is weighed when a request
// first needs it, because expressions have to be compiled for it.
type ruleCosts struct {
	program *seclang.Program
	once    sync.Once
	phases  [3][]ruleCost // by number; the first is not used
}

// ruleCost is what one rule costs.
type ruleCost struct {
	id    int
	links []linkCost
}

// linkCost is what one link of a rule costs.
type linkCost struct {
	targets    []seclang.Target
	perByte    int // of transformations and operator
	transforms int
	sqli       bool
}

// weigh makes the costs.
func (c *ruleCosts) weigh() {
	level := paranoiaOf(c.program)
	skip := map[int]string{} // phase -> the marker up to which its rules are skipped
	for _, r := range c.program.Rules {
		if r.Marker != "" {
			for phase, marker := range skip {
				if marker == r.Marker {
					delete(skip, phase)
				}
			}
			continue
		}
		if r.Phase != 1 && r.Phase != 2 || skip[r.Phase] != "" {
			continue
		}
		if marker, n := skipsBelow(r); marker != "" && level < n {
			skip[r.Phase] = marker
		}
		cost := ruleCost{id: r.ID}
		for i := range r.Links {
			l := &r.Links[i]
			if l.Operator == nil {
				continue
			}
			lc := linkCost{perByte: operatorCost(l.Operator), transforms: len(l.Transforms), sqli: l.Operator.Name == "detectSQLi"}
			lc.perByte += costTransform * len(l.Transforms)
			if l.MultiMatch {
				lc.perByte *= 1 + len(l.Transforms)
			}
			for _, t := range l.Targets {
				if !t.Count && t.Variable != variables.TX {
					lc.targets = append(lc.targets, t)
				}
			}
			cost.links = append(cost.links, lc)
		}
		c.phases[r.Phase] = append(c.phases[r.Phase], cost)
	}
}

// levelVariable is where the Core Rule Set keeps the paranoia level whose rules are
// evaluated.
const levelVariable = "detection_paranoia_level"

// paranoiaOf returns the highest paranoia level that a program sets; 4 if it cannot
// be told.
func paranoiaOf(p *seclang.Program) int {
	level := 0
	for _, r := range p.Rules {
		for i := range r.Links {
			for _, a := range r.Links[i].Actions {
				if a.Name != "setvar" {
					continue
				}
				name, value, _ := strings.Cut(strings.ToLower(strings.Trim(a.Value, `'"`)), "=")
				if name != "tx."+levelVariable || strings.HasPrefix(value, "%{tx.blocking_") {
					continue
				}
				n, err := strconv.Atoi(value)
				if err != nil {
					return 4
				}
				level = max(level, n)
			}
		}
	}
	if level == 0 {
		return 4
	}
	return level
}

// skipsBelow returns the marker to which a rule skips where the paranoia level is
// below n; an empty marker for any other rule.
func skipsBelow(r *seclang.Rule) (marker string, n int) {
	if len(r.Links) != 1 || len(r.Links[0].Targets) != 1 {
		return "", 0
	}
	l, t := &r.Links[0], &r.Links[0].Targets[0]
	if t.Variable != variables.TX || !strings.EqualFold(t.Key.Text, levelVariable) || t.Count ||
		l.Operator == nil || l.Operator.Name != "lt" || l.Operator.Negated {
		return "", 0
	}
	n, err := strconv.Atoi(l.Operator.Arg)
	if err != nil {
		return "", 0
	}
	for _, a := range l.Actions {
		if a.Name == "skipafter" {
			marker = strings.Trim(a.Value, `'"`)
		}
	}
	return marker, n
}

// cost returns what the link costs with the values of a transaction.
func (l *linkCost) cost(x *extents) int {
	n := costRule
	for i := range l.targets {
		e := x.of(&l.targets[i])
		n += e.values*costValue + e.bytes*l.perByte
		if l.sqli {
			n += e.sqli * (1 + l.transforms/4)
		}
	}
	return n
}

// operatorCost returns what an operator costs for a byte.
func operatorCost(op *seclang.Operator) int {
	switch op.Name {
	case "rx":
		return expressionCost(op.Arg)
	case "detectXSS":
		return costXSS
	}
	return costOther
}

// expressionCost returns what a regular expression costs for a byte of a text that
// is made to be dear for it.
func expressionCost(expr string) int {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return costMost // one of bytes, which another package compiles
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return costMost
	}
	n := len(prog.Inst)
	return min(costSmall*n, costProgram+costThread*n, costMost)
}

package policy

import (
	"github.com/moatwaf/moat/rules"
)

// ids finds names that were given twice. Access rules and tiers share one space
// of names, so that a name in the audit log means one thing.
type ids map[string]rules.Position

// claim notes a name, or reports that it is taken or empty.
func (l *loader) claim(names ids, id rules.Located[string]) {
	switch first, taken := names[id.Value]; {
	case !id.Set():
	case id.Value == "":
		l.errs = append(l.errs, id.Errorf("give it a name that the audit log can show", "the id is empty"))
	case taken:
		l.errs = append(l.errs, id.Errorf("ids are unique among rules and tiers", "the id %q is taken: it is defined at line %d", id.Value, first.Line))
	default:
		names[id.Value] = id.Pos
	}
}

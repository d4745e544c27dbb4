package waf

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/rules/waf/gate"
	"github.com/moatwaf/moat/rules/waf/seclang"
)

// The engine's cost grows with the rules, the values and their bytes, and a legal
// request can take it a minute. So the cost is estimated before the engine
// evaluates the rules of a phase: from the rules that are left in the transaction,
// the values that each looks at, and what its operator costs for a byte (cost.go).
// A request over the budget ends as the policy's oversize says; see Stage.Check.
//
// The estimate and not a clock decides, so that the answer to a request is the same
// on every machine and under every load.

// Budgets of one phase, in nanoseconds as they are estimated. The fast engine's
// holds for the rules that the gate has left, and again for the gate. The plain
// engine's is that of an engine that needs five microseconds for a byte.
const (
	budgetFast  = 60_000_000
	budgetPlain = 4_000_000_000
)

// What a request may cost with the fast engine before the engine begins, in
// nanoseconds as they are estimated.
const (
	// maxProofCost is what the proof may cost.
	maxProofCost = 38_000_000
	// maxHandover is what the proof and the gate may cost together, if the gate
	// needs gateByte for each byte of the request.
	maxHandover = 40_000_000
	gateByte    = 30
	// maxFound is what the proof may have cost when it finds something: whoever judges
	// the finding reads the request again.
	maxFound = maxProofCost * 2 / 5
)

// tooDear reports whether a request of so many bytes that was not proved costs too
// much for the engine to be asked. Small ones never do.
func (h *handover) tooDear(size, small int) bool {
	if size <= small {
		return false
	}
	return h.cause == causeCost || small < math.MaxInt && h.spent > 0 && (h.spent > maxFound || h.spent+gateByte*size > maxHandover)
}

// Requests of at most so many bytes are not looked at: all rules together cost less
// than the budget.
const (
	smallFast  = 8 << 10
	smallPlain = 32 << 10
)

// budgetAction is the name of the action that holds a phase to its budget. It
// belongs to rules of moat only, behind those of the gate.
const budgetAction = "moatbudget"

func init() {
	plugins.RegisterAction(budgetAction, func() plugintypes.Action { return &limit{} })
}

// budget holds the transactions of one engine to a cost.
type budget struct {
	name  string
	limit int
	small int
	rules atomic.Pointer[ruleCosts]
}

// budgets are those whose engine is being loaded, by name.
var (
	budgets      sync.Map
	budgetNumber atomic.Uint64
)

// newBudget returns a budget that knows no rule yet. The caller calls loaded when
// the engine is loaded, or has failed.
func newBudget(fast bool) *budget {
	b := &budget{name: strconv.FormatUint(budgetNumber.Add(1), 10), limit: budgetPlain, small: smallPlain}
	if fast {
		b.limit, b.small = budgetFast, smallFast
	}
	budgets.Store(b.name, b)
	return b
}

// loaded ends the time in which an engine can take the budget by its name.
func (b *budget) loaded() { budgets.Delete(b.name) }

// know tells the budget the rules of its engine. Without them nothing but the
// values is counted.
func (b *budget) know(p *seclang.Program) { b.rules.Store(&ruleCosts{program: p}) }

// weigh weighs the rules, which takes a while, so that no request has to.
func (b *budget) weigh() {
	if c := b.rules.Load(); c != nil {
		c.once.Do(c.weigh)
	}
}

// directives returns the rules that apply the budget.
func (b *budget) directives() string {
	return fmt.Sprintf(`SecAction "id:%d,phase:1,pass,t:none,nolog,noauditlog,%s:%s"
SecAction "id:%d,phase:2,pass,t:none,nolog,noauditlog,%s:%s"
`, ownRuleBudget1, budgetAction, b.name, ownRuleBudget2, budgetAction, b.name)
}

// limit is the action.
type limit struct{ budget *budget }

// Init implements plugintypes.Action.
func (a *limit) Init(_ plugintypes.RuleMetadata, name string) error {
	b, ok := budgets.Load(name)
	if !ok {
		return fmt.Errorf("%s is moat's own", budgetAction)
	}
	a.budget = b.(*budget)
	return nil
}

// Type implements plugintypes.Action.
func (a *limit) Type() plugintypes.ActionType { return plugintypes.ActionTypeNondisruptive }

// Evaluate implements plugintypes.Action.
func (a *limit) Evaluate(_ plugintypes.RuleMetadata, state plugintypes.TransactionState) {
	tx, ok := state.(transaction)
	if !ok || dear(tx) || afforded(tx) {
		return
	}
	if a.budget.rules.Load().cost(tx, a.budget.limit) > a.budget.limit {
		end(tx)
	}
}

// end takes every rule from a transaction that costs too much. The range is also
// the mark by which dear knows it.
func end(tx transaction) { tx.RemoveRuleByIDRange(math.MinInt, math.MaxInt) }

// ended is end for the gate. A small request for which the gate makes too many new
// states meets all rules instead, which it can afford.
func ended(state plugintypes.TransactionState) {
	if tx, ok := state.(transaction); ok && !afforded(tx) {
		end(tx)
	}
}

// dear reports whether a transaction was ended for its cost.
func dear(tx transaction) bool {
	for _, r := range tx.GetRuleRemoveByIDRanges() {
		if r[0] == math.MinInt {
			return true
		}
	}
	return false
}

// afford marks a phase of a transaction, by a range that holds no rule, as one that
// is not held to its budget. The rule of the budget stays: every rule that matches
// is seen by those behind it that read MATCHED_VAR, so that it must match for every
// request, in either engine.
func afford(tx transaction, phase types.RulePhase) {
	mark := affordMark(phase)
	tx.RemoveRuleByIDRange(mark, mark)
}

// afforded reports whether the phase that a transaction is in was marked so.
func afforded(tx transaction) bool {
	return slices.Contains(tx.GetRuleRemoveByIDRanges(), [2]int{affordMark(tx.LastPhase()), affordMark(tx.LastPhase())})
}

// affordMark is a number that no rule has.
func affordMark(phase types.RulePhase) int { return -1 - int(phase) }

// removed reports whether a rule was taken from a transaction by a range.
func removed(ranges [][2]int, id int) bool {
	for _, r := range ranges {
		if id >= r[0] && id <= r[1] {
			return true
		}
	}
	return false
}

// extent is how much a collection holds.
type extent struct {
	values, bytes int
	sqli          int // what @detectSQLi costs for all values
}

func (e *extent) add(value string) {
	e.values++
	e.bytes += len(value)
	e.sqli += gate.SQLiWork(value)
}

// extents are those of one transaction, each taken when it is first asked for.
type extents struct {
	tx   transaction
	all  map[variables.RuleVariable]extent
	keys map[string]extent
}

// of returns the extent of what a target shows, or of more: exclusions do not
// count.
func (x *extents) of(t *seclang.Target) (e extent) {
	if t.Key.Text == "" || t.Key.Regex {
		e, ok := x.all[t.Variable]
		if !ok {
			e = x.whole(t.Variable)
			x.all[t.Variable] = e
		}
		return e
	}
	name := t.Variable.Name() + ":" + t.Key.Text
	e, ok := x.keys[name]
	if ok {
		return e
	}
	if c, ok := x.tx.Collection(t.Variable).(collection.Keyed); ok {
		for _, value := range c.Get(t.Key.Text) {
			e.add(value)
		}
	}
	x.keys[name] = e
	return e
}

// whole returns the extent of a collection.
func (x *extents) whole(v variables.RuleVariable) (e extent) {
	switch c := x.tx.Collection(v).(type) {
	case nil:
	case collection.Single:
		e.add(c.Get())
	default:
		for _, d := range c.FindAll() {
			e.add(d.Value())
		}
	}
	return e
}

// cost returns what the rules of the transaction's phase that are left cost, in
// nanoseconds; once it is over enough, only that it is.
func (c *ruleCosts) cost(tx transaction, enough int) int {
	phase := tx.LastPhase()
	if c == nil || phase != types.PhaseRequestHeaders && phase != types.PhaseRequestBody {
		return 0
	}
	c.once.Do(c.weigh)
	x := extents{tx, map[variables.RuleVariable]extent{}, map[string]extent{}}
	ranges := tx.GetRuleRemoveByIDRanges()
	sum, most := 0, 0
	for i := range c.phases[phase] {
		r := &c.phases[phase][i]
		if removed(ranges, r.id) {
			continue
		}
		n := 0
		for j := range r.links {
			n += r.links[j].cost(&x)
		}
		// A text that is dear for one rule is rarely dear for another one.
		sum += n / 4
		if most = max(most, n); sum+most*3/4 > enough {
			break
		}
	}
	return sum + most*3/4
}

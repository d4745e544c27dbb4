package match

import (
	"net/netip"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Bounds of an expression as it is written. They are above what a person writes
// in one rule, and bound the time to compile it.
const (
	maxExprLength  = 8 << 10 // characters
	maxExprNodes   = 4000
	maxExprDepth   = 100
	maxExprNesting = 2    // comprehensions within each other
	maxRegexSize   = 4000 // instructions of a regular expression
)

// maxCost bounds the evaluation of an expression, in units of CEL: about a step,
// or ten bytes of text looked at: some tens of milliseconds at worst.
const maxCost = 1_000_000

// celEnv returns the environment of expressions: CEL's standard library without
// the macro has (every variable is set and every header field readable), the
// variables, and four functions.
func (env *Env) celEnv() (*cel.Env, error) {
	env.celOnce.Do(func() { env.cel, env.celErr = newCELEnv(env) })
	return env.cel, env.celErr
}

func newCELEnv(env *Env) (*cel.Env, error) {
	text, truth := cel.StringType, cel.BoolType
	options := []cel.EnvOption{
		cel.ClearMacros(),
		cel.Macros(cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro),
		cel.ParserExpressionSizeLimit(maxExprLength),
		cel.ParserRecursionLimit(maxExprDepth),
		cel.ExpressionNodeLimit(maxExprNodes),
		cel.ASTValidators(cel.ValidateComprehensionNestingLimit(maxExprNesting)),

		// inCIDR(address, "192.0.2.0/24"): false if the text is no address.
		cel.Function("inCIDR", cel.Overload("inCIDR_string_string", []*cel.Type{text, text}, truth,
			cel.BinaryBinding(func(addr, set ref.Val) ref.Val { return contains(addr, set, env.cidrs.Load) }))),
		// inList(address, "office"): the same with a list of the policy.
		cel.Function("inList", cel.Overload("inList_string_string", []*cel.Type{text, text}, truth,
			cel.BinaryBinding(func(addr, set ref.Val) ref.Val { return contains(addr, set, env.lists.Load) }))),
		// lower(text), upper(text): all of Unicode.
		cel.Function("lower", cel.Overload("lower_string", []*cel.Type{text}, text,
			cel.UnaryBinding(func(s ref.Val) ref.Val { return mapText(s, strings.ToLower) }))),
		cel.Function("upper", cel.Overload("upper_string", []*cel.Type{text}, text,
			cel.UnaryBinding(func(s ref.Val) ref.Val { return mapText(s, strings.ToUpper) }))),
	}
	for _, v := range variables {
		options = append(options, cel.Variable(v.name, v.typ))
	}
	return cel.NewEnv(options...)
}

// contains looks an address up in a set that was registered while compiling.
func contains(addr, name ref.Val, load func(any) (any, bool)) ref.Val {
	text, ok := addr.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(addr)
	}
	key, ok := name.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(name)
	}
	set, ok := load(string(key))
	if !ok {
		return types.NewErr("no such set")
	}
	a, err := netip.ParseAddr(string(text))
	if err != nil {
		return types.False
	}
	return types.Bool(set.(AddrSet).Contains(a.Unmap().WithZone("")))
}

func mapText(s ref.Val, f func(string) string) ref.Val {
	text, ok := s.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(s)
	}
	return types.String(f(string(text)))
}

// functionNames are the functions that hints name.
var functionNames = []string{
	"inCIDR", "inList", "lower", "upper", "contains", "startsWith", "endsWith", "matches", "size", "exists", "all",
}

// costs tells CEL how large the variables can be and what our functions cost.
// Whatever it leaves open counts as unbounded, and is measured at run time.
type costs struct{}

// EstimateSize implements checker.CostEstimator.
func (costs) EstimateSize(node checker.AstNode) *checker.SizeEstimate {
	path := node.Path()
	if len(path) == 0 {
		return nil
	}
	v, ok := variableIndex[path[0]]
	if !ok {
		return nil
	}
	most := v.most
	if len(path) > 1 { // a name or value of a header field
		most = mostHeader
	}
	return &checker.SizeEstimate{Max: most}
}

// EstimateCallCost implements checker.CostEstimator.
func (c costs) EstimateCallCost(function, _ string, _ *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	switch function {
	case "inCIDR", "inList":
		return &checker.CallEstimate{CostEstimate: checker.FixedCostEstimate(costLookup)}
	case "lower", "upper":
		if len(args) != 1 {
			return nil
		}
		size := args[0].ComputedSize()
		if size == nil {
			size = c.EstimateSize(args[0])
		}
		if size == nil {
			return nil
		}
		// A letter of two bytes may have one of three in the other case.
		result := size.Multiply(checker.SizeEstimate{Min: 0, Max: 2})
		return &checker.CallEstimate{CostEstimate: size.MultiplyByCostFactor(costByte).Add(checker.FixedCostEstimate(1)), ResultSize: &result}
	}
	return nil
}

// Costs of our functions, in the units of maxCost.
const (
	costLookup = 5
	costByte   = 0.1
)

// CallCost implements interpreter.ActualCostEstimator.
func (costs) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	var cost uint64
	switch function {
	case "inCIDR", "inList":
		cost = costLookup
	case "lower", "upper":
		cost = 1
		if len(args) == 1 {
			if s, ok := args[0].(types.String); ok {
				cost += uint64(float64(len(s)) * costByte)
			}
		}
	default:
		return nil
	}
	return &cost
}

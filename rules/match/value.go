package match

import (
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules"
)

// Value is a compiled expression that yields a text, a whole number or a truth
// value: what requests are counted by. It is immutable and safe for concurrent use.
type Value struct {
	e    *expression
	uses Uses
}

// CompileValue compiles an expression, or returns every fault and nil.
func CompileValue(l rules.Located[string], env *Env) (*Value, rules.Errors) {
	if env == nil {
		env = new(Env)
	}
	b := builder{env: env, m: new(Matcher)}
	e := b.program(l, func(t *cel.Type) *rules.Error {
		for _, fine := range []*cel.Type{cel.StringType, cel.IntType, cel.UintType, cel.BoolType} {
			if t.IsExactType(fine) {
				return nil
			}
		}
		return l.Errorf("such as http.host", "the expression is a %s, not a text, a whole number or a truth value", t)
	})
	if e == nil {
		b.errs.Sort()
		return nil, b.errs
	}
	return &Value{e, b.m.uses}, nil
}

// Uses returns what the expression looks at.
func (v *Value) Uses() Uses { return v.uses }

// Value returns what the expression is on r, as text. The error is an *EvalError
// and holds nothing of the request.
func (v *Value) Value(r *filter.Request) (string, error) {
	if r.HTTP == nil {
		return "", errNoRequest
	}
	out, err := v.e.value(r)
	if err != nil {
		return "", v.e.fault(err)
	}
	switch x := out.(type) {
	case types.String:
		return string(x), nil
	case types.Int:
		return strconv.FormatInt(int64(x), 10), nil
	case types.Uint:
		return strconv.FormatUint(uint64(x), 10), nil
	case types.Bool:
		return strconv.FormatBool(bool(x)), nil
	}
	return "", v.e.fault(nil)
}

package match

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules"
)

// expression is a compiled CEL expression.
type expression struct {
	program cel.Program
	pos     rules.Position
}

// EvalError is an expression that could not be evaluated on a request. It holds
// nothing of the request: the text of CEL's own error may quote it.
type EvalError struct {
	Pos  rules.Position // where the expression was written
	Cost bool           // it ran into the bound on its cost
}

// Error implements error.
func (e *EvalError) Error() string {
	if e.Cost {
		return fmt.Sprintf("the expression at %s costs too much on this request", e.Pos)
	}
	return fmt.Sprintf("the expression at %s cannot be evaluated on this request", e.Pos)
}

var activations = sync.Pool{New: func() any { return new(activation) }}

func (e *expression) eval(r *filter.Request) (bool, error) {
	out, err := e.value(r)
	if truth, ok := out.(types.Bool); ok && err == nil {
		return bool(truth), nil
	}
	return false, e.fault(err)
}

// value returns what the expression is on a request, or CEL's own error.
func (e *expression) value(r *filter.Request) (ref.Val, error) {
	a := activations.Get().(*activation)
	a.r = r
	out, _, err := e.program.Eval(a)
	a.r = nil
	activations.Put(a)
	return out, err
}

// fault returns the error for a request on which there is no value.
func (e *expression) fault(err error) error {
	var cancelled interpreter.EvalCancelledError
	return &EvalError{
		Pos:  e.pos,
		Cost: errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded,
	}
}

// expr compiles a condition.
func (b *builder) expr(l rules.Located[string]) {
	e := b.program(l, func(t *cel.Type) *rules.Error {
		if t.IsExactType(cel.BoolType) {
			return nil
		}
		return l.Errorf("compare it with something", "the expression is a %s, not true or false", t)
	})
	if e != nil {
		b.m.exprs = append(b.m.exprs, e)
	}
}

// program compiles an expression whose type judge does not object to. After a
// fault it returns nil.
func (b *builder) program(l rules.Located[string], judge func(*cel.Type) *rules.Error) *expression {
	if strings.TrimSpace(l.Value) == "" {
		b.fault(l.Errorf(`such as http.request.method == "POST"`, "the expression is empty"))
		return nil
	}
	env, err := b.env.celEnv()
	if err != nil {
		b.fault(l.Errorf("", "expressions are not available: %v", err))
		return nil
	}
	checked, issues, err := compileText(env, l.Value)
	if err != nil {
		b.fault(l.Errorf("write it in another way", "the expression cannot be compiled: %v", err))
		return nil
	}
	if issues.Err() != nil {
		for _, issue := range issues.Errors() {
			b.issue(l, issue)
		}
		return nil
	}
	if fault := judge(checked.OutputType()); fault != nil {
		b.fault(fault)
		return nil
	}
	c := exprChecker{builder: b, at: l, tree: checked.NativeRep()}
	before := len(b.errs)
	ast.PostOrderVisit(c.tree.Expr(), ast.NewExprVisitor(c.visit))
	if len(b.errs) > before {
		return nil
	}

	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	// Counting the cost while evaluating takes time; an expression that
	// cannot exceed the bound on any request goes without.
	if estimate, err := env.EstimateCost(checked, costs{}); err != nil || estimate.Max > maxCost {
		options = append(options, cel.CostTracking(costs{}), cel.CostLimit(maxCost))
	}
	program, err := env.Program(checked, options...)
	if err != nil {
		b.fault(l.Errorf("", "the expression cannot be compiled: %s", clipMessage(err.Error())))
		return nil
	}
	return &expression{program: program, pos: l.Pos}
}

// compileText parses and checks an expression. A panic of CEL is an error: a
// policy that does not load must leave the old one running.
func compileText(env *cel.Env, text string) (checked *cel.Ast, issues *cel.Issues, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("internal error of the expression compiler")
		}
	}()
	checked, issues = env.Compile(text)
	return checked, issues, nil
}

// issue reports a fault that CEL has found.
func (b *builder) issue(l rules.Located[string], issue *common.Error) {
	msg, _, _ := strings.Cut(issue.Message, " (in container")
	hint := ""
	switch {
	case strings.HasPrefix(msg, "undeclared reference to "):
		name := nameAt(l.Value, issue.Location)
		_, written, _ := strings.Cut(msg, "'")
		written, _, _ = strings.Cut(written, "'")
		if name == "" || !strings.HasPrefix(name, written) {
			name = written // of a method, the place is that of its bracket
		}
		msg = fmt.Sprintf("unknown name %q", clip(name))
		if name == "has" {
			hint = `write "name" in http.request.headers`
		} else {
			hint = rules.Suggest(name, knownNames())
		}
	case strings.HasPrefix(msg, "Syntax error: "):
		msg = "syntax error: " + strings.TrimPrefix(msg, "Syntax error: ")
	}
	b.fault(l.Errorf(hint, "%s: %s", place(l.Value, issue.Location), clipMessage(msg)))
}

func knownNames() []string {
	names := append([]string(nil), functionNames...)
	for _, v := range variables {
		names = append(names, v.name)
	}
	return names
}

// place names a location within an expression. Lines and columns count from 1,
// columns in characters.
func place(expr string, at common.Location) string {
	if at == nil || at.Line() < 1 {
		return "expression"
	}
	if !strings.Contains(strings.TrimSpace(expr), "\n") {
		return fmt.Sprintf("expression, column %d", at.Column()+1)
	}
	return fmt.Sprintf("expression, line %d, column %d", at.Line(), at.Column()+1)
}

// nameAt returns the dotted name that begins at a location; empty if none does.
func nameAt(expr string, at common.Location) string {
	if at == nil || at.Line() < 1 {
		return ""
	}
	lines := strings.Split(expr, "\n")
	if at.Line() > len(lines) {
		return ""
	}
	line := []rune(lines[at.Line()-1])
	if at.Column() < 0 || at.Column() > len(line) {
		return ""
	}
	rest := string(line[at.Column():])
	end := strings.IndexFunc(rest, func(r rune) bool {
		return !(r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
	if end >= 0 {
		rest = rest[:end]
	}
	return rest
}

// clipMessage bounds a message of CEL, which may list every token that it knows.
func clipMessage(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	const most = 160
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// exprChecker finds the faults that CEL does not know: names of lists, addresses
// and countries that can never be equal, and regular expressions that a client
// could write.
type exprChecker struct {
	*builder
	at   rules.Located[string]
	tree *ast.AST
}

func (c *exprChecker) visit(e ast.Expr) {
	if v, ok := variableIndex[c.variable(e)]; ok {
		c.m.uses.add(v.uses)
	}
	if e.Kind() != ast.CallKind {
		return
	}
	call := e.AsCall()
	args := call.Args()
	switch call.FunctionName() {
	case "inCIDR", "inList":
		c.set(call.FunctionName(), args[1])
	case overloads.Matches:
		c.regexp(args[len(args)-1])
	case operators.Equals, operators.NotEquals:
		c.compare(args[0], args[1])
		c.compare(args[1], args[0])
	case operators.In:
		if args[1].Kind() == ast.ListKind {
			for _, member := range args[1].AsList().Elements() {
				c.compare(args[0], member)
			}
		}
	}
}

// variable returns the name of the variable that e is; empty if it is none.
func (c *exprChecker) variable(e ast.Expr) string {
	if ref, ok := c.tree.ReferenceMap()[e.ID()]; ok {
		return ref.Name
	}
	return ""
}

// set judges the second argument of inCIDR and inList and keeps what it names.
func (c *exprChecker) set(function string, arg ast.Expr) {
	text, ok := literal(arg)
	switch {
	case !ok:
		c.fail(arg, "write it in quotes", "the second argument of %s must be written out, not computed", function)
	case function == "inList":
		found, err := findList(c.env, strings.TrimPrefix(text, "$"))
		if err != nil {
			c.fail(arg, err.hint, "%s", err.msg)
			return
		}
		c.env.lists.Store(text, found)
	default:
		prefixes, err := parseAddrs(text)
		if err != nil {
			c.fail(arg, err.hint, "%s", err.msg)
			return
		}
		set := new(addrSet)
		set.add(prefixes)
		c.env.cidrs.Store(text, AddrSet(set))
	}
}

// regexp judges the pattern of matches. CEL's own validator of the size of
// regular expressions (v0.32.0) panics on counted repetitions, so it is done here.
func (c *exprChecker) regexp(arg ast.Expr) {
	text, ok := literal(arg)
	if !ok {
		c.fail(arg, "write it in quotes", "a regular expression must be written out, not computed")
		return
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	var program *syntax.Prog
	if err == nil {
		program, err = syntax.Compile(parsed.Simplify())
	}
	switch {
	case err != nil:
		c.fail(arg, "the syntax is RE2", "%s", clipMessage(err.Error()))
	case len(program.Inst) > maxRegexSize:
		c.fail(arg, "use smaller repetitions", "the regular expression is too large")
	}
}

// compare judges a text that a variable is compared with.
func (c *exprChecker) compare(variable, with ast.Expr) {
	text, ok := literal(with)
	if !ok || text == "" {
		return // "" is the unknown address or country
	}
	switch c.variable(variable) {
	case "ip.src":
		a, err := parseAddr(text)
		switch {
		case err != nil:
			c.fail(with, "use inCIDR for prefixes and inList for lists", "%q is no address", clip(text))
		case a.String() != text:
			c.fail(with, "write "+a.String(), "ip.src is never spelt %q", clip(text))
		}
	case "ip.src.country":
		if err := checkCountry(c.env, text); err != nil {
			c.fail(with, err.hint, "%s", err.msg)
		}
	}
}

func (c *exprChecker) fail(at ast.Expr, hint, format string, args ...any) {
	where := place(c.at.Value, c.tree.SourceInfo().GetStartLocation(at.ID()))
	c.fault(c.at.Errorf(hint, "%s: %s", where, fmt.Sprintf(format, args...)))
}

// literal returns the text of a string literal.
func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

package proof

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/rules/waf/dfa"
	"github.com/moatwaf/moat/rules/waf/gate"
	"github.com/moatwaf/moat/rules/waf/seclang"
	"github.com/moatwaf/moat/rules/waf/view"
)

// Options are what a Proof needs to know beyond the rules.
type Options struct {
	// Actions are registered actions, in lower case, whose effect a View shows
	// already, or that change nothing that rules see.
	Actions []string

	// Transforms are prefixes of registered transformations, in lower case, that
	// are functions of the text.
	Transforms []string

	// Unreported are the rules that nobody is told about when they match, unless
	// they refuse the request.
	Unreported []int

	// Follow makes a Proof that goes on where a rule finds something: rules do what
	// they do, until one refuses. A Result that is clean then says that no rule
	// refuses; Request.Found and Request.Number tell the rest. It is for requests of
	// which another Proof has said that they are not clean.
	Follow bool

	// Numbers are the variables of TX that Request.Number tells, in lower case.
	Numbers []string

	// ReadFile returns the data files of operators, by the path that the engine
	// uses. Without it, operators with a file are asked one by one.
	ReadFile func(name string) ([]byte, error)

	// Memory bounds the memory of the automata, with others that take of it; nil takes
	// 64 MiB for this Proof. Patterns that do not fit make their rules candidates
	// always.
	Memory *dfa.Memory

	// MaxCache bounds the memory of what header fields, paths and names of arguments
	// lead to that come again, in bytes; 0 takes DefaultMaxCache.
	MaxCache int

	// MaxCost bounds what is spent on one request before it is handed over, in
	// Cost.Total; 0 takes DefaultMaxCost.
	MaxCost int
}

// DefaultMaxCost is the default of Options.MaxCost.
const DefaultMaxCost = 64 << 20

// DefaultMaxCache is the default of Options.MaxCache.
const DefaultMaxCache = 24 << 20

// knows reports whether a transformation depends on nothing but the text.
func (o *Options) knows(name string) bool {
	name = strings.ToLower(name)
	return gate.Known(name) || slices.ContainsFunc(o.Transforms, func(p string) bool { return strings.HasPrefix(name, p) })
}

// Cost is what was spent on a request.
type Cost struct {
	// Bytes is what operators, transformations and scans have cost for the bytes that
	// they have read, in nanoseconds as they are estimated.
	Bytes int
	// Texts is how many texts were scanned.
	Texts int
	// Tests is how many values were held against single rules.
	Tests int
}

// Total returns the cost as one number, in nanoseconds: a text or a test counts for 64.
func (c *Cost) Total() int { return c.Bytes + 64*(c.Texts+c.Tests) }

// Effects are what the rules of phase 1 have chosen for the body.
type Effects struct {
	// Processor is the body parser that a rule has chosen, in upper case; empty if
	// none has.
	Processor string
	// NoBody says that a rule has switched the body off.
	NoBody bool
	// ForceBodyVariable says that a rule wants REQUEST_BODY for every type.
	ForceBodyVariable bool
	// EngineOff says that a rule has switched the engine off: phase 2 is clean.
	EngineOff bool
}

// Result is what a phase has come to.
type Result struct {
	// Clean says that the engine would let the request pass this phase, and would
	// report nothing.
	Clean bool
	// Rule is the rule because of which it is not clean; 0 if there is none.
	Rule int
	// Why is why it is not clean, in a few words that do not depend on the request;
	// empty if Rule matches.
	Why string
	// Refused says that Rule refuses the request, with Status or 0 for none. Nothing
	// but a Proof that follows findings says so.
	Refused bool
	Status  int
	// Effects are set by phase 1.
	Effects Effects
	// Cost is that of the request so far.
	Cost Cost
}

// Proof is the compiled knowledge about the rules of one engine. It is safe for
// concurrent use.
type Proof struct {
	off     string
	reasons map[int]string

	rules     []rule
	names     []string
	slots     map[string]int
	removed   []uint64 // rules that a decided rule has excluded
	rows      []*rule
	phaseRows [3][2]int // first row, and the one behind the last
	words     int
	planes    int
	filled    [maxPlanes][]uint64 // rows without a probe in a plane have a bit here
	assigning []uint64            // rows with assignments
	regexes   []regexRead

	scans   scans
	maxCost int

	follow  bool
	numbers []int       // slots
	trails  [3][]assign // what is set behind the last rule of a phase

	pool sync.Pool
}

// New makes the proof for an engine that has loaded the program. A program that
// does not describe the engine gives a proof that finds nothing clean; see Off.
func New(program *seclang.Program, waf coraza.WAF, o Options) *Proof {
	if o.Memory == nil {
		o.Memory = dfa.NewMemory(dfa.DefaultMemory)
	}
	if o.MaxCache == 0 {
		o.MaxCache = DefaultMaxCache
	}
	if o.MaxCost == 0 {
		o.MaxCost = DefaultMaxCost
	}
	p := &Proof{reasons: map[int]string{}, maxCost: o.MaxCost, follow: o.Follow}
	compiled, err := program.Verify(waf)
	if err != nil {
		p.off = "the rules are not understood: " + err.Error()
		return p
	}
	if p.off = gate.Unsound(program, o.Actions); p.off != "" {
		return p
	}
	if mode := program.Settings["secruleengine"]; !strings.EqualFold(mode, "on") {
		p.off = "the engine is not on"
		return p
	}
	c := &compiler{program: program, compiled: compiled, options: o}
	c.compile()
	c.captureReads()
	for _, name := range o.Numbers {
		p.numbers = append(p.numbers, c.slot(name))
	}
	p.rules, p.names, p.slots = c.rules, c.names, c.slots

	l := &loader{compiler: c, r: &Request{proof: p, maxCost: p.maxCost, loading: true, removed: make([]uint64, (len(c.rules)+63)/64)}}
	l.r.tx = newTX(c.names, c.slots)
	l.load()
	p.removed, p.trails = l.gone, l.trails

	pr := &prober{loader: l}
	pr.arrange()
	p.rows, p.words, p.planes, p.regexes = pr.rows, pr.words, pr.planes, pr.regexes
	n := len(l.residual[1])
	p.phaseRows[1], p.phaseRows[2] = [2]int{0, n}, [2]int{n, len(p.rows)}
	for i := range p.filled {
		p.filled[i] = make([]uint64, p.words)
		for w := range p.filled[i] {
			p.filled[i][w] = ^pr.filled[i][w]
		}
	}
	p.assigning = make([]uint64, p.words)
	for row, ru := range p.rows {
		if len(ru.assigns) > 0 {
			setBit(p.assigning, row)
		}
		if why := p.costly(row, ru); why != "" {
			p.reasons[ru.id] = why
		}
	}
	p.scans.build(pr, &o)
	p.pool.New = func() any {
		r := &Request{proof: p, removed: make([]uint64, len(p.removed)), tx: newTX(p.names, p.slots)}
		r.scan.init(&p.scans)
		return r
	}
	return p
}

// costly returns why a rule keeps every request that reaches it from being clean;
// empty if it does not.
func (p *Proof) costly(row int, ru *rule) string {
	if ru.certain {
		return "it matches every request"
	}
	for i := range p.filled {
		if !hasBit(p.filled[i], row) {
			return "" // it is excluded by its values
		}
	}
	for n := range ru.links {
		l := &ru.links[n]
		if l.bad != "" {
			return l.bad
		}
		if n >= ru.fixed && !l.always {
			return ""
		}
		if l.badMatch != "" {
			return l.badMatch
		}
	}
	return ""
}

// Off returns why no request is found clean; empty if the proof does its work.
func (p *Proof) Off() string { return p.off }

// Reasons returns the rules because of which requests that reach them are handed
// over, with the reason.
func (p *Proof) Reasons() map[int]string { return p.reasons }

// Rules returns how many rules of the request phases depend on the request.
func (p *Proof) Rules() int { return len(p.rows) }

// Begin returns the state for one request. End gives it back.
func (p *Proof) Begin() *Request {
	if p.off != "" {
		return &Request{proof: p, maxCost: p.maxCost}
	}
	r := p.pool.Get().(*Request)
	r.maxCost = p.maxCost
	return r
}

// Bound bounds what is spent on this request from now on, with what was spent before,
// in place of [Options.MaxCost].
func (r *Request) Bound(cost int) { r.maxCost = cost }

// End gives a Request back. It must not be used afterwards.
func (r *Request) End() {
	if r.proof.off != "" {
		return
	}
	r.view = nil
	r.tx.reset()
	if r.removes {
		clear(r.removed)
		r.removes = false
	}
	clear(r.hidden)
	r.hidden = r.hidden[:0]
	r.effects, r.skipAfter, r.allowed, r.passive = Effects{}, "", false, false
	clear(r.matches[:cap(r.matches)])
	if cap(r.matches) > 1024 {
		r.matches = nil
	}
	r.matches = r.matches[:0]
	r.failed, r.unknown, r.rule, r.cost = "", false, nil, Cost{}
	r.exact = 0
	r.found = r.found[:0]
	r.lowered.reset()
	r.scan.reset()
	r.proof.pool.Put(r)
}

// Remove takes a rule out for this request, as the engine's RemoveRuleByID does.
func (r *Request) Remove(id int) {
	for i := range r.proof.rules {
		if ru := &r.proof.rules[i]; ru.id == id && ru.mark == "" && len(r.removed) > 0 {
			if ru.erased && ru.effects {
				r.fail("a rule is excluded that was decided at load")
			}
			setBit(r.removed, i)
			r.removes = true
		}
	}
}

// Headers proves phase 1. v is what its rules see.
func (r *Request) Headers(v *view.View) Result { return r.phase(v, 1) }

// Body proves phase 2. It is called after Headers has found the request clean, with
// what the rules of phase 2 see; what the request line and the header fields say
// must be the same.
func (r *Request) Body(v *view.View) Result { return r.phase(v, 2) }

func (r *Request) phase(v *view.View, n int) Result {
	p := r.proof
	if p.off != "" {
		return Result{Why: "off"}
	}
	r.view = v
	if n == 2 && (r.effects.EngineOff || r.allowed) {
		if r.effects.EngineOff && !r.allowed {
			r.trail(1)
		}
		return Result{Clean: true, Effects: r.effects, Cost: r.cost}
	}
	if r.failed != "" {
		return Result{Why: r.failed}
	}
	if n == 2 && strings.EqualFold(v.Single(variables.ReqbodyProcessor), "JSON") {
		r.tx.set(p.slots[jsonBody], "", varUnknown)
	}
	if !p.scans.run(r, n) {
		return Result{Why: "cost", Cost: r.cost}
	}
	return r.run(n)
}

// run evaluates the rules of a phase that may match.
func (r *Request) run(n int) Result {
	p := r.proof
	first, behind := p.phaseRows[n][0], p.phaseRows[n][1]
	from := 0 // a position in the program
	if r.skipAfter != "" {
		at := p.marker(-1, r.skipAfter)
		if at < 0 {
			return Result{Clean: true, Effects: r.effects, Cost: r.cost}
		}
		from, r.skipAfter = at, ""
	}
	for w := first >> 6; w < (behind+63)>>6; w++ {
		word := ^uint64(0)
		for i := range p.planes {
			word &= r.scan.hits[i*p.words+w] | p.filled[i][w]
		}
		for i := range r.hidden {
			word |= r.hidden[i].rows[w]
		}
		candidates := word
		word |= p.assigning[w]
		if w == first>>6 {
			word &= ^uint64(0) << (first & 63)
		}
		if last := behind - w<<6; last < 64 {
			word &= 1<<last - 1
		}
		for ; word != 0; word &= word - 1 {
			bit := bits.TrailingZeros64(word)
			ru := p.rows[w<<6+bit]
			for _, a := range ru.assigns {
				if a.set {
					r.tx.set(a.slot, a.value, varSet)
				} else {
					r.tx.set(a.slot, "", varAbsent)
				}
			}
			if candidates>>bit&1 == 0 || ru.pos < from || r.removes && hasBit(r.removed, ru.pos) {
				continue
			}
			before := len(r.hidden)
			hit := r.evaluate(ru)
			for i := before; i < len(r.hidden); i++ {
				// Rules behind this one count what has just been hidden from them.
				later := r.hidden[i].rows[w] &^ (1<<(bit+1) - 1)
				if last := behind - w<<6; last < 64 {
					later &= 1<<last - 1
				}
				candidates |= later
				word |= later
			}
			if r.failed != "" || r.unknown {
				if r.failed == "" {
					r.failed = "it reads what is not known"
				}
				return Result{Rule: ru.id, Why: r.failed, Cost: r.cost}
			}
			if r.over() {
				return Result{Rule: ru.id, Why: "cost", Cost: r.cost}
			}
			if !hit {
				continue
			}
			if ru.finding {
				return Result{Rule: ru.id, Cost: r.cost}
			}
			if len(ru.links[0].badMatch) > 0 {
				return Result{Rule: ru.id, Why: ru.links[0].badMatch, Cost: r.cost}
			}
			if ru.reported && !slices.Contains(r.found, ru.id) {
				r.found = append(r.found, ru.id)
			}
			if ru.refuses && !r.passive {
				return Result{Refused: true, Rule: ru.id, Status: ru.status, Effects: r.effects, Cost: r.cost}
			}
			switch {
			case ru.skipAfter != "":
				if from = p.marker(ru.pos, ru.skipAfter); from < 0 {
					r.skipAfter = ru.skipAfter
					return Result{Clean: true, Effects: r.effects, Cost: r.cost}
				}
			case ru.skip > 0:
				if from = r.behind(ru); r.failed != "" {
					return Result{Rule: ru.id, Why: r.failed, Cost: r.cost}
				}
			}
			if r.passive {
				continue
			}
			switch ru.allow {
			case allowPhase:
				return Result{Clean: true, Effects: r.effects, Cost: r.cost}
			case allowRequest:
				r.allowed = true
				return Result{Clean: true, Effects: r.effects, Cost: r.cost}
			}
		}
	}
	if n == 2 {
		r.trail(n)
	}
	return Result{Clean: true, Effects: r.effects, Cost: r.cost}
}

// trail sets what is set behind the last rule of a phase.
func (r *Request) trail(phase int) {
	if !r.proof.follow {
		return
	}
	for _, a := range r.proof.trails[phase] {
		if a.set {
			r.tx.set(a.slot, a.value, varSet)
		} else {
			r.tx.set(a.slot, "", varAbsent)
		}
	}
}

// Found returns the rules that somebody is told of, in the order in which they have
// matched, each once. It is that of a Proof that follows findings, and valid until
// End.
func (r *Request) Found() []int { return r.found }

// Number returns the value of a variable of Options.Numbers, by its index there; 0
// for one that is not set or is no number. ok is false if the value is not known.
func (r *Request) Number(i int) (n int, ok bool) {
	v := &r.tx.vars[r.proof.numbers[i]]
	switch v.state {
	case varAbsent:
		return 0, true
	case varSet:
		n, err := strconv.Atoi(v.value)
		if err != nil {
			n = 0
		}
		return n, true
	}
	return 0, false
}

// marker returns the place of a marker behind a position; -1 if there is none.
func (p *Proof) marker(pos int, name string) int {
	for i := pos + 1; i < len(p.rules); i++ {
		if p.rules[i].mark == name {
			return i
		}
	}
	return -1
}

// behind returns the position behind what a rule skips.
func (r *Request) behind(ru *rule) int {
	left := ru.skip
	for i := ru.pos + 1; i < len(r.proof.rules); i++ {
		next := &r.proof.rules[i]
		if next.mark == "" && next.phase != ru.phase || hasBit(r.proof.removed, i) {
			continue
		}
		if hasBit(r.removed, i) {
			// It does not count, so the skip reaches further than was seen at load.
			r.fail("it skips what another rule excludes")
		}
		if left--; left == 0 {
			return i + 1
		}
	}
	return len(r.proof.rules)
}

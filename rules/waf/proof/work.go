package proof

import (
	"strings"

	"github.com/moatwaf/moat/rules/waf/gate"
)

// What the parts of a proof cost, in nanoseconds for each byte that is read, on one
// core of an ordinary server and with texts that are dear for them. They are added up
// while the work is done, so that a request ends when it has cost too much, and the
// same request always ends at the same place.
const (
	workScan     = 2  // an automaton
	workNative   = 2  // an operator that is done here
	workOperator = 20 // an operator of the engine
	workExact    = 60 // the same for a rule that is left, if it is an expression
	workRange    = 3  // the same for @validateByteRange
	workResult   = 1  // a text that comes of a transformation: its kinds of bytes
	workOther    = 4  // a transformation that is not among works
)

// work is what a transformation costs for a byte: of any text, and of one with bytes
// above 0x7F.
type work struct{ low, high int }

// works are the transformations, by their name in lower case.
var works = map[string]work{
	"lowercase":          {1, 8},
	"removewhitespace":   {2, 5},
	"compresswhitespace": {2, 6},
	"urldecodeuni":       {2, 3},
	"base64decode":       {1, 1},
	"cmdline":            {2, 2},
	"normalizepath":      {3, 3},
	"normalisepath":      {3, 3},
	"normalizepathwin":   {4, 4},
	"normalisepathwin":   {4, 4},
	"replacecomments":    {2, 2},
	"removecommentschar": {6, 6},
	"removenulls":        {1, 1},
	"utf8tounicode":      {7, 12},
	"htmlentitydecode":   {3, 3},
	"jsdecode":           {3, 3},
	"cssdecode":          {3, 3},
}

// workOf returns what a transformation costs.
func workOf(name string) work {
	if w, ok := works[strings.ToLower(name)]; ok {
		return w
	}
	return work{workOther, 2 * workOther}
}

// workOfOperator returns what it costs to ask the operator of a rule that is left.
func workOfOperator(name string) int {
	switch name {
	case "validateByteRange":
		return workRange
	case "pm", "pmFromFile":
		return workOperator
	}
	return workExact
}

// workBackslash is what a path of Windows with backslashes costs beyond that, which
// is the engine's to clean.
const workBackslash = 10

// work returns what it costs to transform a text.
func (n *node) work(in *text) int {
	w := n.costs.low
	if in.touch&gate.TouchHigh != 0 {
		w = n.costs.high
	}
	if n.trigger&touchPathWin != 0 && in.touch&gate.TouchBackslash != 0 {
		w += workBackslash
	}
	return w * len(in.value)
}

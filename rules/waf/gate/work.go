package gate

import "strings"

// What the parts of Apply cost, in nanoseconds for each byte of a text, on one core
// of an ordinary server: the dearest of the hostile texts that were measured, not
// the mean. They need not be exact: the bound holds if they are right within a
// factor of two.
const (
	workTransform = 4 // one transformation
	workScan      = 2 // one automaton
	workAsk       = 4 // an operator that has no pattern
	workSQLi      = 60
	workXSS       = 30
	workValue     = 60 // a value, whatever its length

	// workQuotes is what @detectSQLi needs beyond that for a byte of a text with
	// many quotes, where it has to prepare the search for the ends of literals.
	workQuotes = 200
	manyQuotes = 16
)

// spend takes work off what is left, and reports whether there is enough.
func (s *scratch) spend(work int) bool {
	s.work -= work
	return s.work >= 0
}

// askWork returns what it costs at most to ask the operator of a probe.
func (p *probe) askWork(value string) int {
	switch p.name {
	case "detectSQLi":
		return SQLiWork(value)
	case "detectXSS":
		return len(value) * workXSS
	}
	return len(value) * workAsk
}

// SQLiWork returns what @detectSQLi costs at most, in nanoseconds. The operator is
// that of package injection, whose time is linear.
func SQLiWork(value string) int {
	work := len(value) * workSQLi
	if max(strings.Count(value, `'`), strings.Count(value, `"`), strings.Count(value, "`")) > manyQuotes {
		work += len(value) * workQuotes
	}
	return work
}

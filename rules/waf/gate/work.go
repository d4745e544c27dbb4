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

	// workQuotes is how many bytes @detectSQLi looks at in a nanosecond where it
	// goes back to the beginning of a literal for every delimiter in it.
	workQuotes = 20
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

// SQLiWork returns what the engine's @detectSQLi costs at most, in nanoseconds.
func SQLiWork(value string) int {
	quotes := max(strings.Count(value, `'`), strings.Count(value, `"`), strings.Count(value, "`"))
	return len(value)*workSQLi + quotes*len(value)/workQuotes
}

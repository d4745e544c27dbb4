package proof

import (
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/debuglog"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
)

// native are the operators in whose argument the engine expands variables. They
// are asked here, with the argument as it is known.
var native = map[string]func(arg, value string) bool{
	"streq":      func(arg, value string) bool { return value == arg },
	"within":     func(arg, value string) bool { return strings.Contains(arg, value) },
	"contains":   func(arg, value string) bool { return strings.Contains(value, arg) },
	"strmatch":   func(arg, value string) bool { return strings.Contains(value, arg) },
	"beginsWith": func(arg, value string) bool { return strings.HasPrefix(value, arg) },
	"endsWith":   func(arg, value string) bool { return strings.HasSuffix(value, arg) },
	"eq":         func(arg, value string) bool { return atoi(value) == atoi(arg) },
	"ge":         func(arg, value string) bool { return atoi(value) >= atoi(arg) },
	"gt":         func(arg, value string) bool { return atoi(value) > atoi(arg) },
	"le":         func(arg, value string) bool { return atoi(value) <= atoi(arg) },
	"lt":         func(arg, value string) bool { return atoi(value) < atoi(arg) },

	"unconditionalMatch": func(string, string) bool { return true },
	"noMatch":            func(string, string) bool { return false },
}

// engines are the operators of the engine that depend on nothing but the value
// and an argument without variables, and capture at most. The others may do
// anything.
var engines = map[string]bool{
	"rx": true, "pm": true, "pmFromFile": true, "pmf": true, "pmFromDataset": true,
	"detectSQLi": true, "detectXSS": true, "validateByteRange": true, "validateUrlEncoding": true,
	"validateUtf8Encoding": true, "ipMatch": true, "ipMatchFromFile": true, "ipMatchf": true, "ipMatchFromDataset": true,
}

// atoi is strconv.Atoi as the engine uses it: what is no number is 0, what is out
// of range is the nearest number.
func atoi(s string) int {
	if 0 < len(s) && len(s) < 10 {
		n := 0
		for i := range len(s) {
			if s[i] < '0' || s[i] > '9' {
				n, _ = strconv.Atoi(s)
				return n
			}
			n = n*10 + int(s[i]-'0')
		}
		return n
	}
	n, _ := strconv.Atoi(s)
	return n
}

// nobody is a transaction for operators that look at the value only.
type nobody struct{ plugintypes.TransactionState }

func (nobody) ID() string                   { return "" }
func (nobody) Capturing() bool              { return false }
func (nobody) CaptureField(int, string)     {}
func (nobody) DebugLogger() debuglog.Logger { return debuglog.Noop() }

// capturer takes what an operator captures.
type capturer struct {
	plugintypes.TransactionState
	r *Request
}

func (c *capturer) ID() string                   { return "" }
func (c *capturer) Capturing() bool              { return true }
func (c *capturer) DebugLogger() debuglog.Logger { return debuglog.Noop() }
func (c *capturer) CaptureField(n int, value string) {
	if n >= 0 && n <= 9 {
		c.r.capture(n, value)
	}
}

package gate

import (
	"path"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/debuglog"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"

	"github.com/moatwaf/moat/rules/waf/seclang"
)

// Operators of Coraza, in lower case. The engine looks names up as they are
// written; a name in another case does not compile.
var (
	// scanned are those that are patterns of a text.
	scanned = set("rx", "pm", "pmFromFile", "pmf", "contains", "strmatch", "streq", "beginsWith", "endsWith", "within", "validateByteRange")

	// pure depend on nothing but the value.
	pure = set("pmFromDataset", "detectSQLi", "detectXSS", "validateUrlEncoding", "validateUtf8Encoding",
		"ipMatch", "ipMatchFromFile", "ipMatchf", "ipMatchFromDataset", "eq", "ge", "gt", "le", "lt",
		"noMatch", "unconditionalMatch")

	// opaque may do other things. A rule that has one is always a candidate.
	opaque = set("geoLookup", "inspectFile", "rbl", "validateNid", "validateSchema")
)

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range names {
		m[n] = true
	}
	return m
}

// words returns the phrases of a file as the engine reads them.
func words(data []byte) []string {
	var list []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			list = append(list, strings.ToLower(line))
		}
	}
	return list
}

// dataFile returns the path of an operator's file.
func dataFile(r *seclang.Rule, arg string) string {
	if path.IsAbs(arg) {
		return arg
	}
	return path.Join(path.Dir(r.File), arg)
}

// nobody is a transaction for operators that look at the value only.
type nobody struct{ plugintypes.TransactionState }

func (nobody) ID() string                   { return "" }
func (nobody) Capturing() bool              { return false }
func (nobody) CaptureField(int, string)     {}
func (nobody) DebugLogger() debuglog.Logger { return debuglog.Noop() }

// byteRange parses the argument of validateByteRange.
func byteRange(arg string) (allowed [256]bool, ok bool) {
	if arg == "" {
		return allowed, false // the engine takes it for a rule that always matches
	}
	for part := range strings.SplitSeq(arg, ",") {
		first, last, ranged := strings.Cut(strings.TrimSpace(part), "-")
		lo, err1 := strconv.Atoi(first)
		hi, err2 := lo, error(nil)
		if ranged {
			hi, err2 = strconv.Atoi(last)
		}
		if err1 != nil || err2 != nil || lo < 0 || hi > 255 {
			return allowed, false
		}
		for b := lo; b <= hi; b++ {
			allowed[b] = true
		}
	}
	return allowed, true
}

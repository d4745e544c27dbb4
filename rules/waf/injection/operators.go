package injection

import (
	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
)

// RegisterOperators puts @detectSQLi and @detectXSS of this package in the place of
// the engine's own, for the whole process: the same answers and captures, in linear
// time and without allocation. It is called before engines are loaded.
func RegisterOperators() {
	plugins.RegisterOperator("detectSQLi", func(plugintypes.OperatorOptions) (plugintypes.Operator, error) {
		return sqliOperator{}, nil
	})
	plugins.RegisterOperator("detectXSS", func(plugintypes.OperatorOptions) (plugintypes.Operator, error) {
		return xssOperator{}, nil
	})
}

type sqliOperator struct{}

// Evaluate implements plugintypes.Operator. The fingerprint is capture 0.
func (sqliOperator) Evaluate(tx plugintypes.TransactionState, value string) bool {
	found, fingerprint := SQLi(value)
	if found {
		tx.CaptureField(0, fingerprint)
	}
	return found
}

type xssOperator struct{}

// Evaluate implements plugintypes.Operator.
func (xssOperator) Evaluate(_ plugintypes.TransactionState, value string) bool { return XSS(value) }

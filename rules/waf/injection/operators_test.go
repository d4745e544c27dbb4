package injection

import (
	"strings"
	"testing"
	"time"

	"github.com/corazawaf/coraza/v3"
)

const operatorRules = `SecRuleEngine On
SecRule ARGS "@detectSQLi" "id:1,phase:2,deny,log,capture,msg:'sql',logdata:'%{TX.0}'"
SecRule ARGS "@detectXSS" "id:2,phase:2,deny,log,msg:'xss'"`

// TestOperators holds an engine with the operators of the package against what the
// library says.
func TestOperators(t *testing.T) {
	RegisterOperators()
	waf, err := coraza.NewWAF(coraza.NewWAFConfig().WithDirectives(operatorRules))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(value string) (rule int, data string) {
		tx := waf.NewTransaction()
		defer func() { _ = tx.Close() }()
		tx.AddPostRequestArgument("q", value)
		tx.ProcessRequestHeaders()
		it, err := tx.ProcessRequestBody()
		if err != nil {
			t.Fatal(err)
		}
		if it == nil {
			return 0, ""
		}
		return it.RuleID, tx.MatchedRules()[0].Data()
	}
	for _, tt := range []struct {
		value string
		rule  int
		data  string
	}{
		{"hello world", 0, ""},
		{"1' or '1'='1", 1, "s&sos"},
		{"1 UNION SELECT a FROM b", 1, "1UEnk"},
		{"<script>alert(1)</script>", 2, ""},
	} {
		if rule, data := ask(tt.value); rule != tt.rule || tt.rule == 1 && data != tt.data {
			t.Errorf("%q: rule %d, %q; want %d, %q", tt.value, rule, data, tt.rule, tt.data)
		}
	}
}

// TestEndless shows that what would take the library quadratic time is injection,
// soon.
func TestEndless(t *testing.T) {
	start := time.Now()
	texts := []string{"'" + strings.Repeat("\\'a", maxPrepared/2)}
	for _, s := range hostile(maxPrepared + 4096) {
		if !strings.Contains(s, "\\'") {
			continue
		}
		work := unlimited
		if v, _ := sqli(s, &work); v == endless {
			texts = append(texts, s)
		}
	}
	for _, s := range texts {
		if hit, print := SQLi(s); !hit || print != "X" {
			t.Errorf("%.20q...: %v, %q", s, hit, print)
		}
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("%d texts took %v", len(texts), took)
	}
}

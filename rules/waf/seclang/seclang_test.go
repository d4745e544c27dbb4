package seclang

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
)

// engine compiles the files.
func engine(tb testing.TB, files ...File) (coraza.WAF, error) {
	tb.Helper()
	conf := coraza.NewWAFConfig().WithRootFS(coreruleset.FS)
	for _, f := range files {
		if strings.HasPrefix(f.Name, "@") {
			conf = conf.WithDirectivesFromFile(f.Name)
		} else {
			conf = conf.WithDirectives(f.Text)
		}
	}
	waf, err := coraza.NewWAF(conf)
	if err == nil {
		tb.Cleanup(func() { _ = waf.(io.Closer).Close() })
	}
	return waf, err
}

// coreRules returns the files of the Core Rule Set.
func coreRules(tb testing.TB) []File {
	tb.Helper()
	names, err := fs.Glob(coreruleset.FS, "@owasp_crs/*.conf")
	if err != nil {
		tb.Fatal(err)
	}
	var files []File
	for _, name := range names {
		data, err := fs.ReadFile(coreruleset.FS, name)
		if err != nil {
			tb.Fatal(err)
		}
		files = append(files, File{Name: name, Text: string(data)})
	}
	return files
}

func TestVerifyCoreRuleSet(t *testing.T) {
	files := append([]File{{Name: "setup", Text: `
SecRuleEngine On
SecDefaultAction "phase:1,log,auditlog,pass"
SecDefaultAction "phase:2,log,auditlog,pass"
SecAction "id:900990,phase:1,pass,t:none,nolog,setvar:tx.crs_setup_version=4250"
`}}, coreRules(t)...)
	p, err := Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	waf, err := engine(t, files...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Verify(waf)
	if err != nil {
		t.Fatal(err)
	}
	rules, links, transforms := 0, 0, 0
	for i, r := range p.Rules {
		if r.Marker == "" {
			rules++
		}
		links += len(r.Links)
		for j := range r.Links {
			transforms += len(c.Links[i][j].Transforms)
			if (c.Links[i][j].Operator == nil) != (r.Links[j].Operator == nil) {
				t.Errorf("rule %d, link %d: an operator on one side only", r.ID, j)
			}
		}
	}
	if rules < 500 || links < rules || transforms < 400 {
		t.Errorf("%d rules, %d links, %d transformations: too few", rules, links, transforms)
	}
}

// good are rule files of all shapes, which the model must read as the engine does.
var good = map[string]string{
	"selectors":               `SecRule ARGS:a|!ARGS:B|ARGS:/^x|y$/|&REQUEST_HEADERS:Host|XML:/*|XML://@*|REQUEST_COOKIES:'/a\/b/'|TX:/q/ "x" "id:1"`,
	"exclusions":              `SecRule REQUEST_COOKIES|!REQUEST_COOKIES:/__UTM/|!REQUEST_COOKIES:_PK_ref|ARGS|!ARGS:/^A/ "@rx x" "id:1,phase:2"`,
	"exclusion of a stranger": `SecRule ARGS|!REQUEST_HEADERS:Foo "@rx x" "id:1"`,
	"operators": `SecRule ARGS "x" "id:1"
SecRule ARGS "!x" "id:2"
SecRule ARGS "!@streq  a b " "id:3"
SecRule ARGS "@rx a\"b\\d" "id:4"
SecRule ARGS "@unconditionalMatch" "id:5"
SecRule ARGS "@rx (?i)a b" "id:6"`,
	"transformations": `SecRule ARGS "x" "id:1,t:lowercase,t:none,t:urlDecodeUni,t:lowercase"
SecRule ARGS "x" "id:2,T:lowercase,multiMatch,capture"`,
	"actions": `SecRule ARGS "x" "id:1,phase:request,deny,status:404,msg:'a, b: c\'d',logdata:'%{MATCHED_VAR}',tag:'x/y',tag:z,setvar:'tx.a=%{tx.b}'"
SecRule ARGS "x" "id:2,pass,deny,nolog"
SecRule ARGS "x" "id:3,block"
SecAction "id:4,phase:1,nolog,pass"
SecAction id:5`,
	"no actions in links": `SecRule ARGS "x" "id:1,deny,chain"
 SecRule ARGS "y" "chain"
 SecRule ARGS "z"
SecRule ARGS "x" "id:2,deny"`,
	"defaults": `SecRule ARGS "x" "id:1,phase:2"
SecDefaultAction "phase:2,deny,status:418,capture"
SecRule ARGS "x" "id:2,phase:2,chain"
SecRule ARGS "x" "t:none"
SecRule ARGS "x" "id:3,phase:1"
SecAction "id:4,phase:2,block"
SecDefaultAction "phase:1,log,pass"
SecRule ARGS "x" "id:5,phase:1,setvar:tx.a=1"`,
	"markers": "SecRule ARGS \"x\" \"id:1,skipAfter:END\"\nSecMarker END\nSecMarker \"QUOTED\"\nSecAction \"id:2,skip:1\"",
	"removal": `SecRule ARGS "x" "id:1,tag:a"
SecRule ARGS "x" "id:2,tag:b,msg:'m'"
SecRule ARGS "x" "id:3,msg:'m'"
SecRule ARGS "x" "id:4"
SecRule ARGS "x" "id:5"
SecRule ARGS "x" "id:6,msg:'n'"
SecRuleRemoveById 4-5 6
SecRuleRemoveByTag a
SecRuleRemoveByMsg m`,
	"removal of a marker": "SecMarker A\nSecMarker B\nSecRule ARGS \"x\" \"id:1\"\nSecRuleRemoveById 0",
	"updated targets": `SecRule ARGS "x" "id:1,tag:t"
SecRule ARGS|REQUEST_COOKIES "x" "id:2,tag:t,chain"
SecRule ARGS "x"
SecRuleUpdateTargetById 1 "!ARGS:password"
SecRuleUpdateTargetById 1-2 "!ARGS:/^p/|REQUEST_HEADERS:X"
SecRuleUpdateTargetByTag t "!ARGS:q"`,
	"updated actions": `SecRule ARGS "x" "id:1,deny,status:403,msg:'a'"
SecRule ARGS "x" "id:2,deny"
SecRuleUpdateActionById 1 "pass,msg:'b'"
SecRuleUpdateActionById 1-2 "log,t:lowercase"`,
	"lines":    "secrule ARGS \\\n  # a comment within\n  \"@rx x\" \\\n  \"id:1,\\\n  deny\"\n   SecMarker   A\n",
	"datasets": "SecDataset words `\nsome\n# comment\nmore\n`\nSecRule ARGS \"@pmFromDataset words\" \"id:1\"",
}

func TestVerify(t *testing.T) {
	for name, text := range good {
		t.Run(name, func(t *testing.T) {
			waf, err := engine(t, File{Text: text})
			if err != nil {
				t.Fatal(err)
			}
			p, err := Parse([]File{{Name: "f", Text: text}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Verify(waf); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestVerifyDifference changes one thing of a model at a time.
func TestVerifyDifference(t *testing.T) {
	const text = `SecRule ARGS:a|!ARGS:b "@rx x" "id:1,phase:2,deny,capture,tag:t,msg:'m',t:none,t:lowercase,chain"
SecRule ARGS "!@streq y" "t:none"
SecMarker END`
	waf, err := engine(t, File{Text: text})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(p *Program){
		"number":             func(p *Program) { p.Rules[0].ID++ },
		"phase":              func(p *Program) { p.Rules[0].Phase = 1 },
		"marker":             func(p *Program) { p.Rules[1].Marker = "BEGIN" },
		"missing rule":       func(p *Program) { p.Rules = p.Rules[:1] },
		"order":              func(p *Program) { slices.Reverse(p.Rules) },
		"missing link":       func(p *Program) { p.Rules[0].Links = p.Rules[0].Links[:1] },
		"link too many":      func(p *Program) { p.Rules[0].Links = append(p.Rules[0].Links, Link{}) },
		"target":             func(p *Program) { p.Rules[0].Links[0].Targets[0].Variable++ },
		"selector":           func(p *Program) { p.Rules[0].Links[0].Targets[0].Key.Text = "c" },
		"regular expression": func(p *Program) { p.Rules[0].Links[0].Targets[0].Key.Regex = true },
		"count":              func(p *Program) { p.Rules[0].Links[0].Targets[0].Count = true },
		"exclusion":          func(p *Program) { p.Rules[0].Links[0].Targets[0].Except = nil },
		"operator":           func(p *Program) { p.Rules[0].Links[0].Operator.Name = "pm" },
		"argument":           func(p *Program) { p.Rules[0].Links[0].Operator.Arg = "y" },
		"negation":           func(p *Program) { p.Rules[0].Links[1].Operator.Negated = false },
		"no operator":        func(p *Program) { p.Rules[0].Links[0].Operator = nil },
		"transformation":     func(p *Program) { p.Rules[0].Links[0].Transforms = nil },
		"capture":            func(p *Program) { p.Rules[0].Links[0].Capture = false },
		"multiMatch":         func(p *Program) { p.Rules[0].Links[0].MultiMatch = true },
		"action":             func(p *Program) { p.Rules[0].Links[1].Actions[0].Name = "x" },
		"missing action":     func(p *Program) { p.Rules[0].Links[0].Actions = p.Rules[0].Links[0].Actions[:2] },
		"tag":                func(p *Program) { p.Rules[0].Links[0].Tags = nil },
		"message":            func(p *Program) { p.Rules[0].Links[0].Msg = "n" },
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Parse([]File{{Name: "f", Text: text}})
			if err != nil {
				t.Fatal(err)
			}
			change(p)
			if _, err := p.Verify(waf); err == nil {
				t.Error("the difference is not seen")
			}
		})
	}
}

// TestVerifyStranger gives an engine that is not Coraza's.
func TestVerifyStranger(t *testing.T) {
	p := &Program{}
	if _, err := p.Verify(struct{ coraza.WAF }{}); err == nil {
		t.Error("no error")
	}
}

// FuzzParse holds the model against the engine: what both take must be the same,
// and nothing may panic.
func FuzzParse(f *testing.F) {
	for _, text := range good {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse([]File{{Name: "f", Text: text}})
		if err != nil || strings.Contains(strings.ToLower(text), "include") || unsafeText(text) {
			return
		}
		waf, err := safeEngine(t, text)
		if err != nil {
			return
		}
		if _, err := p.Verify(waf); err != nil {
			t.Skip(err) // a difference is no fault as long as it is seen
		}
	})
}

// unsafeText reports whether text would make the engine touch the host.
func unsafeText(text string) bool {
	text = strings.ToLower(text)
	for _, word := range []string{"log", "dir", "file", "exec", "rbl", "remote", "audit"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return strings.Contains(path.Clean(text), "..")
}

// safeEngine compiles text with an engine that may panic.
func safeEngine(tb testing.TB, text string) (waf coraza.WAF, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fs.ErrInvalid
		}
	}()
	return engine(tb, File{Text: text})
}

package gate

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"github.com/moatwaf/moat/rules/waf/seclang"
)

func rulesOf(text string) []seclang.File {
	return []seclang.File{{Name: "rules", Text: parser + text}}
}

// get returns a GET request with a query.
func get(query string, header ...[2]string) *request {
	return &request{method: "GET", uri: "/a/b.php?" + query, proto: "HTTP/1.1", header: append([][2]string{{"Host", "h"}}, header...)}
}

// post returns a form.
func post(body string) *request {
	return &request{method: "POST", uri: "/form", proto: "HTTP/1.1", body: body,
		header: [][2]string{{"Host", "h"}, {"Content-Type", "application/x-www-form-urlencoded"}}}
}

// traps are rules whose evaluation leaves traces, or depends on rules that could be
// taken away.
var traps = map[string]string{
	"skip counts what is there": `
SecRule ARGS:a "@rx ^1" "id:1,phase:2,pass,skip:2"
SecRule ARGS:b "@rx never" "id:2,phase:2,pass"
SecRule ARGS:b "@rx ^1" "id:3,phase:2,pass,setvar:tx.three=1"
SecRule ARGS:b "@rx ^1" "id:4,phase:2,pass,setvar:tx.four=1"`,
	"skip over a marker and another phase": `
SecRule ARGS:a "@rx ^1" "id:1,phase:2,pass,skip:2"
SecRule ARGS:b "@rx never" "id:2,phase:1,pass"
SecMarker M
SecRule ARGS:b "@rx never" "id:3,phase:2,pass"
SecRule ARGS:b "@rx ^1" "id:4,phase:2,pass,setvar:tx.four=1"`,
	"skip over a rule that is removed": `
SecRule ARGS:c "@rx ^1" "id:9,phase:1,pass,ctl:ruleRemoveByTag=gone"
SecRule ARGS:a "@rx ^1" "id:1,phase:2,pass,skip:1"
SecRule ARGS:b "@rx never" "id:2,phase:2,pass,tag:gone"
SecRule ARGS:b "@rx never" "id:3,phase:2,pass"
SecRule ARGS:b "@rx ^1" "id:4,phase:2,pass,setvar:tx.four=1"`,
	"a first link that sets a variable": `
SecRule ARGS:a "@rx ^(1)" "id:1,phase:2,pass,setvar:tx.seen=+1,chain"
 SecRule ARGS:b "@rx never" "t:none"
SecRule TX:seen "@ge 1" "id:2,phase:2,pass,setvar:tx.two=1"`,
	"a first link that captures": `
SecRule ARGS:a "@rx ^(1)" "id:1,phase:2,pass,capture,chain"
 SecRule ARGS:b "@rx never" "t:none"
SecRule TX:1 "@streq 1" "id:2,phase:2,pass,setvar:tx.two=1"`,
	"a first link that controls": `
SecRule ARGS:a "@rx ^1" "id:1,phase:2,pass,ctl:ruleRemoveById=2,chain"
 SecRule ARGS:b "@rx never" "t:none"
SecRule ARGS:a "@rx ^1" "id:2,phase:2,pass,setvar:tx.two=1"`,
	"a rule that reads what another has matched": `
SecRule ARGS:a "@rx ^1" "id:1,phase:2,pass,chain"
 SecRule ARGS:b "@rx never" "t:none"
SecRule MATCHED_VAR "@rx ^1" "id:2,phase:2,pass,setvar:tx.two=1"`,
	"a message that another rule reads": `
SecRule ARGS:a "@rx never" "id:1,phase:2,pass,msg:'first'"
SecRule ARGS:a "@rx ^1" "id:2,phase:2,pass,setvar:'tx.two=%{rule.msg}'"`,
	"RULE as a target": `
SecRule ARGS:a "@rx never" "id:1,phase:2,pass,msg:'first'"
SecRule RULE:msg "@streq first" "id:2,phase:2,pass,setvar:tx.two=1"`,
	"its own message": `
SecRule ARGS:a "@rx never" "id:1,phase:2,pass,msg:'first %{MATCHED_VAR}'"
SecRule ARGS:a "@rx ^1" "id:2,phase:2,pass,msg:'second %{MATCHED_VAR}',setvar:'tx.two=%{rule.msg}'"`,
	"skipAfter over phases": `
SecRule ARGS:a "@rx ^1" "id:1,phase:1,pass,skipAfter:END"
SecRule ARGS:b "@rx ^1" "id:2,phase:1,pass,setvar:tx.two=1"
SecMarker END
SecRule ARGS:a "@rx ^1" "id:3,phase:2,pass,skipAfter:NOWHERE"
SecRule ARGS:b "@rx ^1" "id:4,phase:2,pass,setvar:tx.four=1"`,
	"targets removed at run time": `
SecRule ARGS:c "@rx ^1" "id:1,phase:1,pass,ctl:ruleRemoveTargetById=2;ARGS:a,ctl:ruleRemoveTargetById=3;ARGS:a"
SecRule ARGS:a "@rx ^1" "id:2,phase:2,pass,setvar:tx.two=1"
SecRule &ARGS:a "@eq 0" "id:3,phase:2,pass,setvar:tx.three=1"
SecRule ARGS:a "!@rx ^2" "id:4,phase:2,pass,setvar:tx.four=1"`,
	"negation": `
SecRule ARGS:a "!@rx ^1" "id:1,phase:2,pass,setvar:tx.one=1"
SecRule REQUEST_METHOD "!@within GET POST" "id:2,phase:1,pass,setvar:tx.two=1"
SecRule ARGS "!@streq 1" "id:3,phase:2,pass,setvar:tx.three=1"
SecRule REQUEST_HEADERS:X "!@pm a b" "id:4,phase:1,pass,setvar:tx.four=1"`,
	"multiMatch": `
SecRule ARGS "@rx %31" "id:1,phase:2,pass,multiMatch,t:none,t:urlDecodeUni,t:lowercase,setvar:tx.one=+1"
SecRule ARGS "@streq A" "id:2,phase:2,pass,multiMatch,t:none,t:lowercase,setvar:tx.two=+1"
SecRule ARGS "@streq a" "id:3,phase:2,pass,multiMatch,t:none,t:lowercase,t:hexEncode,setvar:tx.three=+1"
SecRule ARGS "@streq 41" "id:4,phase:2,pass,multiMatch,t:none,t:hexEncode,t:lowercase,t:length,setvar:tx.four=+1"
SecRule ARGS "@eq 1" "id:5,phase:2,pass,multiMatch,t:none,t:length,t:md5,setvar:tx.five=+1"
SecRule ARGS "@streq <" "id:6,phase:2,pass,multiMatch,t:none,t:urlDecodeUni,t:htmlEntityDecode,t:lowercase,setvar:tx.six=+1"
SecRule REQUEST_METHOD "!@streq GET" "id:7,phase:2,pass,multiMatch,t:none,t:lowercase,setvar:tx.seven=+1"`,
	"selectors and exclusions": `
SecRule ARGS:/^A/ "@rx 1" "id:1,phase:2,pass,setvar:tx.one=+1"
SecRule ARGS|!ARGS:B|!ARGS:/^c/ "@rx 1" "id:2,phase:2,pass,setvar:tx.two=+1"
SecRule ARGS_NAMES:a|ARGS_NAMES:B "@rx (?i)[ab]" "id:3,phase:2,pass,setvar:tx.three=+1"
SecRule REQUEST_HEADERS|!REQUEST_HEADERS:x "@contains 1" "id:4,phase:1,pass,setvar:tx.four=+1"
SecRule REQUEST_HEADERS_NAMES:X "@rx ." "id:5,phase:1,pass,setvar:tx.five=+1"`,
	"updates": `
SecRule ARGS "@rx 1" "id:1,phase:2,pass,setvar:tx.one=+1,tag:t"
SecRule ARGS:a "@rx never" "id:2,phase:2,pass,setvar:tx.two=+1"
SecRule ARGS "@rx 1" "id:3,phase:2,deny"
SecRuleUpdateTargetById 1 "!ARGS:a"
SecRuleUpdateTargetById 2 "REQUEST_HEADERS:X"
SecRuleUpdateActionById 3 "pass,setvar:tx.three=+1"`,
	"allow and rules of one request": `
SecRule ARGS:a "@rx ^1" "id:1,phase:1,allow:phase"
SecRule ARGS:b "@rx ^1" "id:2,phase:1,pass,setvar:tx.two=1"
SecRule ARGS:b "@rx ^1" "id:3,phase:2,pass,setvar:tx.three=1"
SecRule ARGS:c "@rx ^1" "id:4,phase:2,allow:request"
SecRule ARGS:b "@rx ^1" "id:5,phase:2,deny"`,
	"empty values and names": `
SecRule ARGS "@rx ^$" "id:1,phase:2,pass,setvar:tx.one=+1"
SecRule ARGS "@within abc" "id:2,phase:2,pass,setvar:tx.two=+1"
SecRule ARGS_NAMES "@streq x" "id:3,phase:2,pass,t:none,t:length,setvar:tx.three=+1"
SecRule ARGS "@streq 0" "id:4,phase:2,pass,t:none,t:length,setvar:tx.four=+1"
SecRule QUERY_STRING "@rx ^$" "id:5,phase:1,pass,setvar:tx.five=1"
SecRule ARGS "@endsWith 1" "id:6,phase:2,pass,t:none,t:base64Decode,setvar:tx.six=+1"`,
	"variables in an argument": `
SecRule ARGS:a "@rx ^1" "id:1,phase:2,pass,setvar:tx.want=1"
SecRule ARGS:b "@streq %{tx.want}" "id:2,phase:2,pass,setvar:tx.two=1"
SecRule ARGS:b "@contains %{tx.want}" "id:3,phase:2,pass,setvar:tx.three=1"
SecRule ARGS:b "@within x%{tx.want}" "id:4,phase:2,pass,setvar:tx.four=1"
SecRule ARGS:b "@eq %{tx.want}" "id:5,phase:2,pass,setvar:tx.five=1"`,
	"folding": `
SecRule ARGS "@streq straſſe" "id:1,phase:2,pass,t:none,t:lowercase,setvar:tx.one=+1"
SecRule ARGS "@rx (?i)kelvin" "id:2,phase:2,pass,t:none,setvar:tx.two=+1"
SecRule ARGS "@contains kelvin" "id:3,phase:2,pass,t:none,t:lowercase,setvar:tx.three=+1"
SecRule ARGS "@pm KELVIN" "id:4,phase:2,pass,t:none,setvar:tx.four=+1"
SecRule ARGS "@rx \xe2\x84" "id:5,phase:2,pass,t:none,setvar:tx.five=+1"
SecRule ARGS "@rx ^[^a]$" "id:6,phase:2,pass,t:none,t:lowercase,setvar:tx.six=+1"`,
}

// trapRequests are sent to the rules of every trap.
var trapRequests = []*request{
	get(""), get("a=1"), get("b=1"), get("a=1&b=1"), get("a=1&b=1&c=1"), get("b=1&c=1"), get("c=1"), get("a=2&b=1"),
	get("A=1&B=1"), get("ab=1&cd=1"), get("=&a=&=1"), get("a=%2531"), get("a=A"), get("a=abc&b=MQ=="), get("c=1&a=1"),
	get("a=%E2%84%AAelvin"), get("a=KELVIN"), get("a=STRA%C5%BF%C5%BFE"), get("a=%ff"), get("a=%e2%84"), get("a=%2526lt;"), get("a=%26lt;"),
	get("a=1", [2]string{"X", "1"}), get("b=1", [2]string{"x", "a"}), get("", [2]string{"Y", "1"}),
	post("a=1&b=1"), post("b=1"), post("a=1&b=1&c=1"), post(""),
}

func TestTraps(t *testing.T) {
	for name, text := range traps {
		t.Run(name, func(t *testing.T) {
			plain, gated, g := load(t, rulesOf(text))
			for _, r := range trapRequests {
				r.compare(t, plain, gated)
			}
			t.Logf("off: %q, reasons: %v, %d rules can go", g.Off(), g.Reasons(), g.Rules())
		})
	}
}

// TestOff names programs about which nothing can be said.
func TestOff(t *testing.T) {
	for name, text := range map[string]string{
		"the message of another rule": traps["a message that another rule reads"],
		"RULE as a target":            traps["RULE as a target"],
		"an operator that adds arguments": `SecRule REQUEST_URI "@restpath /{a}/{b}" "id:1,phase:1,pass"
SecRule ARGS:b "@rx never" "id:2,phase:1,pass"`,
	} {
		t.Run(name, func(t *testing.T) {
			plain, gated, g := load(t, rulesOf(text))
			if g.Off() == "" {
				t.Error("the gate takes rules away")
			}
			for _, r := range trapRequests {
				r.compare(t, plain, gated)
			}
		})
	}
}

// TestRandomRules holds random rules against random requests.
func TestRandomRules(t *testing.T) {
	sets := 40
	if *full {
		sets = 2000
	}
	r := rand.New(rand.NewPCG(7, 11))
	gone := 0
	for range sets {
		text := randomRules(r)
		plain, gated, g := load(t, rulesOf(text))
		for range 25 {
			req := randomRequest(r)
			if !req.compare(t, plain, gated) {
				t.Fatalf("rules:\n%s", text)
			}
			if g.Off() == "" && g.Rules() > 0 && len(g.phases[2].rules) > 0 {
				n, _ := removed(t, gated, g, req, 2)
				gone += n
			}
		}
	}
	if gone < sets*25 {
		t.Errorf("only %d rules have been taken away", gone)
	}
}

func oneOf(r *rand.Rand, list ...string) string { return list[r.IntN(len(list))] }

// randomRules returns a few rules of all kinds that may be near each other.
func randomRules(r *rand.Rand) string {
	var b strings.Builder
	target := func() string {
		return oneOf(r, "ARGS", "ARGS:a", "ARGS_NAMES", "ARGS|!ARGS:a", "ARGS_GET:b", "ARGS_POST", "REQUEST_HEADERS:X", "REQUEST_HEADERS",
			"REQUEST_COOKIES|ARGS", "REQUEST_URI", "QUERY_STRING|REQUEST_BODY", "REQUEST_FILENAME", "REQUEST_LINE", "TX:one", "&ARGS", "ARGS:/^[ab]/",
			"&ARGS:a", "TX:/^t/", "REQUEST_METHOD", "ARGS_NAMES:b", "REQBODY_PROCESSOR", "HIGHEST_SEVERITY")
	}
	operator := func() string {
		return oneOf(r, "@rx 1", "@rx ^a", "@rx (?i)ab(c)?", "@rx x$", "@pm ab 12", "@contains b", "@streq 1", "@beginsWith a", "@endsWith c",
			"@within a1b2", "@ge 1", "@eq 0", "@validateByteRange 32-126", "@detectSQLi", "@detectXSS", "!@rx a", "!@streq 1", "@rx never",
			"@validateUrlEncoding", "@validateUtf8Encoding", "@unconditionalMatch", "@streq %{tx.one}", "@rx [^a-z]", "@strmatch 1")
	}
	transforms := func() string {
		out := "t:none"
		for range r.IntN(4) {
			out += ",t:" + oneOf(r, "lowercase", "urlDecodeUni", "htmlEntityDecode", "jsDecode", "removeNulls", "compressWhitespace", "length",
				"cmdLine", "normalizePath", "base64Decode", "replaceComments", "utf8toUnicode", "hexEncode", "removeWhitespace", "cssDecode")
		}
		return out
	}
	extra := func() string {
		switch r.IntN(8) {
		case 0:
			return ",capture"
		case 1:
			return fmt.Sprintf(",setvar:tx.%s=+1", oneOf(r, "one", "two", "three"))
		case 2:
			return ",multiMatch"
		case 3:
			return fmt.Sprintf(",ctl:ruleRemoveById=%d", 1+r.IntN(12))
		case 4:
			return fmt.Sprintf(",ctl:ruleRemoveTargetById=%d;ARGS:a", 1+r.IntN(12))
		}
		return ""
	}
	for id := 1; id <= 12; id++ {
		flow := ""
		switch r.IntN(14) {
		case 0:
			flow = fmt.Sprintf(",skip:%d", 1+r.IntN(3))
		case 1:
			flow = ",skipAfter:M" + oneOf(r, "1", "2")
		}
		links := 1
		if r.IntN(4) == 0 {
			links += 1 + r.IntN(2)
		}
		for n := range links {
			actions := transforms() + extra()
			if n == 0 {
				disruptive := "pass"
				if r.IntN(12) == 0 {
					disruptive = oneOf(r, "deny", "allow", "allow:phase")
				}
				actions = fmt.Sprintf("id:%d,phase:%s,%s,msg:'m%d',logdata:'%%{MATCHED_VAR}',severity:%s,tag:t%d%s,%s", id, oneOf(r, "1", "2", "2"),
					disruptive, id, oneOf(r, "2", "4"), r.IntN(3), flow, actions)
			}
			if n+1 < links {
				actions += ",chain"
			}
			from := target()
			if n > 0 && r.IntN(3) == 0 {
				from = oneOf(r, "MATCHED_VARS", "MATCHED_VARS_NAMES", "TX:1", "MATCHED_VARS|ARGS:b")
				if strings.HasPrefix(from, "MATCHED") {
					actions = strings.Replace(actions, transforms(), "t:none", 1)
				}
			}
			fmt.Fprintf(&b, "SecRule %s \"%s\" \"%s\"\n", from, operator(), actions)
		}
		if id == 5 || id == 9 {
			fmt.Fprintf(&b, "SecMarker M%d\n", 1+id/9)
		}
	}
	return b.String()
}

// randomRequest returns a request that some of the random rules find something in.
func randomRequest(r *rand.Rand) *request {
	value := func() string {
		out := ""
		for range r.IntN(4) {
			out += oneOf(r, "a", "1", "b2", "abc", "ABC", "x", " ", "%31", "&lt;", "\\x61", "/*c*/", "\x00", "'", "<script>", "1' or '1'='1", "é", "\xff", "../", "MQ==")
		}
		return out
	}
	form := url.Values{}
	for range r.IntN(4) {
		form.Add(oneOf(r, "a", "b", "A", "ab", "", "c1"), value())
	}
	clean := strings.NewReplacer("\x00", "", "\xff", "").Replace
	header := [][2]string{}
	for range r.IntN(3) {
		header = append(header, [2]string{oneOf(r, "X", "Y", "Cookie"), clean(oneOf(r, value(), "k="+value()))})
	}
	if r.IntN(2) == 0 {
		return get(form.Encode(), header...)
	}
	out := post(form.Encode())
	out.header = append(out.header, header...)
	return out
}

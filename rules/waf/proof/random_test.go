package proof

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/moatwaf/moat/rules/waf/seclang"
)

var (
	ruleSets  = flag.Int("sets", 150, "random rule sets")
	firstSeed = flag.Uint64("seed", 1, "of the first random rule set")
)

func oneOf(r *rand.Rand, list ...string) string { return list[r.IntN(len(list))] }

// randomRules returns rules that depend on each other in all ways: few report
// anything, many set, skip and exclude.
func randomRules(r *rand.Rand) string {
	var b strings.Builder
	name := func() string { return oneOf(r, "one", "two", "three", "four") }
	target := func() string {
		return oneOf(r, "ARGS", "ARGS:a", "ARGS_NAMES", "ARGS|!ARGS:a", "ARGS_GET:b", "ARGS_POST", "REQUEST_HEADERS:X", "REQUEST_HEADERS",
			"REQUEST_COOKIES|ARGS", "REQUEST_URI", "QUERY_STRING|REQUEST_BODY", "REQUEST_FILENAME", "REQUEST_BASENAME", "REQUEST_LINE", "&ARGS",
			"ARGS:/^[ab]/", "&ARGS:a", "&REQUEST_HEADERS:X", "REQUEST_METHOD", "ARGS_NAMES:b", "REQBODY_PROCESSOR", "REQUEST_HEADERS_NAMES",
			"REQUEST_HEADERS_NAMES|!REQUEST_HEADERS_NAMES:Host", "!ARGS:/^b/|ARGS", "REQUEST_COOKIES:k", "ARGS_COMBINED_SIZE",
			"TX:"+name(), "&TX:"+name(), "TX:/^t/", "TX:/o/", "TX:"+name(), "ARGS|TX:one")
	}
	operator := func() string {
		return oneOf(r, "@rx 1", "@rx ^a", "@rx (?i)a(b)(c)?", "@rx x$", "@rx ^(.*)$", "@rx (.)(.)", "@pm ab 12", "@contains b", "@streq 1",
			"@beginsWith a", "@endsWith c", "@within a1b2", "@ge 1", "@eq 0", "@lt 2", "@gt 1", "@validateByteRange 32-126", "@detectSQLi",
			"!@rx a", "!@streq 1", "@rx never", "!@rx .", "!@within abc1", "@validateUrlEncoding", "@validateUtf8Encoding",
			"@unconditionalMatch", "@noMatch", "@streq %{tx."+name()+"}", "!@streq %{tx."+name()+"}", "@within %{tx."+name()+"}x1",
			"@ge %{tx."+name()+"}", "@contains %{ARGS.a}", "@endsWith %{REQUEST_HEADERS.x}", "@streq %{REQUEST_METHOD}", "@rx [^a-z]")
	}
	transforms := func() string {
		out := "t:none"
		for range max(0, r.IntN(5)-2) {
			out += ",t:" + oneOf(r, "lowercase", "urlDecodeUni", "htmlEntityDecode", "jsDecode", "removeNulls", "compressWhitespace", "length",
				"cmdLine", "normalizePath", "base64Decode", "replaceComments", "utf8toUnicode", "hexEncode", "removeWhitespace", "cssDecode", "sha1")
		}
		return out
	}
	extra := func() string {
		out := ""
		for range r.IntN(3) {
			switch r.IntN(16) {
			case 0, 1, 2:
				out += ",capture"
			case 3, 4:
				out += fmt.Sprintf(",setvar:tx.%s=%s", name(), oneOf(r, "+1", "1", "-1", "abc", "", "+0", "+%{tx."+name()+"}"))
			case 5, 6:
				out += fmt.Sprintf(",setvar:'tx.%s=%s'", name(), oneOf(r, "%{tx.0}", "x%{tx.1}", "%{MATCHED_VAR}", "/%{MATCHED_VAR_NAME}/", "%{tx.two}", "%{ARGS.a}", "%{rule.id}"))
			case 7:
				out += ",setvar:'tx." + oneOf(r, "t_%{tx.0}", "o%{MATCHED_VAR}", "t%{MATCHED_VAR_NAME}", "%{tx.one}") + "=" + oneOf(r, "1", "+1", "%{MATCHED_VAR}") + "'"
			case 8:
				out += ",multiMatch"
			case 9:
				out += fmt.Sprintf(",ctl:ruleRemoveById=%s", oneOf(r, "5", "7", "8", "10-12", "3"))
			case 10:
				out += fmt.Sprintf(",ctl:ruleRemoveTargetById=%d;%s", 1+r.IntN(14), oneOf(r, "ARGS:a", "ARGS:/^b/", "ARGS", "TX:one", "REQUEST_HEADERS:x", "ARGS_NAMES:a"))
			case 11:
				out += fmt.Sprintf(",ctl:ruleRemoveTargetByTag=t%d;ARGS:a", r.IntN(3))
			case 12:
				out += fmt.Sprintf(",ctl:ruleRemoveByTag=t%d", r.IntN(3))
			case 13:
				out += ",setvar:!tx." + name() + "=0"
			case 14:
				out += oneOf(r, ",ctl:requestBodyAccess=Off", ",ctl:forceRequestBodyVariable=On", ",ctl:ruleEngine=Off", "", "")
			}
		}
		return out
	}
	if r.IntN(2) == 0 {
		b.WriteString("SecDefaultAction \"phase:1,log,pass\"\n")
	}
	for id := 1; id <= 14; id++ {
		flow := ""
		switch r.IntN(14) {
		case 0:
			flow = fmt.Sprintf(",skip:%d", 1+r.IntN(3))
		case 1:
			flow = ",skipAfter:M" + oneOf(r, "1", "2", "3")
		}
		disruptive, report := "pass", "nolog"
		switch r.IntN(12) {
		case 0:
			disruptive = oneOf(r, "deny", "allow", "allow:phase", "allow:request", "block")
		case 1, 2, 3:
			report = fmt.Sprintf("log,msg:'m%d'", id)
		}
		head := fmt.Sprintf("id:%d,phase:%s,%s,%s,severity:%s,tag:t%d%s,", id, oneOf(r, "1", "2", "2"), disruptive, report, oneOf(r, "2", "4"), r.IntN(3), flow)
		if r.IntN(5) == 0 {
			fmt.Fprintf(&b, "SecAction \"%s%s\"\n", head, "t:none"+extra())
		} else {
			links := 1
			if r.IntN(3) == 0 {
				links += 1 + r.IntN(2)
			}
			captures := false
			for n := range links {
				actions := transforms() + extra()
				if n == 0 {
					actions = head + actions
				}
				if n+1 < links {
					actions += ",chain"
				}
				from := target()
				if n > 0 && r.IntN(2) == 0 {
					from = oneOf(r, "MATCHED_VARS", "MATCHED_VARS_NAMES", "MATCHED_VAR", "MATCHED_VARS|ARGS:b", "TX:/^t_/")
					if captures || r.IntN(8) == 0 {
						from = oneOf(r, "TX:1", "TX:0", "TX:2", "&TX:1")
					}
				}
				if strings.Contains(from, "MATCHED") {
					// The engine remembers what it has transformed by the address of the
					// name, which these do not have.
					actions = strings.ReplaceAll(actions, ",t:", ",nolog,t:")
					for strings.Contains(actions, ",nolog,t:") {
						before, after, _ := strings.Cut(actions, ",nolog,t:")
						_, after, ok := strings.Cut(after, ",")
						if actions = before; ok {
							actions += "," + after
						}
					}
				}
				captures = captures || strings.Contains(actions, "capture")
				fmt.Fprintf(&b, "SecRule %s \"%s\" \"%s\"\n", from, operator(), actions)
			}
		}
		if id == 5 || id == 9 {
			fmt.Fprintf(&b, "SecMarker M%d\n", 1+id/9)
		}
	}
	if r.IntN(4) == 0 {
		fmt.Fprintf(&b, "SecRuleUpdateTargetById %d \"!ARGS:a\"\n", 1+r.IntN(14))
	}
	if r.IntN(6) == 0 {
		fmt.Fprintf(&b, "SecRuleRemoveById %d\n", 1+r.IntN(14))
	}
	return b.String()
}

// randomMessage returns a request in which some of the random rules find something.
func randomMessage(r *rand.Rand) *message {
	value := func() string {
		out := ""
		for range r.IntN(4) {
			out += oneOf(r, "a", "1", "b2", "abc", "ABC", "x", " ", "%31", "&lt;", "\\x61", "/*c*/", "'", "1' or '1'='1", "é", "../", "MQ==", "ab", "2")
		}
		return out
	}
	form := url.Values{}
	for range r.IntN(4) {
		form.Add(oneOf(r, "a", "b", "A", "ab", "t_1", "c1"), value())
	}
	header := "Host: h\r\n"
	for range r.IntN(3) {
		header += oneOf(r, "X", "Y", "Cookie") + ": " + oneOf(r, value(), "k="+value()) + "\r\n"
	}
	path := oneOf(r, "/", "/a", "/a/b.php", "/x1")
	if r.IntN(2) == 0 {
		return parse("GET " + path + "?" + form.Encode() + " HTTP/1.1\r\n" + header + "\r\n")
	}
	body := form.Encode()
	return parse(fmt.Sprintf("POST %s HTTP/1.1\r\n%sContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", path, header, len(body), body))
}

// wavers reports whether the engine's own parser gives the rules other values from
// one time to the next.
func (m *message) wavers() bool {
	seen := map[string]string{}
	for pair := range strings.SplitSeq(string(m.body), "&") {
		name, _, _ := strings.Cut(pair, "=")
		if n, err := url.QueryUnescape(name); err == nil {
			name = n
		}
		if other, ok := seen[strings.ToLower(name)]; ok && other != name {
			return true
		}
		seen[strings.ToLower(name)] = name
	}
	return false
}

// TestRandom holds the proof against the engine with random rules and requests.
func TestRandom(t *testing.T) {
	n := *ruleSets
	if testing.Short() {
		n /= 4
	}
	clean, proved, wrong, off := 0, 0, 0, 0
	why := map[string]int{}
	for i := range n {
		seed := *firstSeed + uint64(i)
		r := rand.New(rand.NewPCG(seed, 815))
		text := randomRules(r)
		e, err := tryLoad([]seclang.File{{Name: "random", Text: text}})
		if err != nil {
			continue // the engine refuses some
		}
		if e.proof.Off() != "" {
			off++
			continue
		}
		for range 25 {
			m := randomMessage(r)
			if m == nil || m.wavers() {
				continue
			}
			res, known := e.prove(m)
			if !known {
				continue
			}
			tries := 1
			if res.Clean {
				tries = 4 // the engine's order of values is random
			}
			found := ""
			for range tries {
				if found == "" {
					found = e.finding(t, m)
				}
			}
			if found == "" {
				clean++
			}
			switch {
			case res.Clean && found != "":
				t.Errorf("seed %d: %s %s %q %q\nis not clean: %s\n%s", seed, m.r.HTTP.Method, m.r.HTTP.RequestURI, m.r.HTTP.Header, m.body, found, text)
				if wrong++; wrong == 3 {
					t.FailNow()
				}
			case res.Clean:
				proved++
			case found == "":
				why[res.Why]++
			}
		}
		e.close()
	}
	for _, k := range slices.SortedFunc(maps.Keys(why), func(a, b string) int { return why[b] - why[a] }) {
		t.Logf("%5d %s", why[k], k)
	}
	t.Logf("%d of %d clean requests are proved, %d of %d rule sets are off", proved, clean, off, n)
	if proved*2 < clean {
		t.Error("too few for the comparison to mean anything")
	}
}

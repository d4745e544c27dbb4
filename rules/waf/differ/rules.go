package differ

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Random rules of all kinds, near each other, over a small set of names and words, so
// that the requests made for them meet them often.

// ruleWords are what random rules look for and random requests hold.
var ruleWords = []string{"a", "ab", "abc", "b", "1", "12", "x", "kelvin", "select", "evil", "<script>", "../", "union select", "%31", "é", "ſ", "\u212a", "0", "' or '1'='1", "javascript:", "etc/passwd",
	"MQ==", "\\x61", "&lt;", "/*c*/", "61", "AB", "Abc", "--", "a b", "\x00", "\xff", "10", "255", "x y", "cmd.exe", "ab/c", "ünïcode"}

// ruleNames are the names that random rules look at.
var ruleNames = []string{"a", "b", "ab", "A", "q", "user", "x", "json.a", "body", "X-a", "", "c[0]", "a.b"}

var ruleTargets = []string{
	"ARGS", "ARGS", "ARGS", "ARGS_GET", "ARGS_POST", "ARGS_NAMES", "ARGS_GET_NAMES", "ARGS_POST_NAMES", "ARGS_COMBINED_SIZE", "REQUEST_HEADERS", "REQUEST_HEADERS_NAMES", "REQUEST_COOKIES", "REQUEST_COOKIES_NAMES",
	"REQUEST_URI", "REQUEST_URI_RAW", "REQUEST_FILENAME", "REQUEST_BASENAME", "REQUEST_LINE", "REQUEST_METHOD", "REQUEST_PROTOCOL", "QUERY_STRING", "REQUEST_BODY", "REQUEST_BODY_LENGTH", "REMOTE_ADDR",
	"SERVER_NAME", "SERVER_PORT", "SERVER_ADDR", "REQBODY_PROCESSOR", "REQBODY_ERROR", "REQBODY_PROCESSOR_ERROR", "FILES", "FILES_NAMES", "FILES_SIZES", "FILES_COMBINED_SIZE", "FILES_TMP_CONTENT", "MULTIPART_NAME",
	"MULTIPART_FILENAME", "MULTIPART_PART_HEADERS", "MULTIPART_STRICT_ERROR", "MULTIPART_UNMATCHED_BOUNDARY", "XML:/*", "XML://@*", "REQUEST_XML", "URLENCODED_ERROR", "ARGUMENTS_LIMIT_REACHED", "HIGHEST_SEVERITY",
	"TX:one", "TX:two", "TX:/^t/", "TX", "MATCHED_VAR", "MATCHED_VARS", "MATCHED_VAR_NAME", "MATCHED_VARS_NAMES", "INBOUND_DATA_ERROR", "FULL_REQUEST_LENGTH", "ARGS_PATH", "PATH_INFO", "AUTH_TYPE", "RESPONSE_STATUS", "JSON", "URI_PARSE_ERROR",
	"MULTIPART_FILENAME_CHARSET", "MULTIPART_FILENAME_LANGUAGE", "REMOTE_PORT", "STATUS_LINE",
}

// keyed are the targets that take a selector.
var keyed = []string{"ARGS", "ARGS_GET", "ARGS_POST", "ARGS_NAMES", "REQUEST_HEADERS", "REQUEST_COOKIES", "FILES", "MULTIPART_PART_HEADERS", "REQUEST_HEADERS_NAMES", "TX", "MULTIPART_NAME", "MATCHED_VARS"}

func ruleTarget(r *rand.Rand) string {
	one := func() string {
		t := oneOf(r, ruleTargets...)
		if chance(r, 3) {
			t = oneOf(r, keyed...) + ":" + oneOf(r, "a", "b", "A", "q", "ab", "user", "json.a", "body", "X-a", "Content-Type", "User-Agent", "/^a/", "/b$/", "/^[ab]/", "/^json/", "x")
		}
		if chance(r, 12) {
			t = "&" + t
		}
		return t
	}
	t := one()
	for chance(r, 3) {
		t += "|" + oneOf(r, one(), one(), "!"+oneOf(r, keyed[:8]...)+":"+oneOf(r, "a", "b", "/^a/", "A", "q", "/^json.a/"))
	}
	return t
}

// seclangText makes a word that the grammar of a quoted argument can hold.
func seclangText(s string) string {
	s = strings.NewReplacer(`"`, "", `\`, "", "\x00", "", "\xff", "", "%{", "").Replace(s)
	if s == "" {
		return "w"
	}
	return s
}

func pattern(r *rand.Rand) string {
	return oneOf(r, "1", "^a", "(?i)ab(c)?", "x$", "^$", "never", "[^a-z]", "(?i)kelvin", "(?i)s", "^.{3,}$", "(a|b)+c?", "\\bselect\\b", "(?i)union\\s+select", "[\\x80-\\xff]", "\\xe2\\x84", "\\x00", "^\\d+$", "\\W",
		"(.)(.)", "^(?:a|ab|abc)$", "(?i)<script[^>]*>", "\\.\\./", "a.c", "^[\\x20-\\x7e]*$", "é", "(?i)É", "[[:upper:]]", "(?s)a.*b", "^/", "%[0-9a-f]{2}", "\\s", "(?:^|,)x", "(?i:K)el", "[^\\x00-\\x7f]", ".", "", "a{2}", "(^|[^b])a", "\\Aab", "c\\z", "(?m)^b", "(?-i)AB", "^[^=]*=", "\\pL", "[K\u212a]")
}

func operator(r *rand.Rand) string {
	w := func() string { return seclangText(oneOf(r, ruleWords...)) }
	op := ""
	switch r.IntN(22) {
	case 0, 1, 2, 3, 4, 5:
		if chance(r, 4) {
			return oneOf(r, "", "!", "!@rx ", "@rx ") + pattern(r) // also without the name
		}
		op = "@rx " + pattern(r)
	case 6, 7:
		op = oneOf(r, "@pm ", "@pm ", "@pm ") + w() + " " + w() + " " + w()
	case 8:
		op = "@contains " + w()
	case 9:
		op = "@streq " + w()
	case 10:
		op = "@beginsWith " + w()
	case 11:
		op = "@endsWith " + w()
	case 12:
		op = "@within " + w() + oneOf(r, "", " ", "|", ",") + w()
	case 13:
		op = oneOf(r, "@eq ", "@ge ", "@gt ", "@le ", "@lt ") + oneOf(r, "0", "1", "2", "5", "12", "-1", "%{tx.one}", "a")
	case 14:
		op = "@validateByteRange " + oneOf(r, "32-126", "1-255", "9,10,13,32-126,128-255", "38,44-46,48-58,61,65-90,95,97-122", "0-127")
	case 15:
		op = oneOf(r, "@detectSQLi", "@detectXSS")
	case 16:
		op = oneOf(r, "@validateUrlEncoding", "@validateUtf8Encoding", "@unconditionalMatch", "@noMatch")
	case 17:
		op = "@streq " + oneOf(r, "%{tx.one}", "%{ARGS.a}", "a%{tx.two}", "%{REQUEST_HEADERS.host}", "%{MATCHED_VAR}", "%{tx.1}")
	case 18:
		op = oneOf(r, "@contains ", "@within ", "@beginsWith ", "@endsWith ", "@rx ") + oneOf(r, "%{tx.one}", "%{ARGS.a}", "x%{tx.two}", "%{REQUEST_METHOD}")
	case 19:
		op = "@ipMatch " + oneOf(r, "198.51.100.0/24", "10.0.0.0/8,2001:db8::/32", "127.0.0.1")
	case 20:
		op = "@strmatch " + w()
	case 21:
		op = "@rx " + pattern(r)
	}
	if chance(r, 7) && op != "@noMatch" {
		op = "!" + op
	}
	return op
}

var transformations = []string{"lowercase", "lowercase", "urlDecodeUni", "urlDecodeUni", "urlDecode", "htmlEntityDecode", "jsDecode", "removeNulls", "replaceNulls", "compressWhitespace", "length", "cmdLine", "normalizePath",
	"normalisePath", "normalizePathWin", "base64Decode", "base64DecodeExt", "base64Encode", "replaceComments", "removeComments", "removeCommentsChar", "utf8toUnicode", "hexEncode", "hexDecode", "removeWhitespace", "cssDecode", "uppercase", "trim", "trimLeft",
	"trimRight", "escapeSeqDecode", "urlEncode", "md5", "sha1", "none"}

func transforms(r *rand.Rand) string {
	out := ""
	if !chance(r, 6) {
		out = ",t:none"
	}
	n := r.IntN(4)
	if chance(r, 8) {
		n += 4
	}
	for range n {
		out += ",t:" + oneOf(r, transformations...)
	}
	return out
}

// extra is an action beside the decision.
func extra(r *rand.Rand, count int) string {
	name := func() string { return oneOf(r, "one", "two", "three", "score") }
	id := func() int { return 1 + r.IntN(count) }
	switch r.IntN(26) {
	case 0, 1:
		return ",capture" + oneOf(r, "", ",setvar:tx.cap=%{tx.0}", ",setvar:tx.two=%{tx.1}")
	case 2, 3, 4:
		return fmt.Sprintf(",setvar:tx.%s=%s", name(), oneOf(r, "+1", "+2", "-1", "1", "a", "%{MATCHED_VAR}", "%{tx.one}", "+%{tx.one}", "%{MATCHED_VAR_NAME}"))
	case 5:
		return fmt.Sprintf(",setvar:!tx.%s", name())
	case 6, 7:
		return ",multiMatch"
	case 8:
		return fmt.Sprintf(",ctl:ruleRemoveById=%d", id())
	case 9:
		return fmt.Sprintf(",ctl:ruleRemoveById=%d-%d", id(), id()+count)
	case 10:
		return fmt.Sprintf(",ctl:ruleRemoveTargetById=%d;%s", id(), oneOf(r, "ARGS:a", "ARGS", "REQUEST_HEADERS:X-a", "ARGS:/^a/", "ARGS_NAMES:a", "REQUEST_COOKIES:q"))
	case 11:
		return fmt.Sprintf(",ctl:ruleRemoveByTag=t%d", r.IntN(3))
	case 12:
		return fmt.Sprintf(",ctl:ruleRemoveTargetByTag=t%d;%s", r.IntN(3), oneOf(r, "ARGS:a", "ARGS", "REQUEST_HEADERS:X-a", "REQUEST_COOKIES"))
	case 13:
		return fmt.Sprintf(",ctl:ruleRemoveByMsg=m%d", id())
	case 14:
		return fmt.Sprintf(",ctl:ruleRemoveTargetByMsg=m%d;ARGS:a", id())
	case 15:
		if chance(r, 3) {
			return ",ctl:ruleEngine=" + oneOf(r, "Off", "DetectionOnly", "On")
		}
	case 16:
		if chance(r, 2) {
			return ",ctl:requestBodyProcessor=" + oneOf(r, "JSON", "XML", "URLENCODED", "RAW", "MULTIPART")
		}
	case 17:
		if chance(r, 2) {
			return oneOf(r, ",ctl:requestBodyAccess=Off", ",ctl:forceRequestBodyVariable=On", ",ctl:requestBodyLimit=50")
		}
	case 18, 19:
		return ",setvar:tx.blocking_inbound_anomaly_score=+" + oneOf(r, "1", "3", "5")
	}
	return ""
}

// RandomRules returns a rule file of rules 1 to count and what changes them.
func RandomRules(r *rand.Rand) string {
	var b strings.Builder
	count := 3 + r.IntN(14)
	if chance(r, 3) {
		b.WriteString("SecAction \"id:99990,phase:1,pass,nolog,setvar:tx.inbound_anomaly_score_threshold=5,setvar:tx.blocking_inbound_anomaly_score=0\"\n")
	}
	if chance(r, 6) {
		fmt.Fprintf(&b, "SecDefaultAction \"phase:%d,%s,log,%s\"\n", 1+r.IntN(2), oneOf(r, "pass", "deny,status:403", "pass"), oneOf(r, "auditlog", "noauditlog"))
	}
	if chance(r, 12) {
		fmt.Fprintf(&b, "SecArgumentsLimit %d\n", 2+r.IntN(10))
	}
	for id := 1; id <= count; id++ {
		flow := ""
		switch r.IntN(16) {
		case 0:
			flow = fmt.Sprintf(",skip:%d", 1+r.IntN(3))
		case 1:
			flow = ",skipAfter:" + oneOf(r, "M5", "M9", "NOWHERE")
		}
		links := 1
		if chance(r, 4) {
			links += 1 + r.IntN(2)
		}
		if chance(r, 20) {
			fmt.Fprintf(&b, "SecAction \"id:%d,phase:%d,pass,nolog,msg:'m%d',tag:'t%d'%s%s\"\n", id, 1+r.IntN(2), id, r.IntN(3), flow, extra(r, count))
			continue
		}
		for n := range links {
			actions := transforms(r)
			for range r.IntN(3) {
				actions += extra(r, count)
			}
			if n == 0 {
				disruptive := "pass"
				if chance(r, 7) {
					disruptive = oneOf(r, "deny", "deny,status:404", "deny,status:401", "allow", "allow:phase", "allow:request", "block", "drop")
				}
				logging := oneOf(r, "", "", "", ",nolog", ",log", ",noauditlog")
				actions = fmt.Sprintf("id:%d,phase:%s,%s%s,msg:'m%d %s',logdata:'%%{MATCHED_VAR}',severity:%s,tag:'t%d'%s%s", id, oneOf(r, "1", "2", "2", "2"),
					disruptive, logging, id, oneOf(r, "", "%{MATCHED_VAR_NAME}", "%{tx.one}"), oneOf(r, "CRITICAL", "WARNING", "5"), r.IntN(3), flow, actions)
			}
			if n+1 < links {
				actions += ",chain"
			}
			from := ruleTarget(r)
			if n > 0 && chance(r, 3) {
				from = oneOf(r, "MATCHED_VARS", "MATCHED_VARS_NAMES", "TX:1", "TX:0", "MATCHED_VAR", "MATCHED_VARS|ARGS:b", "TX:cap")
			}
			fmt.Fprintf(&b, "SecRule %s \"%s\" \"%s\"\n", from, operator(r), strings.TrimPrefix(actions, ","))
		}
		if id == 5 || id == 9 {
			fmt.Fprintf(&b, "SecMarker M%d\n", id)
		}
	}
	for range r.IntN(3) {
		id := 1 + r.IntN(count)
		switch r.IntN(6) {
		case 0:
			fmt.Fprintf(&b, "SecRuleUpdateTargetById %d \"%s\"\n", id, oneOf(r, "!ARGS:a", "!ARGS:/^a/", "REQUEST_HEADERS:X-a", "!REQUEST_COOKIES:q", "ARGS_NAMES"))
		case 1:
			fmt.Fprintf(&b, "SecRuleUpdateTargetByTag t%d \"%s\"\n", r.IntN(3), oneOf(r, "!ARGS:a", "!ARGS:b", "REQUEST_COOKIES"))
		case 2:
			fmt.Fprintf(&b, "SecRuleRemoveById %d\n", id)
		case 3:
			fmt.Fprintf(&b, "SecRuleRemoveByTag t%d\n", r.IntN(3))
		case 4:
			fmt.Fprintf(&b, "SecRuleUpdateActionById %d \"%s\"\n", id, oneOf(r, "pass", "deny,status:406", "pass,t:none,t:lowercase", "pass,nolog"))
		case 5:
			fmt.Fprintf(&b, "SecRuleRemoveByMsg m%d\n", id)
		}
	}
	// What the others have counted.
	fmt.Fprintf(&b, "SecRule TX:one \"@ge %d\" \"id:99991,phase:2,pass,msg:'one'\"\n", 1+r.IntN(3))
	b.WriteString("SecRule TX:two \"@unconditionalMatch\" \"id:99992,phase:2,pass,msg:'two'\"\n")
	if chance(r, 2) {
		b.WriteString("SecRule TX:blocking_inbound_anomaly_score \"@ge %{tx.inbound_anomaly_score_threshold}\" \"id:99993,phase:2,deny,msg:'score'\"\n")
	}
	return b.String()
}

// crsIDs are rules of the Core Rule Set that exclusions name.
var crsIDs = []string{"920100", "920170", "920230", "920240", "920270", "920272", "920273", "920274", "920300", "920320", "920350", "920420", "920440", "920450", "920500", "921110", "921150", "922110", "930100", "930110", "930120",
	"931100", "931130", "932100", "932130", "932160", "932200", "932230", "932235", "932240", "932250", "933100", "933120", "933150", "933160", "933210", "934100", "934130", "941100", "941110", "941120", "941130", "941160", "941180", "941330",
	"941380", "942100", "942110", "942120", "942130", "942150", "942190", "942200", "942260", "942340", "942370", "942380", "942430", "942440", "942460", "942500", "943100", "943110", "944100", "944130", "944150", "949110", "941010", "941101", "942101", "942521", "932205"}

var crsTags = []string{"attack-sqli", "attack-xss", "attack-rce", "attack-lfi", "attack-protocol", "language-php", "paranoia-level/2", "OWASP_CRS", "OWASP_CRS/ATTACK-SQLI", "platform-unix", "application-multi", "attack-generic"}

var excluded = []string{"ARGS:a", "ARGS:q", "ARGS", "REQUEST_COOKIES", "REQUEST_HEADERS:User-Agent", "REQUEST_HEADERS:Referer", "ARGS:/^a/", "REQUEST_COOKIES:/^_/", "ARGS_NAMES", "REQUEST_FILENAME", "REQUEST_BODY", "XML:/*", "ARGS:json.a", "FILES", "REQUEST_HEADERS"}

// RandomExclusions returns the files of an installation of the Core Rule Set.
func RandomExclusions(r *rand.Rand) []File {
	var files []File
	if chance(r, 3) {
		files = append(files, File{SetupFile, setupFile(r)})
	}
	if !chance(r, 3) {
		files = append(files, File{BeforeFile, beforeFile(r)})
	}
	if !chance(r, 3) {
		files = append(files, File{AfterFile, afterFile(r)})
	}
	if chance(r, 4) {
		files = append(files, File{oneOf(r, OwnFile, AheadFile), ownRules(r)})
	}
	return files
}

// setupFile is a crs-setup.conf.
func setupFile(r *rand.Rand) string {
	s := "SecDefaultAction \"phase:1,log,auditlog,pass\"\nSecDefaultAction \"phase:2,log,auditlog," + oneOf(r, "pass", "deny,status:403") + "\"\n"
	vars := []string{"tx.critical_anomaly_score=" + oneOf(r, "5", "3", "10"), "tx.reporting_level=" + oneOf(r, "0", "4"), "tx.early_blocking=1", "tx.enforce_bodyproc_urlencoded=1", "tx.crs_validate_utf8_encoding=1",
		"tx.max_num_args=" + oneOf(r, "5", "255"), "tx.arg_name_length=100", "tx.arg_length=400", "tx.total_arg_length=6400", "tx.max_file_size=1000", "tx.combined_file_sizes=3000", "tx.sampling_percentage=100",
		"tx.allowed_http_versions=HTTP/1.1", "tx.restricted_extensions=.bak/ .config/ .php/", "tx.allowed_request_content_type_charset=utf-8", "tx.detection_paranoia_level=" + oneOf(r, "2", "3", "4"),
		"tx.skip_response_analysis=1", "tx.inbound_anomaly_score_threshold=" + oneOf(r, "5", "10", "3")}
	for i := range 1 + r.IntN(5) {
		s += fmt.Sprintf("SecAction \"id:%d,phase:1,pass,t:none,nolog,setvar:'%s'\"\n", 50+i, oneOf(r, vars...))
	}
	return s
}

// condition is a rule's target and operator that some requests meet.
func condition(r *rand.Rand) string {
	return oneOf(r, `REQUEST_URI "@beginsWith /api"`, `REQUEST_FILENAME "@endsWith .php"`, `REQUEST_METHOD "@streq POST"`, `ARGS:id "@rx ^[0-9]+$"`, `REQUEST_HEADERS:Content-Type "@contains json"`, `REMOTE_ADDR "@ipMatch 198.51.100.0/24"`,
		`REQUEST_HEADERS:Host "@contains example"`, `&ARGS "@gt 2"`, `REQUEST_URI "@unconditionalMatch"`, `REQUEST_COOKIES:theme "@rx ."`, `REQUEST_HEADERS:User-Agent "@pm chrome firefox"`, `REQUEST_FILENAME "@rx ^/hooks/"`)
}

// beforeFile has exclusions at run time.
func beforeFile(r *rand.Rand) string {
	var b strings.Builder
	for i := range 1 + r.IntN(5) {
		var ctl []string
		for range 1 + r.IntN(3) {
			ctl = append(ctl, "ctl:"+oneOf(r, "ruleRemoveById="+oneOf(r, crsIDs...), "ruleRemoveById=942000-942999", "ruleRemoveTargetById="+oneOf(r, crsIDs...)+";"+oneOf(r, excluded...),
				"ruleRemoveByTag="+oneOf(r, crsTags...), "ruleRemoveTargetByTag="+oneOf(r, crsTags...)+";"+oneOf(r, excluded...), "ruleRemoveTargetByTag=OWASP_CRS;"+oneOf(r, excluded...)))
		}
		if chance(r, 15) {
			ctl = append(ctl, "ctl:ruleEngine="+oneOf(r, "Off", "DetectionOnly"))
		}
		if chance(r, 10) {
			fmt.Fprintf(&b, "SecRule %s \"id:%d,phase:1,%s,nolog\"\n", condition(r), 100+i, oneOf(r, "allow", "allow:phase", "allow:request"))
			continue
		}
		fmt.Fprintf(&b, "SecRule %s \"id:%d,phase:%s,pass,t:none,nolog,%s\"\n", condition(r), 100+i, oneOf(r, "1", "1", "2"), strings.Join(ctl, ","))
	}
	return b.String()
}

// afterFile has exclusions at load time.
func afterFile(r *rand.Rand) string {
	var b strings.Builder
	for range 1 + r.IntN(6) {
		switch r.IntN(6) {
		case 0:
			fmt.Fprintf(&b, "SecRuleRemoveById %s\n", oneOf(r, crsIDs...))
		case 1:
			fmt.Fprintf(&b, "SecRuleRemoveByTag \"%s\"\n", oneOf(r, crsTags...))
		case 2:
			fmt.Fprintf(&b, "SecRuleUpdateTargetById %s \"!%s\"\n", oneOf(r, crsIDs...), oneOf(r, excluded...))
		case 3:
			fmt.Fprintf(&b, "SecRuleUpdateTargetByTag \"%s\" \"!%s\"\n", oneOf(r, crsTags...), oneOf(r, excluded...))
		case 4:
			fmt.Fprintf(&b, "SecRuleRemoveById %s\n", oneOf(r, "942100-942200", "920200-920290", "932000-932999", "949110"))
		case 5:
			fmt.Fprintf(&b, "SecRuleUpdateActionById %s \"%s\"\n", oneOf(r, crsIDs...), oneOf(r, "pass,nolog", "deny,status:406", "pass"))
		}
	}
	return b.String()
}

// ownRules are an operator's rules beside the Core Rule Set.
func ownRules(r *rand.Rand) string {
	var b strings.Builder
	for id := 1000; id < 1001+r.IntN(4); id++ {
		fmt.Fprintf(&b, "SecRule %s \"%s\" \"id:%d,phase:%d,%s,msg:'own'%s%s\"\n", ruleTarget(r), operator(r), id, 1+r.IntN(2), oneOf(r, "pass", "pass", "deny,status:403"), transforms(r),
			oneOf(r, "", "", ",setvar:tx.inbound_anomaly_score_pl1=+5", ",setvar:tx.one=+1"))
	}
	return b.String()
}

package waf

import (
	"fmt"
	"regexp"
	"strings"
)

// Numbers of moat's own rules. Operators cannot use or remove them.
const (
	ownRuleMin      = 190000
	ownRulePrepare  = 190000 // phase 2: one key for each value
	ownRuleGate1    = 190001 // phase 1: rules that cannot match
	ownRuleGate2    = 190002 // phase 2: the same
	ownRuleBudget1  = 190003 // phase 1: a request that costs too much
	ownRuleBudget2  = 190004 // phase 2: the same
	ownRuleSetup    = 190010 // phase 1: what crs-setup.conf would set
	ownRuleTypes    = 190011 // phase 1: content types with a wildcard
	ownRuleExpect   = 190012 // phase 1: Expect: 100-continue
	ownRuleMax      = 190099
	ruleBodyError   = 200002 // the body does not parse
	ruleStrict      = 200003 // the multipart body is ambiguous
	ruleArgsHeaders = 200004 // too many arguments in the URI
	ruleArgsBody    = 200005 // too many arguments in the body
	ruleURI         = 200009 // the URI does not parse
	ruleEarlyScore  = 949111 // the CRS refuses by score, in phase 1
	ruleScore       = 949110 // the CRS refuses by score
)

// defaultArguments is how many arguments are inspected, of the query and of the
// body each, unless a rule file says otherwise. It is that of Coraza's recommended
// configuration.
const defaultArguments = 1000

// restrictedHeaders are the request headers that the CRS refuses. Its own list
// has Content-Encoding too: such bodies are decompressed for inspection here, or
// refused (see decode).
const restrictedHeaders = "/proxy/ /lock-token/ /content-range/ /if/ /x-http-method-override/ /x-http-method/" +
	" /x-method-override/ /x-middleware-subrequest/ /expect/"

// baseDirectives are the engine's settings, and the rules that Coraza's
// recommended configuration has about what the engine could not read. The engine
// itself never decides about size: bodies are cut or refused before, so its limit
// lies above what a body of the policy's limit can become when it is prepared.
func baseDirectives(c *Config) string {
	limit := engineLimit(c)
	return fmt.Sprintf(`SecRuleEngine On
SecRequestBodyAccess On
SecRequestBodyLimit %d
SecRequestBodyInMemoryLimit %d
SecRequestBodyLimitAction Reject
SecRequestBodyJsonDepthLimit %d
SecArgumentsLimit %d
SecResponseBodyAccess Off
SecAuditEngine Off
SecAction "id:%d,phase:2,pass,nolog,noauditlog,%s:%d"
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "^application/[a-z0-9.-]+[+]json" "id:200006,phase:1,t:none,t:lowercase,pass,nolog,chain"
    SecRule REQUEST_HEADERS:Content-Type "!@rx ^application/(?:connect|grpc|grpc-web)[+]json" "t:none,t:lowercase,ctl:requestBodyProcessor=JSON"
SecRule URI_PARSE_ERROR "@eq 1" "id:%d,phase:1,t:none,log,deny,status:400,msg:'The URI does not parse'"
SecRule REQBODY_ERROR "!@eq 0" "id:%d,phase:2,t:none,log,deny,status:400,msg:'The request body does not parse',severity:2"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" "id:%d,phase:2,t:none,log,deny,status:400,msg:'The multipart body can be read in two ways'"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:%d,phase:1,t:none,log,deny,status:400,msg:'Too many arguments in the URI'"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:%d,phase:2,t:none,log,deny,status:400,msg:'Too many arguments in the body'"
`, limit, limit, jsonDepth, c.arguments, ownRulePrepare, prepareAction, c.arguments,
		ruleURI, ruleBodyError, ruleStrict, ruleArgsHeaders, ruleArgsBody)
}

// jsonDepth is how deep the engine follows a JSON document.
const jsonDepth = 1024

// engineLimit returns the engine's own limit of a body, in bytes.
func engineLimit(c *Config) int64 { return 12*c.BodyLimit + 64<<10 }

// defaultActions are those of the CRS set-up: rules score, the sum decides.
const defaultActions = `SecDefaultAction "phase:1,log,noauditlog,pass"
SecDefaultAction "phase:2,log,noauditlog,pass"
`

// setupDirectives are what the operator of a plain installation writes into
// crs-setup.conf.
func setupDirectives(c *Config) string {
	exact, patterns := splitTypes(c.ContentTypes)
	var b strings.Builder
	fmt.Fprintf(&b, `SecAction "id:%d,phase:1,pass,t:none,nolog,noauditlog,`+
		`setvar:tx.crs_setup_version=4250,`+
		`setvar:tx.blocking_paranoia_level=%d,setvar:tx.detection_paranoia_level=%d,`+
		`setvar:tx.inbound_anomaly_score_threshold=%d,`+
		`setvar:'tx.allowed_methods=%s',`+
		`setvar:'tx.allowed_request_content_type=%s',`+
		`setvar:'tx.restricted_headers_basic=%s'"`+"\n",
		ownRuleSetup, c.Paranoia, c.Paranoia, c.Threshold,
		strings.Join(c.Methods, " "), strings.Join(exact, " "), restrictedHeaders)
	if len(patterns) > 0 {
		// Rule 920420 compares with whole names only.
		fmt.Fprintf(&b, `SecRule REQUEST_HEADERS:Content-Type "@rx \A(?:%s)\s*(?:;|\z)" `+
			`"id:%d,phase:1,pass,t:none,t:lowercase,nolog,noauditlog,ctl:ruleRemoveById=920420"`+"\n",
			strings.Join(patterns, "|"), ownRuleTypes)
	}
	// The one value of Expect that RFC 9110 section 10.1.1 knows is normal for
	// large bodies. Whatever else stands there is for rule 920450.
	fmt.Fprintf(&b, `SecRule &REQUEST_HEADERS:Expect "@eq 1" "id:%d,phase:1,pass,t:none,nolog,noauditlog,chain"`+"\n"+
		`SecRule REQUEST_HEADERS:Expect "@rx (?i)\A100-continue\z" `+
		`"t:none,ctl:ruleRemoveTargetById=920450;REQUEST_HEADERS_NAMES:expect"`+"\n",
		ownRuleExpect)
	return b.String()
}

// splitTypes returns the media types without a wildcard as the CRS writes them,
// and those with one as regular expressions.
func splitTypes(types []string) (exact, patterns []string) {
	for _, t := range types {
		switch {
		case t == "*":
			patterns = append(patterns, `[^;\s]*`)
		case strings.Contains(t, "*"):
			patterns = append(patterns, strings.ReplaceAll(regexp.QuoteMeta(t), `\*`, `[^;\s/]*`))
		default:
			exact = append(exact, "|"+t+"|")
		}
	}
	if len(exact) == 0 {
		// An unset list would be the CRS's own.
		exact = []string{"||"}
	}
	return exact, patterns
}

package waf

import (
	"strings"

	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/waf/gate"
)

// The engine accepts much that it then does not do, or that is not the rule
// file's to say here. A rule that is silently idle protects nobody, so the
// following are errors, with the way to write what was meant.

// refusal is what is wrong with a word of SecLang, and what to write instead.
type refusal struct{ msg, hint string }

var refusedDirectives = func() map[string]refusal {
	m := map[string]refusal{}
	add := func(msg, hint string, names ...string) {
		for _, n := range names {
			m[strings.ToLower(n)] = refusal{msg, hint}
		}
	}
	const set = "is set by the policy, not by a rule file"
	add(set, "write waf.mode: block, detect or off", "SecRuleEngine")
	add(set, "leave it out: bodies are inspected by their type", "SecRequestBodyAccess")
	add(set, "write waf.body_limit", "SecRequestBodyLimit", "SecRequestBodyInMemoryLimit", "SecRequestBodyNoFilesLimit")
	add(set, "write waf.oversize: block, inspect or pass", "SecRequestBodyLimitAction")
	add(set, "write waf.responses", "SecResponseBodyAccess", "SecResponseBodyLimit", "SecResponseBodyLimitAction",
		"SecResponseBodyMimeType", "SecResponseBodyMimeTypesClear", "SecResponseBodyJsonDepthLimit")
	add("is not used: moat writes its own audit lines and log", "leave it out",
		"SecAuditEngine", "SecAuditLog", "SecAuditLog2", "SecAuditLogType", "SecAuditLogFormat", "SecAuditLogParts",
		"SecAuditLogStorageDir", "SecAuditLogDir", "SecAuditLogDirMode", "SecAuditLogFileMode",
		"SecAuditLogRelevantStatus", "SecDebugLog", "SecDebugLogLevel")
	add("is not used: moat keeps no files of requests", "leave it out",
		"SecDataDir", "SecTmpDir", "SecUploadDir", "SecUploadKeepFiles", "SecUploadFileMode", "SecUploadFileLimit")
	add("does not load rules over the network", "fetch the file and include it", "SecRemoteRules", "SecRemoteRulesFailAction")
	add("would load a rule set with holes", "correct the rules that do not compile", "SecIgnoreRuleCompilationErrors")
	add("is experimental in the engine", "leave it out", "SecRxPreFilter")
	add("does nothing in this engine", "leave it out, or write the limit as a tier of the policy",
		"SecConnEngine", "SecConnReadStateLimit", "SecConnWriteStateLimit")
	add("does nothing in this engine", "leave it out", "SecHashEngine", "SecHashKey", "SecHashParam", "SecHashMethodRx", "SecHashMethodPm",
		"SecGsbLookupDb", "SecHTTPBlKey", "SecRuleScript", "SecCacheTransformations", "SecStreamInBodyInspection", "SecContentInjection")
	add("does nothing in this engine", "use SecRuleUpdateTargetById or SecRuleUpdateTargetByTag", "SecRuleUpdateTargetByMsg")
	add("does nothing in this engine", "match country or asn in a rule of the policy", "SecGeoLookupDb")
	return m
}()

var refusedOperators = map[string]refusal{
	"geolookup":   {"matches every address in this engine", "match country or asn in a rule of the policy"},
	"inspectfile": {"would start a program for each request", "check uploads behind moat"},
	"rbl":         {"would ask the network for each request", "load the list as a list of the policy"},
	"gsblookup":   {"does not exist in this engine", ""},
	"fuzzyhash":   {"does not exist in this engine", ""},
	"verifycc":    {"does not exist in this engine", "use @rx"},
	"validatedtd": {"does not exist in this engine", ""},
}

var refusedActions = map[string]refusal{
	"initcol":       {"does nothing in this engine: there are no persistent collections", "count requests with a tier or a ban of the policy"},
	"setsid":        {"does nothing in this engine: there are no persistent collections", "count requests with a tier or a ban of the policy"},
	"setuid":        {"does nothing in this engine: there are no persistent collections", "count requests with a tier or a ban of the policy"},
	"setrsc":        {"does nothing in this engine: there are no persistent collections", "count requests with a tier or a ban of the policy"},
	"expirevar":     {"does nothing in this engine: there are no persistent collections", "count requests with a tier or a ban of the policy"},
	"deprecatevar":  {"does nothing in this engine: there are no persistent collections", "count requests with a tier or a ban of the policy"},
	"exec":          {"does nothing in this engine", "read the audit lines of moat"},
	"setenv":        {"would change the environment of the whole server", "use setvar"},
	"proxy":         {"does nothing in this engine", "use deny"},
	"pause":         {"does nothing in this engine", "use deny, or a tier of the policy"},
	"append":        {"does nothing in this engine", ""},
	"prepend":       {"does nothing in this engine", ""},
	prepareAction:   {"is moat's own", ""},
	budgetAction:    {"is moat's own", ""},
	gate.ActionName: {"is moat's own", ""},
}

var refusedControls = map[string]refusal{
	"hashengine":      {"does nothing in this engine", "leave it out"},
	"hashenforcement": {"does nothing in this engine", "leave it out"},
}

// refusedTargets are collections that are always empty here.
var refusedTargets = map[string]refusal{
	"GEO": {"is always empty in this engine", "match country or asn in a rule of the policy"},
}

// refuse adds the faults of a directive that the engine would not tell.
func refuse(d *directive, r *rule, errs *rules.Errors) {
	if no, ok := refusedDirectives[d.name]; ok {
		errs.Add(d.pos(), "", no.hint, "%s %s", firstWord(d.raw), no.msg)
	}
	switch {
	case d.name == "secargumentseparator" && strings.Trim(d.args, `"'`) != "&",
		d.name == "seccookieformat" && strings.Trim(d.args, `"'`) != "0":
		errs.Add(d.pos(), "", "leave it out", "%s has no other value in this engine", firstWord(d.raw))
	}
	if r == nil {
		return
	}
	op := strings.TrimPrefix(strings.TrimPrefix(r.operator, "!"), "@")
	if no, ok := refusedOperators[strings.ToLower(op)]; ok {
		errs.Add(d.pos(), "", no.hint, "@%s %s", op, no.msg)
	}
	for target := range strings.SplitSeq(r.targets, "|") {
		name, _, _ := strings.Cut(strings.TrimLeft(target, "&!"), ":")
		if no, ok := refusedTargets[strings.ToUpper(name)]; ok {
			errs.Add(d.pos(), "", no.hint, "%s %s", strings.ToUpper(name), no.msg)
		}
	}
	for _, a := range r.actions {
		if no, ok := refusedActions[a.name]; ok {
			errs.Add(d.pos(), "", no.hint, "the action %s %s", a.name, no.msg)
		}
		if a.name == "t" && strings.HasPrefix(strings.ToLower(a.value), freshPrefix) {
			errs.Add(d.pos(), "", "", "the transformation %s is moat's own", a.value)
		}
		if value := strings.Trim(a.value, " '\""); a.name == "setvar" && !strings.Contains(value, "=") {
			errs.Add(d.pos(), "", "write setvar:"+value+"=1", "setvar:%s without a value makes this engine fail with every match", value)
		}
		if a.name != "ctl" {
			continue
		}
		control, value, _ := strings.Cut(a.value, "=")
		if no, ok := refusedControls[strings.ToLower(control)]; ok {
			errs.Add(d.pos(), "", no.hint, "ctl:%s %s", control, no.msg)
		}
		if strings.EqualFold(control, "ruleRemoveById") && touchesOwn(value) {
			errs.Add(d.pos(), "", "ctl:ruleEngine=Off switches the rules off for one request", "ctl:%s would remove a rule of moat (%d to %d)", control, ownRuleMin, ownRuleMax)
		}
	}
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	w, _, _ = strings.Cut(w, "\n")
	return w
}

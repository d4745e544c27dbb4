package moatcaddy

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/moatwaf/moat/filter/policy"
)

// Exclusion takes payload rules out, or parts of a request out of their sight.
type Exclusion struct {
	// Rules says which rules: a number ("942100"), a range ("942100-942199") or
	// a tag ("tag:attack-sqli").
	Rules string `json:"rules"`

	// Targets are the parts of a request that the rules no longer look at, such as
	// "ARGS:q" or "REQUEST_COOKIES:session". Without targets the rules are
	// removed altogether.
	Targets []string `json:"targets,omitempty"`
}

var (
	ruleNumbers = regexp.MustCompile(`^[1-9][0-9]{0,8}(-[1-9][0-9]{0,8})?$`)
	ruleTag     = regexp.MustCompile(`^tag:[A-Za-z0-9][A-Za-z0-9_./-]*$`)
	// A target is a collection of SecLang with or without a key. What could end
	// the quoted argument of a directive is not in it.
	ruleTarget = regexp.MustCompile("^[A-Z][A-Z_]*(:[^\\s\"'`,|!\\\\\x00-\x1f]+)?$")
)

// directives returns e in SecLang.
func (e Exclusion) directives() (string, error) {
	tag, byTag := strings.CutPrefix(e.Rules, "tag:")
	if !ruleNumbers.MatchString(e.Rules) && !ruleTag.MatchString(e.Rules) {
		return "", fmt.Errorf("exclude: %q is no rule: write a number, a range such as 942100-942199, or tag:NAME", e.Rules)
	}
	var b strings.Builder
	if len(e.Targets) == 0 {
		if byTag {
			fmt.Fprintf(&b, "SecRuleRemoveByTag %s\n", tag)
		} else {
			fmt.Fprintf(&b, "SecRuleRemoveById %s\n", e.Rules)
		}
		return b.String(), nil
	}
	for _, target := range e.Targets {
		if !ruleTarget.MatchString(target) {
			return "", fmt.Errorf("exclude: %q is no target: write a part of the request such as ARGS:q or REQUEST_COOKIES:session", target)
		}
		if byTag {
			fmt.Fprintf(&b, "SecRuleUpdateTargetByTag %s \"!%s\"\n", tag, target)
		} else {
			fmt.Fprintf(&b, "SecRuleUpdateTargetById %s \"!%s\"\n", e.Rules, target)
		}
	}
	return b.String(), nil
}

// overrides returns what the handler sets in place of the policy's own values.
func (h *Handler) overrides() (policy.Overrides, error) {
	o := policy.Overrides{
		Mode:      h.Mode,
		Paranoia:  h.Paranoia,
		Threshold: h.Threshold,
		BodyLimit: h.BodyLimit,
		Oversize:  h.Oversize,
	}
	for _, e := range h.Exclude {
		directives, err := e.directives()
		if err != nil {
			return policy.Overrides{}, err
		}
		o.Exclude += directives
	}
	return o, nil
}

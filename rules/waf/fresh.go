package waf

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/experimental/plugins"

	"github.com/moatwaf/moat/rules"
)

// The engine remembers transformed values by the address of their key. What it
// calls MATCHED_VAR and the like has one address for all rules of a request, so
// that a rule would judge what another one matched. A transformation that does
// nothing, under a name that no other rule has, keeps the memories apart.

const (
	freshPrefix = "moatfresh"
	maxFresh    = 256
)

func init() {
	for n := range maxFresh {
		plugins.RegisterTransformation(freshPrefix+strconv.Itoa(n), func(s string) (string, bool, error) { return s, false, nil })
	}
}

// The engine also remembers word lists, in the whole process: a data set by its
// name. renameDatasets gives each a name that changes with its content, and is
// called for all the segments in the order of the engine.
func renameDatasets(segs []segment, names map[string]string) {
	for i := range segs {
		for j := range segs[i].directives {
			d := &segs[i].directives[j]
			switch d.name {
			case "secdataset":
				name, content, ok := strings.Cut(d.args, " ")
				if !ok || !strings.HasPrefix(content, "`") {
					continue // the engine reports it
				}
				sum := sha256.Sum256([]byte(content))
				names[name] = name + "-" + hex.EncodeToString(sum[:])
				d.raw = "SecDataset " + names[name] + " " + content + "\n"
			case "secrule":
				r, ok := parseRule(d)
				op := strings.ToLower(strings.TrimLeft(r.operator, "!@"))
				if !ok || op != "pmfromdataset" && op != "ipmatchfromdataset" || names[r.argument] == "" {
					continue
				}
				r.quoted = r.operator + " " + names[r.argument]
				d.raw = r.text()
			}
		}
	}
}

// text returns the rule as a directive, in one physical line each for target,
// operator and actions.
func (r *rule) text() string {
	if r.list == "" {
		return fmt.Sprintf("SecRule %s \\\n\"%s\"\n", r.targets, r.quoted)
	}
	return fmt.Sprintf("SecRule %s \\\n\"%s\" \\\n\"%s\"\n", r.targets, r.quoted, r.list)
}

// changing are the collections whose content changes from rule to rule.
var changing = []string{"MATCHED_VAR", "MATCHED_VARS", "MATCHED_VAR_NAME", "MATCHED_VARS_NAMES", "RULE"}

// refresh gives the rules that transform such a collection a transformation of
// their own, counted by n. It rewrites the directives in place.
func refresh(segs []segment, n *int, errs *rules.Errors) {
	for i := range segs {
		for j := range segs[i].directives {
			d := &segs[i].directives[j]
			if d.name != "secrule" {
				continue
			}
			r, ok := parseRule(d)
			if !ok || !r.readsChanging() || !r.transforms() {
				continue
			}
			if *n == maxFresh {
				errs.Add(d.pos(), "", "", "more than %d rules transform MATCHED_VAR and the like", maxFresh)
				return
			}
			d.raw = r.withFresh(*n)
			*n++
		}
	}
}

// readsChanging reports whether a target is a collection that changes.
func (r *rule) readsChanging() bool {
	for target := range strings.SplitSeq(r.targets, "|") {
		name, _, _ := strings.Cut(strings.TrimLeft(target, "&!"), ":")
		if slices.Contains(changing, strings.ToUpper(name)) {
			return true
		}
	}
	return false
}

// transforms reports whether the rule has a transformation in force.
func (r *rule) transforms() bool {
	in := false
	for _, a := range r.actions {
		if a.name == "t" {
			in = a.value != "none"
		}
	}
	return in
}

// withFresh returns the rule's text with a transformation of its own in front of
// the others: behind the last t:none.
func (r *rule) withFresh(n int) string {
	fresh := "t:" + freshPrefix + strconv.Itoa(n)
	list := splitActions(r.list)
	at := 0
	for i, a := range list {
		if name, value, _ := strings.Cut(a, ":"); strings.EqualFold(strings.TrimSpace(name), "t") && strings.TrimSpace(value) == "none" {
			at = i + 1
		}
	}
	r.list = strings.Join(slices.Insert(list, at, fresh), ",")
	return r.text()
}

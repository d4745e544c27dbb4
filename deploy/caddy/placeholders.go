package moatcaddy

import (
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/moatwaf/moat/filter"
)

// placeholderPrefix is what the names of moat's placeholders begin with.
const placeholderPrefix = "http.moat."

// placeholderNames are the names behind the prefix.
var placeholderNames = []string{"verdict", "stage", "rule", "reason", "country", "asn", "tier", "identity", "score"}

// view is what placeholders show of a request. It is small enough for a closure to
// hold it by value, which saves an allocation for each request.
type view struct {
	verdict  string
	stage    string
	rule     string
	country  string
	tier     string
	identity *filter.Identity
	score    int
	asn      uint32
	reason   filter.Reason
}

// viewOf returns what placeholders show. It outlives the request.
func viewOf(d *filter.Decision, r *filter.Request) view {
	location := r.Location()
	v := view{
		verdict:  d.Verdict.String(),
		country:  location.Country,
		asn:      location.ASN,
		tier:     r.Tier,
		identity: r.Identity,
	}
	if !d.Refuses() {
		if len(r.Detected) == 0 {
			return v
		}
		d = &r.Detected[0]
		v.verdict = "detect"
	}
	v.stage, v.rule, v.reason = d.Stage, d.Rule, d.Reason
	if d.Limit != nil {
		v.tier = d.Limit.Tier
	}
	if d.Payload != nil {
		v.score = d.Payload.Score
	}
	return v
}

// lookup returns the value of a placeholder.
func (v view) lookup(key string) (any, bool) {
	name, ours := strings.CutPrefix(key, placeholderPrefix)
	if !ours {
		return nil, false
	}
	switch name {
	case "verdict":
		return v.verdict, true
	case "stage":
		return v.stage, true
	case "rule":
		return v.rule, true
	case "reason":
		if v.reason == filter.ReasonNone {
			return "", true
		}
		return v.reason.String(), true
	case "country":
		return v.country, true
	case "asn":
		if v.asn == 0 {
			return "", true
		}
		return v.asn, true
	case "tier":
		return v.tier, true
	case "identity":
		if v.identity == nil {
			return "", true
		}
		return v.identity.Subject, true
	case "score":
		return v.score, true
	}
	return nil, false
}

// publish makes the placeholders of a decision known. Where a request passes
// several moat handlers, they show the last decision.
func publish(repl *caddy.Replacer, d *filter.Decision, r *filter.Request) {
	if repl == nil {
		return
	}
	v := viewOf(d, r)
	if _, again := repl.Get(placeholderPrefix + "verdict"); again {
		// Of two functions the first would answer; a set value goes before both.
		for _, name := range placeholderNames {
			value, _ := v.lookup(placeholderPrefix + name)
			repl.Set(placeholderPrefix+name, value)
		}
		return
	}
	repl.Map(func(key string) (any, bool) { return v.lookup(key) })
}

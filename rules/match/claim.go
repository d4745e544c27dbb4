package match

import (
	"encoding/json"

	"github.com/moatwaf/moat/filter"
)

// claimTest is one name under the claim key. It holds if the caller is known and
// has the claim with a wanted value, or with a list that has one.
type claimTest struct {
	name   string
	wanted []any // string, float64 or bool
	any    bool  // "*": any value but null
}

func (t *claimTest) match(id *filter.Identity) bool {
	if id == nil {
		return false
	}
	switch v := id.Claims[t.name].(type) {
	case nil:
		return false
	case []any:
		for _, member := range v {
			if t.wants(member) {
				return true
			}
		}
		return t.any
	case []string:
		for _, member := range v {
			if t.wantsString(member) {
				return true
			}
		}
		return t.any
	default:
		return t.any || t.wants(v)
	}
}

func (t *claimTest) wants(v any) bool {
	switch v := v.(type) {
	case string:
		return t.wantsString(v)
	case bool:
		for _, w := range t.wanted {
			if b, ok := w.(bool); ok && b == v {
				return true
			}
		}
	case float64:
		return t.wantsNumber(v)
	case int:
		return t.wantsNumber(float64(v))
	case int64:
		return t.wantsNumber(float64(v))
	case json.Number:
		f, err := v.Float64()
		return err == nil && t.wantsNumber(f)
	}
	return false
}

func (t *claimTest) wantsString(v string) bool {
	for _, w := range t.wanted {
		if s, ok := w.(string); ok && s == v {
			return true
		}
	}
	return false
}

func (t *claimTest) wantsNumber(v float64) bool {
	for _, w := range t.wanted {
		if f, ok := w.(float64); ok && f == v {
			return true
		}
	}
	return false
}

func (b *builder) claim(name string, list OneOrMore[Claim]) {
	if len(list) == 0 {
		return
	}
	if !b.env.Claims {
		b.fault(list[0].Errorf("claims belong into tiers with key: identity and into auth.require",
			"the caller is not known yet where this condition is evaluated"))
		return
	}
	b.m.uses.Identity = true
	t := claimTest{name: name}
	for _, l := range list {
		if l.Value.Value == "*" {
			t.any = true
			continue
		}
		t.wanted = append(t.wanted, l.Value.Value)
	}
	b.m.claims = append(b.m.claims, t)
}

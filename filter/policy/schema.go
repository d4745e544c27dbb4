package policy

import "github.com/moatwaf/moat/rules"

// Schema returns the JSON Schema of policy files, for editors. It is made from
// the same fields that the decoder fills, so that the two cannot disagree.
func Schema() map[string]any {
	return rules.Schema(&Policy{}, rules.SchemaOptions{
		ID:    "https://github.com/moatwaf/moat/policy.schema.json",
		Title: "moat policy",
	})
}

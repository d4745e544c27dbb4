// Package match is the condition on a request that access rules, tiers and auth
// requirements share: the keys under match, and CEL expressions.
//
//	Spec (as written) -> Compile, with every fault -> Matcher (immutable)
//
// All keys of a Spec must hold; of a list, one member is enough. The README
// beside this file has the table of keys.
package match

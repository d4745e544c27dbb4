// Package gate takes from a transaction of Coraza the rules that cannot match in
// it, so that the engine evaluates the few that may.
//
//	seclang.Program -> New -> Gate: kinds of values -> trees of transformations -> one scan for all patterns
//	first rule of a phase -> action -> Gate.Apply(tx) -> candidates -> tx.RemoveRuleByIDRange(the others)
//
// A rule is taken away only if it is proved that one of its links, with the values
// as they are, matches nothing, and that evaluating it would leave no trace that
// another rule could see. What remains is evaluated by the engine itself: captures,
// matched data, scores and interruptions are the engine's own.
//
// The proof rests on four facts about Coraza v3.8.1 (see rule.go and rulegroup.go
// there), which TestEquality holds against the whole CRS corpus:
//
//   - The collections of a request do not change within a phase, but for TX, RULE,
//     ENV, MATCHED_* and the like. Only the former are looked at here.
//   - A rule whose first link does not match changes nothing but the collection
//     RULE, of which the next rule overwrites all but msg and logdata.
//   - Exclusions at run time only remove targets and rules.
//   - skip counts rules that are not removed, so what a skip may cover stays.
//
// Whatever is not understood remains a candidate, with a reason (Gate.Reasons).
package gate

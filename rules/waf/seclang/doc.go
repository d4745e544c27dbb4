// Package seclang reads SecLang as Coraza does and says which rules result, in
// the order in which they are evaluated.
//
// Coraza keeps its compiled rules to itself. Whoever wants to reason about them
// before a request runs needs a model:
//
//	[]File -> Parse -> *Program: []*Rule -> []Link: targets, transformations, operator, actions
//
// The grammar follows Coraza v3.8.1, its corners included: where the engine is
// lenient, so is the model. A model that differs from the engine is worse than
// none, so Program.Verify holds every field that matters against the rules in
// the engine, and nobody should use a Program that has not passed it.
//
// Parse reports nothing about bad SecLang beyond what keeps it from going on: the
// engine has compiled the same text, or there is nothing to model.
package seclang

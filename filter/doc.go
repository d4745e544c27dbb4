// Package filter is the vocabulary of moat and the pipeline that turns a request
// into a decision.
//
//	host adapter -> Request -> Engine.Decide -> Decision -> answer, or upstream
//
// A Stage is one check. A Pipeline is the stages of one compiled policy, in
// order, and is immutable. An Engine holds the pipeline in force and swaps it
// atomically.
//
// The package imports the standard library only and knows no stage. The zero
// Verdict blocks, so that a forgotten answer fails closed.
package filter

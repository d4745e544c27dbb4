// Package view builds, without a transaction of the engine, the values that the
// engine's collections hold for a request.
//
//	Builder.Head -> what the rules of phase 1 see
//	Builder.Body -> what the rules of phase 2 see
//
// It knows the engine as moat's payload stage drives it: the header fields that
// net/http keeps elsewhere, the preparation of bodies, the arguments that are made
// of text. What it does not take exactly as the engine does it does not know: the
// answer is then a Reason, and the engine decides.
package view

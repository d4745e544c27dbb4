// Package proof says, without a transaction of the engine, that a request is clean:
// that Coraza with the same rules would let it pass and report nothing.
//
//	seclang.Program -> New -> Proof
//	view.View -> Request.Headers -> Result: clean, or the rule because of which it is not
//	view.View -> Request.Body    -> Result
//
// At load an interpreter of SecLang runs the program without a request. What
// depends on nothing but constants is decided: rules that set up, compare the
// paranoia level, or add up scores that nothing has raised. A rule of which a match
// would be a finding is taken not to match, because a request in which it does is
// not clean anyway. What remains depends on the request.
//
// For a request, each value is scanned once for the patterns of all rules that look
// at it. A rule is passed over if one of its links has no value that passes, found
// for all rules at once by a few words of bits. The few that are left are run by the
// same interpreter, on the values themselves: transformations, operators, captures,
// variables, chains, exclusions and jumps. The operators and transformations are the
// engine's own.
//
// A proof that follows findings (Options.Follow) takes no finding for the end: rules
// that match do what they do, and so the same interpreter tells what the engine would
// find, score and refuse.
//
// What the interpreter does not understand makes a rule one that no request may
// reach (Proof.Reasons), or turns the proof off (Proof.Off). Where the engine's
// answer hangs on the order of values, which it does not promise, the request is
// handed over.
package proof

// Package dfa answers for many patterns at once which of them may match a
// value, in one pass over the value.
//
// A [Set] holds regular expressions with the meaning that Coraza's @rx gives
// them, and the literal operators (@contains, @beginsWith, @endsWith, @streq,
// @within, @pm, @validateByteRange). Its patterns are joined into few
// nondeterministic automata, from which deterministic ones are built lazily,
// state by state, as texts ask for them (Thompson 1968; Aho, Sethi, Ullman
// 1986, section 3.7). A warm scan is one table look-up a byte, without
// allocation and without a lock.
//
// What is promised: a pattern that matches is always reported. On a scan that
// returns true, a pattern for which [Set.Exact] is true is reported only if it
// matches, for any bytes, so that its absence and its presence are both proof.
// A scan that returns false has reported too much, never too little.
//
// Bounded: the memory of a Set, the work that one scan may put into new states,
// and the size of one pattern. A text that asks for more gets false, not time.
package dfa

// Package ban is the stage "ban": it refuses addresses for a time, because of what
// they did or because an operator said so.
//
//	refusal -> Watcher (an Observer): how often, by whom? -> Table -> stage: refused until ...
//	                                     admin, other nodes -^  \-> append-only file
//
// The stage stands behind the access rules, so that an allow rule wins over every
// ban. A refusal by the stage itself counts for nothing: a ban ends when its time is
// over, whatever the client does meanwhile.
//
// Everything that clients can grow is bounded: the bans, and the counts that lead to
// them.
package ban

// Package policy turns a policy file into a filter.Pipeline, and keeps it in
// force while its files change.
//
//	file -> Policy (decoded strictly, a place for every value)
//	     -> Compiled (pipeline, files to watch, what was loaded)
//	     -> Runtime (an engine, a watcher, list refreshers, reloads)
//
// Every fault is reported at once, with file, line and column. A policy with a
// fault is never put in force; the one before it stays.
//
// stages.go is the order in which a request passes the stages.
package policy

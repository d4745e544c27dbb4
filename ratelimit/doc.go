// Package ratelimit is the stage "tier": it refuses clients that make more
// requests than the first tier that matches them grants.
//
//	Request -> first tier that matches -> key -> table of the tier -> under the limit? next : refuse
//
// A tier is a token bucket for each key, with the semantics of
// golang.org/x/time/rate: it holds burst tokens, a request takes one, and they
// come back at a steady rate. In place of a rate.Limiter a table keeps one
// number for each key, the time at which its bucket is full again. The tests hold
// both against each other.
//
// Tables are bounded in bytes. A key leaves its table when its bucket is full
// again, and never before: nobody is let in because others came.
package ratelimit

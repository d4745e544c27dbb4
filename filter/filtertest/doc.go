// Package filtertest builds requests for tests and holds stages against what
// every stage promises.
//
//	r := filtertest.Post("/login", "application/json", `{}`, filtertest.From("192.0.2.7"))
//	filtertest.Stage(t, stage)
//
// It is for tests only.
package filtertest

// Package differ holds the fast engine of the payload stage against the plain one:
// random requests and random rule sets, both engines asked, every difference made
// small and printed as a case that can be kept.
//
// What is compared is the decision (verdict, reason, rule, status), the score, the
// threshold and the list of rules that matched. A request that the fast engine has
// shown to match no rule must have no finding at all in the plain engine. Requests to
// which the plain engine itself has several answers are set aside and counted.
//
//	go test ./rules/waf/differ                                   # some seconds
//	go test ./rules/waf/differ -run Long -for 5m -seed 7 -timeout 0
//	go test ./rules/waf/differ -fuzz FuzzRequest
//	go run ./bench/differ -for 30m -seed 7                       # the same as Long
package differ

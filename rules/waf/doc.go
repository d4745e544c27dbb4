// Package waf is the payload stage: the OWASP Core Rule Set and the operator's
// own SecLang rules, evaluated by Coraza.
//
//	Config -> directives -> engine (shared by content) -> Stage.Check -> Decision
//
// Each request goes through one types.Transaction. Headers are judged first; the
// body is read only if its type is one that the rules can read, and only up to
// the policy's limit. What is not inspected streams past: gRPC, WebSocket,
// protobuf, binary uploads.
//
// A body is prepared before the engine sees it (see body.go): decompressed,
// freed of a byte order mark, newline-delimited JSON put into an array, text
// shown to the rules as an argument. The upstream always gets the client's bytes.
//
// Response phases (3 to 5) are loaded and never run.
package waf

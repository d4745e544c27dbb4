// Package rules reads what operators write: YAML with a place for every value,
// decoded strictly, and every fault at once.
//
// Decode reads a document into a struct, and Schema describes the same struct as
// JSON Schema, both from the same fields and tags, so that an editor and the
// decoder agree on what a good document is.
//
// The packages below it are the lists and the stages that rules describe.
package rules

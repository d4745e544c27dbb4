// Package rules reads what operators write: YAML with a place for every value,
// decoded strictly, and every fault at once.
//
// The packages below it are the lists and the stages that rules describe.
package rules

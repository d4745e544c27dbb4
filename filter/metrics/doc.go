// Package metrics is the Prometheus view of moat.
//
// Metrics counts decisions as a filter.Observer and is itself a
// prometheus.Collector, so that one object, with its counts, outlives a reload
// of the host and can be registered into many registries.
//
// No label holds anything that a client sent. Labels are names of closed sets
// (verdict, stage, reason, status, result) and names that the operator gave
// (list, policy).
package metrics

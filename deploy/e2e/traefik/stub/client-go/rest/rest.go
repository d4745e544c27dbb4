// Package rest stands in for the Kubernetes client: the process that the tests
// run is never in a cluster, which is all that Traefik's telemetry asks.
package rest

import "errors"

// ErrNotInCluster is what InClusterConfig returns.
var ErrNotInCluster = errors.New("not in a cluster")

// Config is empty.
type Config struct{}

// InClusterConfig returns ErrNotInCluster.
func InClusterConfig() (*Config, error) { return nil, ErrNotInCluster }

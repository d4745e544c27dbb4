// Package v1 stands in for the types of the Kubernetes client.
package v1

// GetOptions is empty.
type GetOptions struct{}

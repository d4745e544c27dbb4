// Package errors stands in for the errors of the Kubernetes client.
package errors

// IsForbidden reports false.
func IsForbidden(error) bool { return false }

// IsNotFound reports false.
func IsNotFound(error) bool { return false }

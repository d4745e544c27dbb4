// Package ext stands in for the module of this name, which is not published:
// Traefik replaces it by a folder of its own repository.
package ext

// HTTP is empty in the published Traefik too.
type HTTP struct{}

// Router is empty in the published Traefik too.
type Router struct{}

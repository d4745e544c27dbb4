// Package decide answers a proxy's questions whether a request may pass, by the
// protocol that deploy/traefik/PROTOCOL.md describes: the engine decides as in any
// other host, and what it would do to the request and its answer is told instead
// of done.
//
// A Handler also answers forward authentication: Traefik's forwardAuth, nginx's
// auth_request and Caddy's forward_auth.
package decide

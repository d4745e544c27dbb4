// Package clientip is the one place that turns the address of a connection and
// the forwarding headers of a request into the address of the client.
//
// A forwarding header is a claim. It is worth something only as far as trusted
// proxies have written it: the last element comes from the peer, the one before
// it from the peer's peer, and so on. So the header is read from the right, and
// the first address that is no trusted proxy is the client. Whatever stands left
// of it was written by the client and is not even looked at.
//
// The package imports the standard library only.
package clientip

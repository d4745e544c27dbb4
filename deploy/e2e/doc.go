// Package e2e runs one table of requests and a set of scenarios against real
// servers with moat inside: "moat serve", Caddy with the moat directive, and Traefik
// with the plugin and a daemon.
//
// The table, testdata/conformance.json, holds requests as raw bytes and what
// must be answered. The package reads the rows, fills in their variables, sends
// them over TCP from the address that each row names, and checks the answers.
// The servers, fixtures and scenarios are in the tests.
package e2e

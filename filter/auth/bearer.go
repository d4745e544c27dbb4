package auth

import (
	"strings"

	"github.com/moatwaf/moat/filter"
)

// BearerConfig configures Bearer.
type BearerConfig struct {
	// Tokens is what tokens are held against.
	Tokens TokenConfig
}

// Bearer is the method of RFC 6750 section 2.1: a JWT (RFC 7519) in the
// Authorization field. Tokens in form or query are not taken (RFC 9700 section
// 4.3.2). It is safe for concurrent use.
type Bearer struct {
	tokens *tokens
}

// NewBearer reads the keys and the revoked tokens. The error joins every fault;
// those in files are rules.Errors with file, line and column.
func NewBearer(c BearerConfig) (*Bearer, error) {
	tokens, err := newTokens("bearer", c.Tokens)
	if err != nil {
		return nil, err
	}
	return &Bearer{tokens: tokens}, nil
}

// Name implements Method.
func (*Bearer) Name() string { return "bearer" }

// Find implements Method. A scheme without a token is Malformed.
func (*Bearer) Find(r *filter.Request) (string, Found) {
	token, found := authorization(r, "Bearer")
	if found == Present && token == "" {
		return "", Malformed
	}
	return token, found
}

// Challenge implements Method (RFC 6750 section 3).
func (*Bearer) Challenge(realm string, p Problem) string {
	b := appendParam([]byte("Bearer "), "realm", realm)
	code := ""
	switch p.Kind {
	case NoProblem:
		return string(b)
	case BadRequest:
		code = "invalid_request"
	case BadCredentials:
		code = "invalid_token"
	case MissingScope:
		code = "insufficient_scope"
	}
	b = appendParam(b, "error", code)
	if p.Description != "" {
		b = appendParam(b, "error_description", p.Description)
	}
	if len(p.Scopes) > 0 {
		b = appendParam(b, "scope", strings.Join(p.Scopes, " "))
	}
	return string(b)
}

// Verify implements Method.
func (b *Bearer) Verify(r *filter.Request, token string) (*filter.Identity, error) {
	return b.tokens.verify(r, token)
}

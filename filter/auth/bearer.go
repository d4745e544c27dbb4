package auth

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/moatwaf/moat/filter"
)

// BearerConfig configures Bearer.
type BearerConfig struct {
	// Tokens is what tokens are held against.
	Tokens TokenConfig
	// ResourceMetadata is the https URL of the metadata of this resource (RFC
	// 9728 section 5.1), where clients learn who issues tokens for it; empty
	// tells none.
	ResourceMetadata string
}

// Bearer is the method of RFC 6750 section 2.1: a JWT (RFC 7519) in the
// Authorization field. Tokens in form or query are not taken (RFC 9700 section
// 4.3.2). It is safe for concurrent use.
type Bearer struct {
	tokens   *tokens
	metadata string
}

// NewBearer reads the keys and the revoked tokens. The error joins every fault;
// those in files are rules.Errors with file, line and column.
func NewBearer(c BearerConfig) (*Bearer, error) {
	var errs []error
	if u, err := url.Parse(c.ResourceMetadata); c.ResourceMetadata != "" &&
		(err != nil || u.Scheme != "https" || u.Host == "" || u.Fragment != "" || !isPrintable(c.ResourceMetadata)) {
		errs = append(errs, fmt.Errorf("bearer: the resource metadata %q is no https URL", c.ResourceMetadata))
	}
	tokens, err := newTokens("bearer", c.Tokens, false)
	if errs = append(errs, err); errors.Join(errs...) != nil {
		return nil, errors.Join(errs...)
	}
	return &Bearer{tokens: tokens, metadata: c.ResourceMetadata}, nil
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

// Challenge implements Method (RFC 6750 section 3, RFC 9470 section 3, RFC 9728
// section 5.1).
func (m *Bearer) Challenge(realm string, p Problem) string {
	b := appendParam([]byte("Bearer "), "realm", realm)
	switch p.Kind {
	case NoProblem:
	case BadRequest:
		b = appendParam(b, "error", "invalid_request")
	case BadCredentials:
		b = appendParam(b, "error", "invalid_token")
	case MissingScope:
		b = appendParam(b, "error", "insufficient_scope")
	case StaleProof:
		b = appendParam(b, "error", "insufficient_user_authentication")
	}
	if p.Description != "" {
		b = appendParam(b, "error_description", p.Description)
	}
	if len(p.Scopes) > 0 {
		b = appendParam(b, "scope", strings.Join(p.Scopes, " "))
	}
	if len(p.ACR) > 0 {
		b = appendParam(b, "acr_values", strings.Join(p.ACR, " "))
	}
	if p.MaxAge > 0 {
		b = appendParam(b, "max_age", strconv.FormatInt(int64(p.MaxAge/time.Second), 10))
	}
	if m.metadata != "" {
		b = appendParam(b, "resource_metadata", m.metadata)
	}
	return string(b)
}

// Verify implements Method.
func (b *Bearer) Verify(r *filter.Request, token string) (*filter.Identity, error) {
	return b.tokens.verify(r, token)
}

// Package github stands in for the client with which Traefik looks for new
// versions of itself, which the tests never do.
package github

import (
	"context"
	"errors"
	"net/http"
)

// Client reaches nobody.
type Client struct{ Repositories Repositories }

// Repositories has none.
type Repositories struct{}

// Release is what Traefik reads of a release.
type Release struct{ TagName string }

// Response is an answer.
type Response struct{ *http.Response }

// Option is ignored.
type Option struct{}

// WithURLs returns an option without effect.
func WithURLs(_, _ *string) Option { return Option{} }

// NewClient returns a client that reaches nobody.
func NewClient(...Option) (*Client, error) { return &Client{}, nil }

// ListReleases returns an error.
func (Repositories) ListReleases(context.Context, string, string, any) ([]Release, *Response, error) {
	return nil, nil, errors.New("no look for new versions")
}

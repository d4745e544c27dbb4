package policy

import (
	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/filter/cors"
	"github.com/moatwaf/moat/filter/front"
)

// front compiles what the policy says of answers and of the way to the upstream.
func (l *loader) front() filter.Front {
	return front.New(front.Config{CORS: l.cors(), Identity: l.identityHeaders()})
}

// identityHeaders compiles auth.identity_headers; nil where nobody is asked.
func (l *loader) identityHeaders() *auth.IdentityHeaders {
	if l.policy.Auth == nil {
		return nil
	}
	config := auth.DefaultIdentityHeaders()
	at := l.policy.Auth.Value.IdentityHeaders
	if at.Set() {
		config = at.Value
	}
	headers, err := auth.NewIdentityHeaders(config)
	if err != nil {
		l.add(at.Pos, at.Path, err)
		return nil
	}
	return headers
}

// cors compiles the cors section; nil where the upstream answers preflights.
func (l *loader) cors() *cors.Policy {
	if l.policy.CORS == nil {
		return nil
	}
	section := *l.policy.CORS
	c := section.Value
	policy, err := cors.New(cors.Config{
		Origins:     c.Origins,
		Methods:     c.Methods,
		Headers:     c.Headers,
		Expose:      c.Expose,
		Credentials: c.Credentials,
		MaxAge:      c.MaxAge,
	})
	if err != nil {
		l.add(section.Pos, section.Path, err)
		return nil
	}
	return policy
}

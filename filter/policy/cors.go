package policy

import (
	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/cors"
	"github.com/moatwaf/moat/filter/front"
)

// front compiles what the policy says of answers and of the way to the upstream.
func (l *loader) front() filter.Front {
	return front.New(front.Config{CORS: l.cors()})
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

package policy

import (
	"path/filepath"
	"strings"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/filter/cors"
	"github.com/moatwaf/moat/filter/front"
	"github.com/moatwaf/moat/filter/profile"
	"github.com/moatwaf/moat/filter/respond"
	"github.com/moatwaf/moat/rules"
)

// front compiles what the policy says of answers and of the way to the upstream.
func (l *loader) front() filter.Front {
	return front.New(front.Config{Responder: l.responder(), CORS: l.cors(), Identity: l.identityHeaders()})
}

// responder returns who writes refusals: the default profile, an embedded one, or one
// that the operator wrote.
func (l *loader) responder() front.Responder {
	r := l.policy.Responses
	name := r.Profile.Value
	if name == respond.DefaultProfile {
		return respond.Default() // strict by itself
	}
	p, ok := profile.ByName(name)
	if !ok {
		if ext := filepath.Ext(name); ext != ".yaml" && ext != ".yml" {
			names := append([]string{respond.DefaultProfile}, profile.Names()...)
			hint := rules.Suggest(name, names)
			if hint == "" {
				hint = "write " + strings.Join(names, ", ") + ", or a file of your own that ends in .yaml"
			}
			l.errs = append(l.errs, r.Profile.Errorf(hint, "there is no profile %q", name))
			return respond.Default()
		}
		data, ok := l.file(r.Profile)
		if !ok {
			return respond.Default()
		}
		var err error
		if p, err = profile.Read(l.path(name), data); err != nil {
			l.add(r.Profile.Pos, r.Profile.Path, err)
			return respond.Default()
		}
	}
	if r.Strict {
		return p.Strict()
	}
	return p
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
	var passed []string
	for _, m := range l.policy.Auth.Value.Methods {
		if f := m.Value.Forward; f != nil {
			passed = append(passed, f.Value.UpstreamHeaders...)
			if !at.Set() {
				at.Pos, at.Path = f.Pos, f.Path
			}
		}
	}
	headers, err := auth.NewIdentityHeaders(config, passed...)
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

package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/rules"
)

// authStages compiles the auth section into its two stages: who is it, and may
// they; nil where nobody is asked.
func (l *loader) authStages(env *conditions) (who, may filter.Stage, conceals bool) {
	if l.policy.Auth == nil {
		return nil, nil, false
	}
	section := *l.policy.Auth
	a := section.Value
	config := auth.Config{Realm: "moat"}
	if a.Realm.Set() {
		config.Realm = a.Realm.Value
	}
	if len(a.Methods) == 0 {
		l.errs = append(l.errs, section.Errorf("write bearer or basic", "auth.methods is empty: nobody could prove who they are"))
	}
	var names []string
	for _, m := range a.Methods {
		method, name := l.authMethod(m)
		names = append(names, name)
		if method != nil {
			config.Methods = append(config.Methods, method)
		}
	}
	for i, q := range a.Require {
		config.Requirements = append(config.Requirements, l.requirement(i, q, names, env))
	}
	if a.Require == nil {
		config.Requirements = []auth.Requirement{{ID: "default", Auth: auth.Required}}
	}
	l.summary.AuthMethods, l.summary.Requirements = len(a.Methods), len(config.Requirements)
	if len(l.errs) > 0 {
		return nil, nil, false
	}
	compiled, err := auth.New(config)
	if err != nil {
		l.add(section.Pos, section.Path, err)
		return nil, nil, false
	}
	return compiled.Authenticate(), compiled.Authorize(), compiled.Conceals()
}

// authMethod compiles one item of auth.methods. It returns the method's name even
// if there was a fault in it, and nil then.
func (l *loader) authMethod(at rules.Located[AuthMethod]) (auth.Method, string) {
	switch m := at.Value; {
	case m.Bearer != nil && m.Basic != nil:
		l.errs = append(l.errs, m.Basic.Errorf("begin an item of its own for each method", "one item holds two methods"))
		return nil, "bearer"
	case m.Bearer != nil:
		return l.bearer(m.Bearer.Value), "bearer"
	case m.Basic != nil:
		return l.basic(m.Basic.Value), "basic"
	}
	l.errs = append(l.errs, at.Errorf("write bearer or basic", "the item names no method"))
	return nil, ""
}

func (l *loader) bearer(b Bearer) auth.Method {
	if !b.JWKS.Set() {
		return nil // the decoder has reported it
	}
	keys, ok := l.file(b.JWKS)
	if !ok {
		return nil
	}
	config := auth.TokenConfig{
		Issuer:     b.Issuer,
		Audience:   b.Audience,
		JWKS:       auth.File{Name: l.path(b.JWKS.Value), Data: keys},
		Algorithms: values(b.Algorithms),
		Skew:       b.Skew.Value,
	}
	if b.Skew.Set() && b.Skew.Value == 0 {
		config.Skew = -1 // no tolerance; 0 would be the default
	}
	if b.Revoked.Set() {
		revoked, ok := l.file(b.Revoked)
		if !ok {
			return nil
		}
		config.Revoked = auth.File{Name: l.path(b.Revoked.Value), Data: revoked}
	}
	method, err := auth.NewBearer(auth.BearerConfig{Tokens: config})
	if err != nil {
		at := b.JWKS
		if len(b.Algorithms) > 0 && strings.Contains(err.Error(), "algorithm") {
			at = b.Algorithms[0]
		}
		l.add(at.Pos, at.Path, err)
		return nil
	}
	return method
}

func (l *loader) basic(b Basic) auth.Method {
	if !b.Htpasswd.Set() {
		return nil
	}
	users, ok := l.file(b.Htpasswd)
	if !ok {
		return nil
	}
	method, err := auth.NewBasic(auth.BasicConfig{Htpasswd: auth.File{Name: l.path(b.Htpasswd.Value), Data: users}})
	if err != nil {
		l.add(b.Htpasswd.Pos, b.Htpasswd.Path, err)
		return nil
	}
	return method
}

// requirement compiles one item of auth.require.
func (l *loader) requirement(i int, q Requirement, methods []string, env *conditions) auth.Requirement {
	out := auth.Requirement{ID: q.ID, Roles: q.Roles, Scopes: q.Scopes, Methods: values(q.Methods), Conceal: q.Conceal}
	if out.ID == "" {
		out.ID = fmt.Sprintf("require[%d]", i)
	}
	if q.Auth.Value == "none" {
		out.Auth = auth.None
		if len(q.Roles) > 0 || len(q.Scopes) > 0 || len(q.Methods) > 0 || q.Conceal {
			l.errs = append(l.errs, q.Auth.Errorf("remove auth: none, or the rest", "nobody is asked here, and yet roles, scopes, methods or conceal are set"))
		}
	}
	for _, m := range q.Methods {
		if !slices.Contains(methods, m.Value) {
			l.errs = append(l.errs, m.Errorf(rules.Suggest(m.Value, methods), "auth.methods has no method %q", m.Value))
		}
	}
	// A requirement without a compiled condition would hold for every request.
	// That is what an empty one means; after a fault nothing is put in force.
	out.Match, _ = l.condition(&q.Condition, env.before)
	return out
}

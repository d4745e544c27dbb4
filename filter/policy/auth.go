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
		l.errs = append(l.errs, section.Errorf(kindsHint, "auth.methods is empty: nobody could prove who they are"))
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

// kindsHint names the methods.
const kindsHint = "write bearer, basic, api_key, session, introspection, signed_url, mtls or forward"

// authMethod compiles one item of auth.methods. It returns the method's name even
// if there was a fault in it, and nil then.
func (l *loader) authMethod(at rules.Located[AuthMethod]) (auth.Method, string) {
	var name string
	var compile func() auth.Method
	written := 0
	add := func(isSet bool, kind string, f func() auth.Method) {
		if !isSet {
			return
		}
		if written++; written == 1 {
			name, compile = kind, f
		}
	}
	m := at.Value
	add(m.Bearer != nil, "bearer", func() auth.Method { return l.bearer(m.Bearer.Value) })
	add(m.Basic != nil, "basic", func() auth.Method { return l.basic(m.Basic.Value) })
	add(m.APIKey != nil, "api_key", func() auth.Method { return l.apiKey(m.APIKey.Value) })
	add(m.Session != nil, "session", func() auth.Method { return l.session(*m.Session) })
	add(m.SignedURL != nil, "signed_url", func() auth.Method { return l.signedURL(m.SignedURL.Value) })
	add(m.MTLS != nil, "mtls", func() auth.Method { return l.mtls(*m.MTLS) })
	add(m.Forward != nil, "forward", func() auth.Method { return l.forward(m.Forward.Value) })
	add(m.Introspection != nil, "introspection", func() auth.Method { return l.introspection(m.Introspection.Value) })
	switch written {
	case 0:
		l.errs = append(l.errs, at.Errorf(kindsHint, "the item names no method"))
		return nil, ""
	case 1:
		return compile(), name
	}
	l.errs = append(l.errs, at.Errorf("begin an item of its own for each method", "one item holds %d methods", written))
	return nil, name
}

func (l *loader) bearer(b Bearer) auth.Method {
	tokens, ok := l.tokens(b.Tokens, false)
	if !ok {
		return nil
	}
	config := auth.BearerConfig{Tokens: tokens, ResourceMetadata: b.ResourceMetadata.Value}
	method, err := keptMethod(l, "bearer", config, func() (*auth.Bearer, error) { return auth.NewBearer(config) })
	if err != nil {
		if b.ResourceMetadata.Set() && strings.Contains(err.Error(), "resource metadata") {
			l.add(b.ResourceMetadata.Pos, b.ResourceMetadata.Path, err)
		} else {
			l.tokenFaults(b.Tokens, err)
		}
		return nil
	}
	return method
}

func (l *loader) session(at rules.Located[Session]) auth.Method {
	s := at.Value
	t := Tokens{Issuer: s.Issuer, Audience: s.Audience, JWKS: s.JWKS, Algorithms: s.Algorithms, Revoked: s.Revoked, Skew: s.Skew}
	if !s.JWKS.Set() && !s.Encryption.Set() {
		l.errs = append(l.errs, at.Errorf("write jwks for signed tokens, encryption for encrypted ones, or both", "a session without keys"))
		return nil
	}
	tokens, ok := l.tokens(t, s.Encryption.Set())
	if !ok || !s.Cookie.Set() {
		return nil
	}
	config := auth.SessionConfig{Cookie: s.Cookie.Value, Tokens: tokens}
	if s.Encryption.Set() {
		if config.Encryption, ok = l.authFile(s.Encryption); !ok {
			return nil
		}
	}
	method, err := keptMethod(l, "session", config, func() (*auth.Session, error) { return auth.NewSession(config) })
	if err != nil {
		switch {
		case strings.Contains(err.Error(), "cookie"):
			l.add(s.Cookie.Pos, s.Cookie.Path, err)
		case !s.JWKS.Set():
			l.add(s.Encryption.Pos, s.Encryption.Path, err)
		default:
			l.tokenFaults(t, err)
		}
		return nil
	}
	return method
}

// tokens reads the files that tokens are held against, the keys among them unless they
// may miss and do. It returns false after a fault.
func (l *loader) tokens(t Tokens, keysMayMiss bool) (auth.TokenConfig, bool) {
	config := auth.TokenConfig{
		Issuer:     t.Issuer,
		Audience:   t.Audience,
		Algorithms: values(t.Algorithms),
		Skew:       t.Skew.Value,
	}
	if t.Skew.Set() && t.Skew.Value == 0 {
		config.Skew = -1 // no tolerance; 0 would be the default
	}
	var ok bool
	switch {
	case !t.JWKS.Set():
		if !keysMayMiss {
			return config, false // the decoder has reported it
		}
	case isURL(t.JWKS.Value):
		if config.Keys = l.remoteKeys(t.JWKS, config.Algorithms); config.Keys == nil {
			return config, false
		}
	default:
		if config.JWKS, ok = l.authFile(t.JWKS); !ok {
			return config, false
		}
	}
	if t.Revoked.Set() {
		if config.Revoked, ok = l.authFile(t.Revoked); !ok {
			return config, false
		}
	}
	return config, true
}

// tokenFaults reports what was wrong with a method of tokens, at the value that is
// the most likely cause.
func (l *loader) tokenFaults(t Tokens, err error) {
	at := t.JWKS
	if len(t.Algorithms) > 0 && strings.Contains(err.Error(), "algorithm") {
		at = t.Algorithms[0]
	}
	l.add(at.Pos, at.Path, err)
}

// authFile reads a file that a method names.
func (l *loader) authFile(at rules.Located[string]) (auth.File, bool) {
	data, ok := l.file(at)
	return auth.File{Name: l.path(at.Value), Data: data}, ok
}

func (l *loader) introspection(i Introspection) auth.Method {
	if !i.SecretFile.Set() || !i.URL.Set() {
		return nil
	}
	secret, ok := l.file(i.SecretFile)
	if !ok {
		return nil
	}
	// Both take the same field: what stands first must know which tokens to leave.
	bearer, self := -1, -1
	for n, m := range l.policy.Auth.Value.Methods {
		switch {
		case m.Value.Bearer != nil:
			bearer = n
		case m.Value.Introspection != nil:
			self = n
		}
	}
	if bearer >= 0 && bearer < self {
		l.errs = append(l.errs, i.URL.Errorf("write introspection in front of bearer: it leaves JWTs to it", "the bearer method takes every token before"))
		return nil
	}
	config := auth.IntrospectionConfig{
		URL: i.URL.Value, ClientID: i.ClientID, ClientSecret: strings.TrimSpace(string(secret)), Audience: i.Audience, Cache: i.Cache,
	}
	method, err := keptMethod(l, fmt.Sprint("introspection ", bearer >= 0), config, func() (*auth.Introspection, error) {
		return auth.NewIntrospection(config, bearer >= 0)
	})
	if err != nil {
		l.add(i.URL.Pos, i.URL.Path, err)
		return nil
	}
	return method
}

func (l *loader) apiKey(k APIKey) auth.Method {
	if !k.File.Set() {
		return nil
	}
	keys, ok := l.authFile(k.File)
	if !ok {
		return nil
	}
	config := auth.APIKeyConfig{Header: k.Header.Value, Query: k.Query, Keys: keys}
	method, err := keptMethod(l, "api_key", config, func() (*auth.APIKey, error) { return auth.NewAPIKey(config) })
	if err != nil {
		at := k.File
		if k.Header.Set() {
			at = k.Header
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
	users, ok := l.authFile(b.Htpasswd)
	if !ok {
		return nil
	}
	config := auth.BasicConfig{Htpasswd: users}
	if b.Groups.Set() {
		if config.Groups, ok = l.authFile(b.Groups); !ok {
			return nil
		}
	}
	method, err := keptMethod(l, "basic", config, func() (*auth.Basic, error) { return auth.NewBasic(config) })
	if err != nil {
		l.add(b.Htpasswd.Pos, b.Htpasswd.Path, err)
		return nil
	}
	return method
}

// requirement compiles one item of auth.require.
func (l *loader) requirement(i int, q Requirement, methods []string, env *conditions) auth.Requirement {
	out := auth.Requirement{
		ID: q.ID, Roles: q.Roles, Scopes: q.Scopes, Methods: values(q.Methods), Conceal: q.Conceal,
		ACR: q.ACR, MaxAge: q.MaxAge, Login: q.Login, Realm: q.Realm.Value,
	}
	if out.ID == "" {
		out.ID = fmt.Sprintf("require[%d]", i)
	}
	if q.Auth.Value == "none" {
		out.Auth = auth.None
		if len(q.Roles) > 0 || len(q.Scopes) > 0 || len(q.Methods) > 0 || q.Conceal ||
			!q.If.Empty() || len(q.ACR) > 0 || q.MaxAge > 0 || q.Login != "" || q.Realm.Set() {
			l.errs = append(l.errs, q.Auth.Errorf("remove auth: none, or the rest", "nobody is asked here, and yet it is said what of a caller"))
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
	out.If, _ = l.condition(&q.If, env.after)
	return out
}

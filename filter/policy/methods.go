package policy

import (
	"crypto/sha256"
	"fmt"

	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/rules"
)

// methodKey is the identity of a method: everything that it was made of, the content
// of files among it, and not their names.
type methodKey [sha256.Size]byte

// keptMethod returns the method of the policy in force that was made of the same, with
// the credentials that it remembers; or else a new one. A method that a change of any
// kind concerns remembers nothing: a password that was changed, a token that was
// revoked, a key that was withdrawn.
//
// Keys that come from a URL count by their identity, for they change by themselves.
func keptMethod[M auth.Method](l *loader, kind string, config any, make func() (M, error)) (auth.Method, error) {
	key := methodKey(sha256.Sum256(fmt.Appendf(nil, "%s %#v", kind, config)))
	if m := l.state.method(key); m != nil {
		l.methods[key] = m
		return m, nil
	}
	m, err := make()
	if err != nil {
		return nil, err
	}
	l.methods[key] = m
	return m, nil
}

// method returns the method in force with an identity; nil if there is none.
func (s *state) method(key methodKey) auth.Method {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.methods[key]
}

func (l *loader) signedURL(u SignedURL) auth.Method {
	if !u.Keys.Set() {
		return nil
	}
	keys, ok := l.authFile(u.Keys)
	if !ok {
		return nil
	}
	config := auth.SignedURLConfig{Keys: keys, Query: u.Query, MaxLifetime: u.MaxLifetime}
	method, err := keptMethod(l, "signed_url", config, func() (*auth.SignedURL, error) { return auth.NewSignedURL(config) })
	if err != nil {
		l.add(u.Keys.Pos, u.Keys.Path, err)
		return nil
	}
	return method
}

func (l *loader) mtls(at rules.Located[MTLS]) auth.Method {
	m := at.Value
	config := auth.MTLSConfig{Name: auth.CertificateName(m.Name)}
	if m.Name == "" {
		config.Name = auth.CertificateCN
	}
	if m.Allow != nil {
		config.Allow = []auth.AllowedCertificate{}
	}
	for _, a := range m.Allow {
		config.Allow = append(config.Allow, auth.AllowedCertificate(a))
	}
	ok := true
	if m.CA.Set() {
		if config.CA, ok = l.authFile(m.CA); !ok {
			return nil
		}
	}
	if m.Revoked.Set() {
		if config.Revoked, ok = l.authFile(m.Revoked); !ok {
			return nil
		}
	}
	method, err := keptMethod(l, "mtls", config, func() (*auth.MTLS, error) { return auth.NewMTLS(config) })
	if err != nil {
		l.add(at.Pos, at.Path, err)
		return nil
	}
	return method
}

func (l *loader) forward(f Forward) auth.Method {
	if !f.URL.Set() {
		return nil
	}
	// It takes every request: nobody behind it would ever be asked.
	methods := l.policy.Auth.Value.Methods
	if methods[len(methods)-1].Value.Forward == nil {
		l.errs = append(l.errs, f.URL.Errorf("write forward behind all other methods", "the service decides about every request, and methods behind it about none"))
		return nil
	}
	config := auth.ForwardConfig{
		URL: f.URL.Value, Cleartext: f.Cleartext, RequestHeaders: f.RequestHeaders, UpstreamHeaders: f.UpstreamHeaders,
		ClientHeaders: f.ClientHeaders,
		Subject:       f.Subject, Roles: f.Roles, Scopes: f.Scopes, Timeout: f.Timeout,
	}
	if f.CA.Set() {
		var ok bool
		if config.CA, ok = l.authFile(f.CA); !ok {
			return nil
		}
	}
	method, err := keptMethod(l, "forward", config, func() (*auth.Forward, error) { return auth.NewForward(config) })
	if err != nil {
		l.add(f.URL.Pos, f.URL.Path, err)
		return nil
	}
	return method
}

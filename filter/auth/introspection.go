package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/moatwaf/moat/filter"
)

// IntrospectionConfig says who is asked about tokens.
type IntrospectionConfig struct {
	// URL is the https URL of the endpoint (RFC 7662 section 2); http is taken
	// for loopback addresses.
	URL string
	// ClientID and ClientSecret are the filter's own credentials there.
	ClientID, ClientSecret string
	// Audience must be the aud of the answer, or one of its values; empty takes
	// any, for servers that do not tell it.
	Audience string
	// Cache is how long an answer is good for at most: 0 takes
	// DefaultIntrospectionCache. A token that is revoked goes on for as long.
	Cache time.Duration
	// Client asks; nil takes one that follows no redirect.
	Client *http.Client
}

// DefaultIntrospectionCache is how long an answer is good for.
const DefaultIntrospectionCache = time.Minute

// Bounds of introspection.
const (
	introspectionTimeout = 5 * time.Second
	maxIntrospection     = 64 << 10 // bytes of an answer
	maxAsking            = 64       // questions at a time, for the issuer's sake and ours
	maxInactive          = 16 << 10 // tokens that are known not to be active
	inactiveFor          = 10 * time.Second
)

// Introspection is the method of RFC 7662: a token that only its issuer can read, in
// the Authorization field as RFC 6750 section 2.1 has it. It is safe for concurrent
// use.
//
// Answers are remembered in bounded room: of an active token for Cache or until it
// expires, of another one for ten seconds. An issuer that does not answer is an error
// of the stage, never a pass and never a 401.
//
// A JWT is left to the bearer method, if that stands behind this one.
type Introspection struct {
	config IntrospectionConfig
	opaque bool // JWTs are left to others
	seen   *tokenMemory
	asking chan struct{}

	mu       sync.Mutex
	inactive map[uint64]time.Time // by the hash of the token, until when
}

// NewIntrospection checks a configuration. withBearer leaves tokens that look like a
// JWT to the bearer method.
func NewIntrospection(c IntrospectionConfig, withBearer bool) (*Introspection, error) {
	var errs []error
	if err := checkKeysURL(c.URL); err != nil {
		errs = append(errs, fmt.Errorf("introspection: the URL %q is not one of https", c.URL))
	}
	if c.ClientID == "" || c.ClientSecret == "" {
		errs = append(errs, errors.New("introspection: the client's id or secret is empty: the endpoint would answer nobody (RFC 7662 section 2.1)"))
	}
	if c.Cache < 0 {
		errs = append(errs, errors.New("introspection: a negative time"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if c.Cache == 0 {
		c.Cache = DefaultIntrospectionCache
	}
	if c.Client == nil {
		c.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &Introspection{
		config: c, opaque: withBearer, seen: newTokenMemory(),
		asking: make(chan struct{}, maxAsking), inactive: make(map[uint64]time.Time),
	}, nil
}

// Name implements Method.
func (*Introspection) Name() string { return "introspection" }

// Find implements Method.
func (i *Introspection) Find(r *filter.Request) (string, Found) {
	token, found := authorization(r, "Bearer")
	switch {
	case found == Present && token == "":
		return "", Malformed
	case found == Present && i.opaque && strings.Count(token, ".") == 2:
		return "", Absent
	}
	return token, found
}

// Challenge implements Method (RFC 6750 section 3).
func (*Introspection) Challenge(realm string, p Problem) string {
	return new(Bearer).Challenge(realm, p)
}

var (
	errInactive       = &Rejection{Detail: "token not active", Description: invalid}
	errForeignToken   = &Rejection{Detail: "token for another audience", Description: invalid}
	errNobody         = &Rejection{Detail: "active token of nobody", Description: invalid}
	errTokenCharacter = &Rejection{Detail: "characters that no token has", Description: invalid}
)

// Verify implements Method.
func (i *Introspection) Verify(r *filter.Request, token string) (*filter.Identity, error) {
	if r.Now.IsZero() {
		return nil, errors.New("the request has no time")
	}
	if len(token) > maxToken {
		return nil, errTokenTooLong
	}
	if !isB64Token(token) {
		return nil, errTokenCharacter
	}
	hash := i.seen.hash(token)
	if who := i.seen.get(hash, token, r.Now); who != nil {
		return who, nil
	}
	if i.isInactive(hash, r.Now) {
		return nil, errInactive
	}
	select {
	case i.asking <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	answer, err := i.ask(r.Context(), token)
	<-i.asking
	if err != nil {
		return nil, err
	}
	who, until, err := i.read(r.Now, answer)
	if err != nil {
		i.setInactive(hash, r.Now)
		return nil, err
	}
	i.seen.put(hash, token, who, r.Now, until)
	return who, nil
}

// ask sends the question. Its errors hold nothing of the token.
func (i *Introspection) ask(ctx context.Context, token string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, introspectionTimeout)
	defer cancel()
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.config.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errors.New("the question cannot be asked")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	// Both are form-encoded before they are joined (RFC 6749 section 2.3.1).
	req.SetBasicAuth(url.QueryEscape(i.config.ClientID), url.QueryEscape(i.config.ClientSecret))
	res, err := i.config.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the issuer: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the issuer answered %d", res.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxIntrospection+1))
	if err != nil {
		return nil, fmt.Errorf("asking the issuer: %w", err)
	}
	var answer map[string]any
	if len(data) > maxIntrospection || json.Unmarshal(data, &answer) != nil || answer == nil {
		return nil, errors.New("the issuer's answer cannot be read")
	}
	if _, ok := answer["active"].(bool); !ok {
		return nil, errors.New("the issuer's answer does not tell whether the token is active")
	}
	return answer, nil
}

// read makes an identity of an answer (RFC 7662 section 2.2), and tells until when it
// is good.
func (i *Introspection) read(now time.Time, answer map[string]any) (*filter.Identity, time.Time, error) {
	until := now.Add(i.config.Cache)
	if active, _ := answer["active"].(bool); !active {
		return nil, until, errInactive
	}
	if i.config.Audience != "" && !hasString(answer["aud"], i.config.Audience) {
		return nil, until, errForeignToken
	}
	for _, name := range [...]string{"exp", "nbf"} {
		v, there := answer[name]
		if !there {
			continue
		}
		at, ok := v.(float64)
		t := float64(now.UnixMilli()) / 1e3
		switch {
		case !ok:
			return nil, until, errTokenClaims
		case name == "exp" && t >= at:
			return nil, until, errTokenExpired
		case name == "nbf" && t < at-DefaultSkew.Seconds():
			return nil, until, errTokenNotYet
		case name == "exp" && at-t < i.config.Cache.Seconds():
			until = now.Add(time.Duration((at - t) * float64(time.Second)))
		}
	}
	subject := ""
	for _, name := range [...]string{"sub", "username", "client_id"} {
		if subject, _ = answer[name].(string); subject != "" {
			break
		}
	}
	if subject == "" || strings.ContainsRune(subject, utf8.RuneError) {
		return nil, until, errNobody
	}
	return &filter.Identity{
		Subject: subject,
		Method:  i.Name(),
		Scopes:  words(answer["scope"]),
		Roles:   append(stringList(answer["roles"]), stringList(answer["groups"])...),
		Claims:  answer,
	}, until, nil
}

func (i *Introspection) isInactive(hash uint64, now time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	until, ok := i.inactive[hash]
	return ok && now.Before(until) && now.After(until.Add(-inactiveFor-time.Nanosecond))
}

func (i *Introspection) setInactive(hash uint64, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.inactive) >= maxInactive {
		clear(i.inactive)
	}
	i.inactive[hash] = now.Add(inactiveFor)
}

// isB64Token reports whether s is a b64token (RFC 6750 section 2.1).
func isB64Token(s string) bool {
	s = strings.TrimRight(s, "=")
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/", c)
	})
}

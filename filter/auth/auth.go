package auth

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/moatwaf/moat/filter"
)

// Config is the auth section of a policy.
type Config struct {
	// Realm names what the credentials are for: printable ASCII.
	Realm string
	// Methods are the ways to prove who one is. Their order is that of the
	// challenges. If a request has credentials for several, the first one
	// decides; there is no second try.
	Methods []Method
	// Requirements say what is asked where. See the package comment.
	Requirements []Requirement
}

// Demand is whether a requirement asks for a caller.
type Demand uint8

const (
	// Required asks for a verified caller. It is the zero value.
	Required Demand = iota
	// None asks for nobody.
	None
)

// Requirement says what is asked of requests that match.
type Requirement struct {
	// ID names the requirement in audit lines; empty takes "require[i]".
	ID string
	// Match is the condition; nil matches every request. It may look at
	// Request.Path, which is set to each reading in turn.
	Match filter.Matcher
	// Auth says whether a caller is needed at all.
	Auth Demand
	// Roles are the roles of which the caller needs one.
	Roles []string
	// Scopes are the scopes that the caller needs, all of them.
	Scopes []string
	// Methods are the names of the methods that are taken; none takes all.
	Methods []string
	// If is what must hold of a known caller and the request; nil asks nothing.
	// A caller for whom it does not hold is refused with 403.
	If filter.Matcher
	// ACR are the authentication contexts (the acr claim) of which the caller
	// needs one, and MaxAge is how long ago (the auth_time claim) the caller may
	// have proved who they are. A caller who does not fulfil them is asked for
	// a better proof (RFC 9470). Zero values ask for nothing.
	ACR    []string
	MaxAge time.Duration
	// Realm stands in the place of Config.Realm in what is asked here; empty
	// takes that.
	Realm string
	// Login is where a browser that wants HTML is sent instead of being asked:
	// an http or https URL, or a path on this host. {uri} in it becomes the
	// path and query of the request, escaped for a query. Empty asks everybody.
	Login string
	// Conceal answers 404 to whoever may not. See the package comment.
	Conceal bool
}

// maxMethods is the number of bits in a methodSet.
const maxMethods = 64

// methodSet is a set of methods, by their place in the configuration.
type methodSet uint64

// requirement is a compiled Requirement.
type requirement struct {
	id         string
	match      filter.Matcher
	realm      string
	required   bool
	conceal    bool
	roles      []string
	scopes     []string
	methods    methodSet
	rule       filter.Matcher // If
	acr        []string
	maxAge     time.Duration
	login      string
	challenges []string // for a caller without credentials
}

// Auth is a compiled auth section: immutable, and safe for concurrent use. The
// stages of the zero Auth fail on every request.
type Auth struct {
	ready        bool
	methods      []Method
	requirements []requirement
	conceals     bool
}

// New compiles an auth section. It returns every fault of it at once, joined, and
// then no Auth.
func New(c Config) (*Auth, error) {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if err := checkRealm(c.Realm); err != nil {
		errs = append(errs, err)
	}
	if len(c.Methods) > maxMethods {
		return nil, fmt.Errorf("%d methods, %d are allowed", len(c.Methods), maxMethods)
	}
	a := &Auth{methods: slices.Clone(c.Methods)}
	byName := make(map[string]methodSet)
	var all methodSet
	for i, m := range c.Methods {
		if _, twice := byName[m.Name()]; twice {
			fault("method %s is there twice", m.Name())
		}
		byName[m.Name()] |= 1 << i
		all |= 1 << i
	}

	for i, q := range c.Requirements {
		out := requirement{
			id:       q.ID,
			match:    q.Match,
			required: q.Auth != None,
			conceal:  q.Conceal,
			roles:    slices.Clone(q.Roles),
			scopes:   slices.Clone(q.Scopes),
			methods:  all,
			rule:     q.If,
			acr:      slices.Clone(q.ACR),
			maxAge:   q.MaxAge,
			login:    q.Login,
			realm:    c.Realm,
		}
		if out.id == "" {
			out.id = "require[" + strconv.Itoa(i) + "]"
		}
		if q.Realm != "" {
			out.realm = q.Realm
			if err := checkRealm(q.Realm); err != nil {
				fault("requirement %s: %w", out.id, err)
			}
		}
		if q.Auth > None {
			fault("requirement %s: there is no demand %d", out.id, q.Auth)
		}
		if !out.required && (len(q.Roles) > 0 || len(q.Scopes) > 0 || len(q.Methods) > 0 || q.Conceal ||
			q.If != nil || len(q.ACR) > 0 || q.MaxAge != 0 || q.Login != "" || q.Realm != "") {
			fault("requirement %s: asks for nobody, and says what of a caller", out.id)
		}
		if q.MaxAge < 0 || q.MaxAge > 0 && q.MaxAge < time.Second {
			fault("requirement %s: the age of a proof is counted in seconds", out.id)
		}
		for _, acr := range q.ACR {
			if !isScope(acr) {
				fault("requirement %s: %q is no authentication context: printable ASCII without space, quotation mark and backslash", out.id, acr)
			}
		}
		if q.Login != "" && !isLogin(q.Login) {
			fault("requirement %s: the login %q is neither an http or https URL nor a path that begins with one slash", out.id, q.Login)
		}
		for _, s := range q.Scopes {
			if !isScope(s) {
				fault("requirement %s: %q is no scope: printable ASCII without space, quotation mark and backslash", out.id, s)
			}
		}
		if slices.Contains(q.Roles, "") {
			fault("requirement %s: an empty role", out.id)
		}
		if len(q.Methods) > 0 {
			out.methods = 0
			for _, name := range q.Methods {
				m, known := byName[name]
				if !known {
					fault("requirement %s: there is no method %s", out.id, name)
				}
				out.methods |= m
			}
		}
		if out.required {
			out.challenges = a.challenges(&out, out.methods, -1, Problem{})
			if out.methods == 0 && len(errs) == 0 {
				fault("requirement %s: no method can fulfil it", out.id)
			}
		}
		a.conceals = a.conceals || q.Conceal
		a.requirements = append(a.requirements, out)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	a.ready = true
	return a, nil
}

// Conceals reports whether a requirement conceals: then the host must answer a
// missing resource in the same bytes (filter.Config.Conceals).
func (a *Auth) Conceals() bool { return a.conceals }

// Authenticate returns the stage that verifies credentials. It sets
// Request.Identity, and refuses with 401 (400 for malformed credentials, 404 for
// a concealed path).
func (a *Auth) Authenticate() filter.Stage { return authenticate{a} }

// Authorize returns the stage that holds the identity against the requirement. It
// refuses with 403, or with 404 for a concealed path. It runs after Authenticate;
// without it nobody is known, and whatever asks for a caller is refused.
func (a *Auth) Authorize() filter.Stage { return authorize{a} }

// challenges returns the challenges of a set of methods in the policy's order, in the
// realm of q, the one of method failed with the problem p.
func (a *Auth) challenges(q *requirement, set methodSet, failed int, p Problem) []string {
	var all []string
	for i, m := range a.methods {
		if set&(1<<i) == 0 {
			continue
		}
		problem := Problem{}
		if i == failed {
			problem = p
		}
		if c := m.Challenge(q.realm, problem); c != "" {
			all = append(all, c)
		}
	}
	return all
}

// index returns the place of the method with the name; -1 if there is none.
func (a *Auth) index(name string) int {
	return slices.IndexFunc(a.methods, func(m Method) bool { return m.Name() == name })
}

// set returns the set of the method with the name; empty if there is none.
func (a *Auth) set(name string) methodSet {
	if i := a.index(name); i >= 0 {
		return 1 << i
	}
	return 0
}

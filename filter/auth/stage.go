package auth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/moatwaf/moat/filter"
)

const stageName = "auth"

// errNotCompiled is the answer of an Auth that New did not make.
var errNotCompiled = errors.New("the auth section is not compiled")

type authenticate struct{ *Auth }

// Name implements filter.Stage.
func (authenticate) Name() string { return stageName }

// Check implements filter.Stage.
func (s authenticate) Check(r *filter.Request) (filter.Decision, error) {
	r.Identity = nil
	if !s.ready {
		return filter.Decision{}, errNotCompiled
	}
	if isPreflight(r.HTTP) {
		return filter.Next(), nil
	}
	methods, required, err := s.demand(r)
	if err != nil {
		return filter.Decision{}, err
	}
	if !required {
		return filter.Next(), nil
	}
	who, failed, err := s.identify(r, methods)
	if err != nil {
		return filter.Decision{}, err
	}
	d, err := s.decide(r, who, failed)
	if err != nil {
		return filter.Decision{}, err
	}
	// What a known caller may do is the other stage's question, after the
	// tiers that count by identity.
	if who != nil && d.Verdict != filter.Challenge {
		r.Identity = who
		return filter.Next(), nil
	}
	return d, nil
}

type authorize struct{ *Auth }

// Name implements filter.Stage.
func (authorize) Name() string { return stageName }

// Check implements filter.Stage.
func (s authorize) Check(r *filter.Request) (filter.Decision, error) {
	if !s.ready {
		return filter.Decision{}, errNotCompiled
	}
	if isPreflight(r.HTTP) {
		return filter.Next(), nil
	}
	return s.decide(r, r.Identity, failure{method: -1})
}

// isPreflight reports whether r is a CORS preflight (Fetch, CORS-preflight fetch).
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// failure is a credential that did not help: the place of its method, -1 for
// none, and what was wrong.
type failure struct {
	method  int
	problem Problem
	detail  string
	final   bool           // asking for another one would help nobody
	answer  *filter.Answer // of somebody else who was asked; mostly nil
}

// demand returns whether a reading of the path asks for a caller, and the methods
// that could satisfy every reading that does.
func (a *Auth) demand(r *filter.Request) (methods methodSet, required bool, err error) {
	methods = ^methodSet(0)
	r.EachReading(func(r *filter.Request) {
		var taken methodSet
		asked := false
		for i := range a.requirements {
			q := &a.requirements[i]
			ok, e := q.matches(r)
			if e != nil {
				err = errors.Join(err, e)
				return
			}
			if !ok {
				continue
			}
			if q.required {
				asked = true
				taken |= q.methods
			}
			if !q.conceal {
				break
			}
		}
		if asked {
			required = true
			methods &= taken
		}
	})
	return methods, required, err
}

// identify verifies the first credentials that the request has for one of the
// methods. It returns who that is; nobody and what failed; or nobody and no
// failed method, if there are no credentials.
func (a *Auth) identify(r *filter.Request, methods methodSet) (*filter.Identity, failure, error) {
	for i, m := range a.methods {
		if methods&(1<<i) == 0 {
			continue
		}
		credential, found := m.Find(r)
		switch found {
		case Absent:
			continue
		case Present:
			who, err := m.Verify(r, credential)
			if err == nil && who != nil {
				return who, failure{method: -1}, nil
			}
			var rejected *Rejection
			var answered *Answered
			switch {
			case errors.As(err, &rejected):
				return nil, failure{
					method: i, problem: Problem{Kind: BadCredentials, Description: rejected.Description},
					detail: m.Name() + ": " + rejected.Detail, final: rejected.Final,
				}, nil
			case errors.As(err, &answered) && answered.Answer != nil:
				return nil, failure{method: i, detail: m.Name() + ": " + answered.Detail, answer: answered.Answer}, nil
			case err != nil:
				return nil, failure{}, fmt.Errorf("%s: %w", m.Name(), err)
			}
			return nil, failure{}, fmt.Errorf("%s: verified nobody", m.Name())
		default:
			return nil, failure{
				method: i, problem: Problem{Kind: BadRequest, Description: "The credentials are not sent in a readable way"},
				detail: m.Name() + ": malformed credentials",
			}, nil
		}
	}
	return nil, failure{method: -1}, nil
}

// decide returns the answer to a caller, nil for an unknown one. Of several
// readings of the path each must let the caller pass.
func (a *Auth) decide(r *filter.Request, who *filter.Identity, failed failure) (filter.Decision, error) {
	decision := filter.Next()
	var err error
	r.EachReading(func(r *filter.Request) {
		if err != nil || decision.Refuses() {
			return
		}
		decision, err = a.decideReading(r, who, failed)
	})
	return decision, err
}

func (a *Auth) decideReading(r *filter.Request, who *filter.Identity, failed failure) (filter.Decision, error) {
	var concealing *requirement
	decision := filter.Next()
	for i := range a.requirements {
		q := &a.requirements[i]
		ok, err := q.matches(r)
		if err != nil {
			return filter.Decision{}, err
		}
		if !ok {
			continue
		}
		d, err := a.hold(r, q, who, failed)
		if err != nil {
			return filter.Decision{}, err
		}
		if q.conceal {
			if !d.Refuses() {
				return d, nil
			}
			concealing = q
			continue
		}
		decision = d
		break
	}
	if concealing != nil && !decision.Refuses() {
		return filter.Decision{
			Verdict: filter.Block,
			Reason:  filter.ReasonConcealed,
			Stage:   stageName,
			Rule:    concealing.id,
			Detail:  failed.detail,
		}, nil
	}
	return decision, nil
}

// hold holds a caller against one requirement.
func (a *Auth) hold(r *filter.Request, q *requirement, who *filter.Identity, failed failure) (filter.Decision, error) {
	if !q.required {
		return filter.Next(), nil
	}
	if who == nil || q.methods&a.set(who.Method) == 0 {
		return a.challenge(r, q, failed), nil
	}
	forbidden := filter.Decision{Verdict: filter.Block, Reason: filter.ReasonForbidden, Stage: stageName, Rule: q.id}
	if len(q.roles) > 0 && !slices.ContainsFunc(q.roles, func(role string) bool { return slices.Contains(who.Roles, role) }) {
		// No scope could help, so none is asked for.
		forbidden.Detail = "role missing"
		return forbidden, nil
	}
	if q.rule != nil {
		if ok, err := a.fulfils(r, q, who); err != nil || !ok {
			forbidden.Detail = "condition not met"
			return forbidden, err
		}
	}
	for _, scope := range q.scopes {
		if !slices.Contains(who.Scopes, scope) {
			forbidden.Detail = "scope missing"
			forbidden.Challenges = a.scopeChallenge(q, who.Method)
			return forbidden, nil
		}
	}
	if p, stale := q.staleProof(r.Now, who); stale {
		return a.challenge(r, q, failure{method: a.index(who.Method), problem: p, detail: "proof too weak or too old"}), nil
	}
	return filter.Next(), nil
}

// fulfils holds a caller against the condition of a requirement. The condition
// finds the caller in the request, where the first of the two stages has not put
// it yet.
func (a *Auth) fulfils(r *filter.Request, q *requirement, who *filter.Identity) (bool, error) {
	before := r.Identity
	r.Identity = who
	ok, err := q.rule.Match(r)
	r.Identity = before
	if err != nil {
		return false, fmt.Errorf("requirement %s: %w", q.id, err)
	}
	return ok, nil
}

// challenge asks an unknown caller for credentials. It tells what was wrong only
// with credentials of a method that the requirement takes. Where nothing can be
// asked for, it refuses: a 401 must ask.
func (a *Auth) challenge(r *filter.Request, q *requirement, failed failure) filter.Decision {
	d := filter.Decision{
		Verdict:    filter.Challenge,
		Reason:     filter.ReasonNoCredentials,
		Stage:      stageName,
		Rule:       q.id,
		Challenges: q.challenges,
	}
	methods := q.methods
	taken := failed.method >= 0 && q.methods&(1<<failed.method) != 0
	if taken && failed.answer != nil {
		return answered(r, d, failed)
	}
	if taken && failed.final {
		d.Verdict, d.Reason, d.Detail, d.Challenges = filter.Block, filter.ReasonBadCredentials, failed.detail, nil
		return d
	}
	if q.login != "" {
		d.Login = loginFor(q.login, r.HTTP)
		methods = a.withoutPopUp(q, r.HTTP)
	}
	if taken {
		d.Reason = filter.ReasonBadCredentials
		d.Detail = failed.detail
		d.Challenges = a.challenges(q, methods, failed.method, failed.problem)
		if failed.problem.Kind == BadRequest {
			d.Reason = filter.ReasonMalformed
			d.Status = http.StatusBadRequest
		}
	} else if methods != q.methods {
		d.Challenges = a.challenges(q, methods, -1, Problem{})
	}
	if len(d.Challenges) == 0 && d.Status == 0 {
		d.Verdict, d.Login = filter.Block, ""
		if failed.problem.Kind == StaleProof {
			d.Reason = filter.ReasonForbidden
		}
	}
	return d
}

// answered is the decision of somebody else who was asked: d with the answer.
func answered(r *filter.Request, d filter.Decision, failed failure) filter.Decision {
	d.Answer, d.Status, d.Detail, d.Challenges = failed.answer, failed.answer.Status, failed.detail, nil
	switch {
	case d.Status == http.StatusUnauthorized && len(r.HTTP.Header["Authorization"]) > 0:
		d.Reason = filter.ReasonBadCredentials
	case d.Status >= http.StatusBadRequest && d.Status != http.StatusUnauthorized:
		d.Verdict, d.Reason = filter.Block, filter.ReasonForbidden
	}
	return d
}

// scopeChallenge asks a known caller for the scopes of q.
func (a *Auth) scopeChallenge(q *requirement, method string) []string {
	for _, m := range a.methods {
		if m.Name() == method {
			if c := m.Challenge(q.realm, Problem{Kind: MissingScope, Scopes: q.scopes}); c != "" {
				return []string{c}
			}
		}
	}
	return nil
}

func (q *requirement) matches(r *filter.Request) (bool, error) {
	if q.match == nil {
		return true, nil
	}
	ok, err := q.match.Match(r)
	if err != nil {
		return false, fmt.Errorf("requirement %s: %w", q.id, err)
	}
	return ok, nil
}

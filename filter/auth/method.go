package auth

import (
	"strings"
	"time"

	"github.com/moatwaf/moat/filter"
)

// Found is what a method has found of its credentials in a request.
type Found uint8

const (
	// Absent says that there are none.
	Absent Found = iota
	// Present says that there are some, to be verified.
	Present
	// Malformed says that they are sent in a way that cannot be read in one
	// way only, or not at all. The answer is 400 (RFC 6750 section 3.1).
	Malformed
)

// Method is a way to prove who one is. It is immutable or guards its state, and is
// safe for concurrent use.
type Method interface {
	// Name is the method's name in policies and in Identity.Method: "bearer".
	Name() string

	// Find looks for the method's credentials in a request. It does not
	// verify. The credential is what Verify is called with.
	Find(r *filter.Request) (credential string, found Found)

	// Verify returns whom the credential belongs to. The identity may be
	// shared between requests: nobody changes it.
	//
	// The error is a *Rejection if the credential does not hold, and *Answered
	// if the method brings an answer for the client. Any other error means that
	// the method could not tell, and becomes that of the stage.
	Verify(r *filter.Request, credential string) (*filter.Identity, error)

	// Challenge returns a value of WWW-Authenticate (RFC 9110 section 11.6.1)
	// that tells how to send credentials, with what was wrong about those
	// that came. It returns the empty string if the method has no challenge
	// for the problem: not every method can be asked for, and only methods
	// with scopes can ask for more of them. Where none of the methods that a
	// requirement takes can be asked for, the answer is 403, for a 401 must ask
	// (RFC 9110 section 15.5.2). The realm is already checked.
	Challenge(realm string, p Problem) string
}

// ProblemKind is what was wrong with the credentials of a request.
type ProblemKind uint8

const (
	// NoProblem says that no credentials of the method came.
	NoProblem ProblemKind = iota
	// BadRequest says that they came in a malformed way.
	BadRequest
	// BadCredentials says that they do not hold.
	BadCredentials
	// MissingScope says that they hold, and do not suffice.
	MissingScope
	// StaleProof says that they hold, and that the resource wants a stronger or
	// a fresher proof of who the caller is (RFC 9470).
	StaleProof
)

// Problem is what a challenge says of the credentials of a request.
type Problem struct {
	Kind ProblemKind

	// Description is a sentence for the client's developer, in the characters
	// of error_description (RFC 6750 section 3): ASCII without quotation
	// marks and backslashes. Empty says nothing.
	Description string

	// Scopes are the scopes that the resource needs, of a MissingScope.
	Scopes []string

	// ACR are the authentication contexts of which the resource wants one, and
	// MaxAge how old the proof may be, of a StaleProof. Zero values want none.
	ACR    []string
	MaxAge time.Duration
}

// Rejection is a credential that does not hold. Both texts are fixed: they hold
// nothing of the credential.
type Rejection struct {
	Detail      string // for the operator's log
	Description string // for the client: see Problem.Description; may be empty

	// Final says that asking for other credentials would help nobody: the answer
	// is 403, and no challenge.
	Final bool
}

// Error implements error.
func (e *Rejection) Error() string { return e.Detail }

// Answered is the error of a method that has somebody else decide: the caller may
// not, and the client gets the answer as it is.
type Answered struct {
	Detail string // for the operator's log; nothing that a client sent
	Answer *filter.Answer
}

// Error implements error.
func (e *Answered) Error() string { return e.Detail }

// authorization returns what stands behind the scheme in Authorization (RFC 9110
// section 11.6.2). Scheme names are case-insensitive.
//
// Authorization is no list: a second line with the scheme, or beside it, is
// Malformed. Another scheme is Absent, for that is not this method's credential.
func authorization(r *filter.Request, scheme string) (string, Found) {
	lines := r.HTTP.Header["Authorization"]
	for _, line := range lines {
		name, credential, _ := strings.Cut(strings.Trim(line, " \t"), " ")
		if !strings.EqualFold(name, scheme) {
			continue
		}
		credential = strings.TrimLeft(credential, " ")
		if len(lines) > 1 {
			return "", Malformed
		}
		return credential, Present
	}
	return "", Absent
}

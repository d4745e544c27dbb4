package waf

import (
	"slices"

	"github.com/moatwaf/moat/rules/waf/proof"
)

// Path is the way that a request took through the stage.
type Path uint8

// The paths.
const (
	// PathEngine is a request that the engine has judged.
	PathEngine Path = iota
	// PathProved is a request that was shown to match no rule, without the engine.
	PathProved
	// PathFollowed is a request in which rules have found something, judged without
	// the engine as the engine would judge it.
	PathFollowed
	// PathBody is a request that its body decided: too large, or broken.
	PathBody
	// PathEnded is a request that costs too much to inspect.
	PathEnded
	// PathFailed is a request about which the stage could not decide.
	PathFailed
)

var pathNames = [...]string{"engine", "proved", "followed", "body", "ended", "failed"}

// String returns the path's name as metrics spell it.
func (p Path) String() string {
	if int(p) < len(pathNames) {
		return pathNames[p]
	}
	return "invalid"
}

// Judged is how a request was judged. It holds nothing that a client sent.
type Judged struct {
	Path Path

	// Cause is why the fast engine did not prove the request: "rule", "shape",
	// "cost", "proof" or "panic". It is empty for one that was proved, and without
	// the fast engine.
	Cause string
	// Rule is the number of the rule that stood in the way; 0 for none.
	Rule int
	// What says more in a word or a few, of a set that depends on the rules and not
	// on requests. It is empty for a rule that matches.
	What string
}

// judged returns how the request of an outcome was judged.
func (o *outcome) judged(err error) (j Judged) {
	switch {
	case err != nil:
		j.Path = PathFailed
	case o.ended:
		j.Path = PathEnded
	case o.proved:
		j.Path = PathProved
	case o.followed:
		j.Path = PathFollowed
	case o.refusal != nil:
		j.Path = PathBody
	}
	if o.why != nil {
		j.Cause, j.Rule, j.What = o.why.cause, o.why.rule, o.why.what
	}
	return j
}

// Causes of a hand-over that are neither a rule nor a shape of the request.
const (
	causeRule   = "rule"   // a rule that matches, or may match
	causeShape  = "shape"  // a request that is not understood without the engine
	causeCost   = "cost"   // a request that costs too much
	causeProof  = "proof"  // the proof does not hold for it, without a rule
	causePanic  = "panic"  // a fault of moat
	whatPanic   = "panic"  // the same
	whatUnknown = "other"  // a word that is not known
	wordCost    = "cost"   // the proof's word for causeCost
	whatForced  = "forced" // ctl:forceRequestBodyVariable
)

// handover is why the engine is asked.
type handover struct {
	cause string
	rule  int    // of causeRule
	what  string // a word that does not depend on the request; empty for a rule that matches
	spent int    // what the proof has cost, in nanoseconds as it is estimated
}

// maxFollowCost is what it may cost to follow the findings in a large request, in the
// proof's own unit: one that costs more is not asked the engine about, which would
// cost yet more. The engine is asked about every small one, so that more may be spent
// to spare it that.
const maxFollowCost = maxProofCost * 2 / 5

// followCost is what it may cost to follow the findings in a request of so many bytes.
func (e *proving) followCost(size int) int {
	if size <= e.small {
		return maxProofCost
	}
	return maxFollowCost
}

// followed are the variables of TX that an outcome tells, as plain.outcome reads
// them.
var followed = [...]string{"blocking_inbound_anomaly_score", "inbound_anomaly_score_threshold"}

// follows reports whether it is of use to follow what the proof has found. Whoever
// wants to see the engine's transaction gets one.
func (e *proving) follows(why *handover) bool {
	return e.follow != nil && e.observe == nil && e.look == nil && why.cause == causeRule && why.what == ""
}

// told returns the outcome of a request whose findings were followed to the end, as
// plain.outcome does of a transaction.
func told(q *proof.Request, found *proof.Result) (outcome, *handover) {
	score, ok1 := q.Number(0)
	threshold, ok2 := q.Number(1)
	if !ok1 || !ok2 {
		return outcome{}, &handover{cause: causeProof, what: whatUnknown}
	}
	rules := q.Found()
	out := outcome{followed: true, score: score, threshold: threshold}
	if len(rules) > 0 {
		out.matched = slices.Clone(rules[:min(len(rules), maxMatched)])
	}
	if found.Refused {
		out.blocked, out.rule, out.status = true, found.Rule, found.Status
	}
	return out, nil
}

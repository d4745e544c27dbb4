package waf

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
}

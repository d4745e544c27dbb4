package proof

import "github.com/corazawaf/coraza/v3/types/variables"

// Later reports whether a variable is looked at anew in phase 2, for tests that hold
// this against the engine.
func Later(v variables.RuleVariable) bool { return later[v] }

// Package auth is the auth stage: who is asking (401), and may they (403, 404).
//
// It is two filter stages, because tiers that count by identity run between
// them. Authenticate finds and verifies credentials and sets Request.Identity.
// Authorize holds the identity against the requirement of the path.
//
// # Requirements
//
// The requirements of a policy are an ordered list, and the first one that
// matches decides. If none matches nothing is asked. Where nothing is asked,
// credentials are not looked at: bad ones do no harm, and good ones make no
// identity.
//
// If a path can be read in several ways, each reading's requirement must hold.
//
// # Concealment
//
// For a caller who does not fulfil a concealing requirement it does not exist:
// the requirements after it decide, as they would for a missing path beside the
// resource. If they refuse, the caller gets their answer, a 401 or a 403. If they
// would let the caller pass, the answer is the 404 of a missing path.
//
// So below a requirement that asks everybody, an unknown caller is challenged for
// a concealed path as for any other. Where nothing else is asked, an unknown
// caller gets 404 and no challenge, and a client must send its credentials
// unasked.
//
// # Preflights
//
// A CORS preflight carries no credentials (Fetch), and a 401 to it breaks every
// cross-origin client. It passes. Any other OPTIONS request is protected like GET.
package auth

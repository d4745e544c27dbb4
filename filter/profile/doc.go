// Package profile answers refusals in the shape of other systems: their statuses,
// header fields and bodies, for clients that were written for them.
//
// A profile is data: a YAML file with an answer for each cause, in which ${name}
// stands for a value. Some profiles are embedded; operators can write their own.
//
// What a profile cannot change: an answer is no-store and never names the rule, the
// payload or the engine; HEAD has no content; Retry-After stands with the refusal of
// a tier; a browser is sent to the login where a requirement names one. With strict,
// whoever has no good credentials gets the 401 and the challenges of RFC 9110, even
// where the system that is imitated leaves them out.
package profile

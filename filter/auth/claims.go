package auth

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/moatwaf/moat/filter"
)

// checkClaims reads the claims of a token and holds those against the policy that
// say for whom and when it is (RFC 7519 section 4.1). They tell nothing that the
// client has not written itself, and may be checked before the signature.
func (v *tokens) checkClaims(now time.Time, payload []byte) (map[string]any, error) {
	var claims map[string]any
	// Broken UTF-8 would be read as the same replacement, whatever it was.
	if !utf8.Valid(payload) || json.Unmarshal(payload, &claims) != nil || claims == nil {
		return nil, errTokenClaims
	}
	if issuer, _ := claims["iss"].(string); issuer != v.issuer {
		return nil, errTokenIssuer
	}
	if !hasString(claims["aud"], v.audience) {
		return nil, errTokenAudience
	}
	if err := v.checkTimes(now, claims); err != nil {
		return nil, err
	}
	return claims, nil
}

// identity makes an identity of the claims of a token whose signature holds.
// Whether a token is revoked is told only to who has the token.
func (v *tokens) identity(claims map[string]any) (*filter.Identity, error) {
	// A token without an identifier cannot be on the list.
	if id, there := claims["jti"]; there {
		s, ok := id.(string)
		if !ok {
			return nil, errTokenClaims
		}
		if _, revoked := v.revoked[s]; revoked {
			return nil, errTokenRevoked
		}
	}
	subject := ""
	for _, name := range [...]string{"sub", "client_id", "azp"} {
		if subject, _ = claims[name].(string); subject != "" {
			break
		}
	}
	if subject == "" || strings.ContainsRune(subject, utf8.RuneError) {
		return nil, errTokenSubject // half a character (\ud800) may have been any other half
	}
	return &filter.Identity{
		Subject: subject,
		Method:  v.method,
		Scopes:  append(words(claims["scope"]), words(claims["scp"])...),
		Roles:   append(stringList(claims["roles"]), stringList(claims["groups"])...),
		Claims:  claims,
	}, nil
}

// until returns the time from which a token with these claims, which were checked,
// is expired.
func (v *tokens) until(claims map[string]any) time.Time {
	exp, _ := claims["exp"].(float64)
	// A time beyond the year 2112 is cut: the token is only verified anew then.
	return time.UnixMicro(int64(min(max((exp+v.skew)*1e6, 0), 1<<52)))
}

// checkTimes checks exp, nbf and iat. They are seconds since 1970 and may have a
// fraction.
func (v *tokens) checkTimes(now time.Time, claims map[string]any) error {
	t := float64(now.UnixMicro()) / 1e6
	exp, there := claims["exp"]
	if !there {
		return errTokenNoExpiry
	}
	at, ok := exp.(float64)
	if !ok {
		return errTokenClaims
	}
	// "On or after" the expiry a token must not be accepted (section 4.1.4).
	if t >= at+v.skew {
		return errTokenExpired
	}
	if nbf, there := claims["nbf"]; there {
		at, ok := nbf.(float64)
		if !ok {
			return errTokenClaims
		}
		if t < at-v.skew {
			return errTokenNotYet
		}
	}
	if iat, there := claims["iat"]; there {
		at, ok := iat.(float64)
		if !ok {
			return errTokenClaims
		}
		if t < at-v.skew {
			return errTokenIssuedLater
		}
	}
	return nil
}

// hasString reports whether v is s, or a list that holds s.
func hasString(v any, s string) bool {
	switch v := v.(type) {
	case string:
		return v == s
	case []any:
		for _, e := range v {
			if e == s {
				return true
			}
		}
	}
	return false
}

// stringList returns the strings of a claim that is one string or a list of them.
// What is no string is left out: it can name no role.
func stringList(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		all := make([]string, 0, len(v))
		for _, e := range v {
			if s, ok := e.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}

// words returns the scopes of a claim: words in one string (RFC 8693 section
// 4.2), or a list of strings, as some issuers write it.
func words(v any) []string {
	if s, ok := v.(string); ok {
		return strings.Fields(s)
	}
	return stringList(v)
}

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// profileRow is what a profile answers to one case: status, content, and header
// fields, "Name: regexp", or "!Name" for one that is absent.
type profileRow struct {
	status  int
	content string // regexp
	fields  []string
}

// profileCases are the requests of the table of other systems.
var profileCases = []struct {
	name string
	req  []string
	src  string
	many string
}{
	{"none", []string{"GET ${P_AUTH} HTTP/1.1"}, "", ""},
	{"bad", []string{"GET ${P_AUTH} HTTP/1.1", "Authorization: Bearer ${TOKEN_BAD_SIG}"}, "", ""},
	{"malformed", []string{"GET ${P_AUTH} HTTP/1.1", "Authorization: Bearer"}, "", ""},
	{"scope", []string{"GET ${P_SCOPE} HTTP/1.1", "Authorization: Bearer ${TOKEN_NOSCOPE}"}, "", ""},
	{"role", []string{"GET ${P_ROLE} HTTP/1.1", "Authorization: Bearer ${TOKEN_NOSCOPE}"}, "", ""},
	{"hidden", []string{"GET ${P_HIDDEN} HTTP/1.1", "Authorization: Bearer ${TOKEN_NOSCOPE}"}, "", ""},
	{"missing", []string{"GET ${P_MISSING} HTTP/1.1", "Authorization: Bearer ${TOKEN_NOSCOPE}"}, "", ""},
	{"rule", []string{"GET ${P_OPEN} HTTP/1.1"}, "127.0.0.66", ""},
	{"rate", []string{"GET ${P_OPEN} HTTP/1.1"}, "127.0.0.88", "5"},
}

const (
	noChallenge = "!Www-Authenticate"
	bareBearer  = `Www-Authenticate: ^Bearer realm="api"(, Cookie realm="api")?$`
	badBearer   = `Www-Authenticate: error="invalid_token"`
	badRequest  = `Www-Authenticate: error="invalid_request"`
	noScope     = `Www-Authenticate: error="insufficient_scope", scope="report\.read"`
)

var profileTable = map[string]map[string]profileRow{
	"github": {
		"none":   {401, `^{"message":"Requires authentication","documentation_url":"https://docs.github.com/rest","status":"401"}$`, []string{noChallenge}},
		"bad":    {401, `^{"message":"Bad credentials","documentation_url":"https://docs.github.com/rest","status":"401"}$`, []string{noChallenge}},
		"role":   {403, `"status":"403"}$`, []string{noChallenge}},
		"hidden": {404, `^{"message":"Not Found","documentation_url":"`, []string{noChallenge}},
		"rule":   {403, `administrative rules`, []string{noChallenge}},
		"rate":   {403, ``, []string{"X-Ratelimit-Remaining: ^0$", "X-Ratelimit-Reset: ^[0-9]+$", "Retry-After: ^[0-9]+$", "!RateLimit"}},
	},
	"stripe": {
		"none":   {401, `^{"error":{"message":"You did not provide an API key\. .*","type":"invalid_request_error"}}$`, []string{`Www-Authenticate: ^Basic realm="Stripe"$`}},
		"bad":    {401, `Invalid API Key provided`, []string{`Www-Authenticate: ^Basic realm="Stripe"$`}},
		"role":   {403, `"type":"invalid_request_error"`, []string{noChallenge}},
		"hidden": {404, `"code":"resource_missing"`, []string{noChallenge}},
		"rate":   {429, `"code":"rate_limit"`, []string{"Stripe-Rate-Limited-Reason: ."}},
	},
	"s3": {
		"none":      {403, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message><RequestId>[0-9A-F]{16}</RequestId><HostId>.+</HostId></Error>$`, []string{noChallenge, "X-Amz-Request-Id: .", "X-Amz-Id-2: .", "Content-Type: ^application/xml"}},
		"bad":       {403, `<Code>InvalidAccessKeyId</Code>`, []string{noChallenge}},
		"malformed": {400, `<Code>AuthorizationHeaderMalformed</Code>`, []string{noChallenge}},
		"scope":     {403, `<Code>AccessDenied</Code>`, []string{noChallenge}},
		"hidden":    {404, `<Code>NoSuchKey</Code>`, []string{noChallenge}},
		"rule":      {403, `<Code>AccessDenied</Code>`, []string{noChallenge}},
		"rate":      {503, `<Code>SlowDown</Code>`, nil},
	},
	"express": {
		"none":      {401, `^Unauthorized$`, []string{bareBearer}},
		"bad":       {401, `^Unauthorized$`, []string{badBearer}},
		"malformed": {400, `^Bad Request$`, []string{badRequest}},
		"scope":     {403, `^Forbidden$`, []string{noScope}},
		"rate":      {429, `^Too many requests, please try again later\.$`, []string{"X-Ratelimit-Limit: ^3$", "X-Ratelimit-Remaining: ^0$", "Retry-After: ."}},
	},
	"express-jwt": {
		"none":   {401, `<pre>UnauthorizedError: No authorization token was found</pre>`, []string{noChallenge, "X-Powered-By: ^Express$"}},
		"bad":    {401, `<pre>UnauthorizedError: invalid token</pre>`, []string{noChallenge}},
		"hidden": {404, `<pre>Not Found</pre>`, []string{noChallenge}},
	},
	"oauth2-jwt-bearer": {
		"none":      {401, `UnauthorizedError: Unauthorized`, []string{bareBearer}},
		"bad":       {401, `InvalidTokenError`, []string{badBearer}},
		"malformed": {400, `InvalidRequestError`, []string{badRequest}},
		"scope":     {403, `InsufficientScopeError`, []string{noScope}},
	},
	"cloudflare": {
		"rule": {403, `^error code: 1020`, []string{"Server: ^cloudflare$", noChallenge}},
		"rate": {429, `1015`, []string{"Retry-After: ."}},
	},
	"aws-waf": {
		"none": {403, `^{"message":"Missing Authentication Token"}$`, []string{noChallenge, "X-Amzn-Errortype: ^MissingAuthenticationTokenException$"}},
		"bad":  {401, `^{"message":"Unauthorized"}$`, []string{noChallenge}},
		"role": {403, `^{"message":"Forbidden"}$`, []string{noChallenge}},
		"rule": {403, `^{"message":"Forbidden"}$`, []string{"X-Amzn-Errortype: ^ForbiddenException$", noChallenge}},
	},
}

// profileFixtures is the policy of the conformance table in a profile, without
// payload rules.
func profileFixtures(t *testing.T, responses string) fixtures {
	t.Helper()
	f := newFixtures(t)
	policy, err := os.ReadFile(f.policy)
	if err != nil {
		t.Fatal(err)
	}
	policy = bytes.Replace(policy, []byte("  mode: block\n  paranoia: 1\n"), []byte("  mode: \"off\"\n"), 1)
	writeFile(t, f.policy, fmt.Appendf(policy, "\nresponses: %s\n", responses))
	return f
}

// TestProfiles holds the answers of every profile over the wire against the table of
// the systems that they imitate.
func TestProfiles(t *testing.T) {
	onTargets(t, func(t *testing.T, target Target) {
		for profile, cells := range profileTable {
			t.Run(profile, func(t *testing.T) {
				f := profileFixtures(t, "{profile: "+profile+"}")
				u := newUpstream(t)
				var rows []Row
				for _, c := range profileCases {
					want, ok := cells[c.name]
					if !ok {
						continue
					}
					row := Row{ID: c.name, Desc: profile + ", " + c.name, Ref: "table of profiles", Req: c.req, Src: c.src, Repeat: c.many,
						Status: []int{want.status}, BodyRe: want.content, Has: map[string]string{"Cache-Control": "no-store"}, Not: []string{"X-Moat"}}
					for _, field := range want.fields {
						if name, absent := strings.CutPrefix(field, "!"); absent {
							row.Not = append(row.Not, name)
							continue
						}
						name, pattern, _ := strings.Cut(field, ": ")
						row.Has[name] = pattern
					}
					rows = append(rows, row)
				}
				runRows(t, target.Start(t, f.policy, u.URL), rows, f.vars, func(row string) bool { return row != "rate" && u.saw(row) })
			})
		}
	})
}

// TestStrictProfiles holds the rows about credentials against the profiles which break
// them otherwise: with strict they hold.
func TestStrictProfiles(t *testing.T) {
	var rows []Row
	for _, row := range readRows(t) {
		if strings.HasPrefix(row.ID, "AU-") || strings.HasPrefix(row.ID, "AZ-") {
			row.SameAs = "" // two answers differ by their random numbers
			rows = append(rows, row)
		}
	}
	onTargets(t, func(t *testing.T, target Target) {
		for _, profile := range []string{"stripe", "s3", "aws-waf"} {
			t.Run(profile, func(t *testing.T) {
				f := profileFixtures(t, "{profile: "+profile+", strict: true}")
				u := newUpstream(t)
				runRows(t, target.Start(t, f.policy, u.URL), slices.Clone(rows), f.vars, u.saw)
			})
		}
	})
}

package policy

import (
	"net/http"
	"strings"
	"testing"
)

// TestProfiles holds the answers of a policy with a profile, and that the profile is
// read anew at a reload.
func TestProfiles(t *testing.T) {
	policy := `
auth: {methods: [{api_key: {file: api-keys.yaml}}]}
rules: [{id: foe, match: {path: /foe}, action: block}]
tiers: [{id: slow, match: {path: /slow}, rate: 1/h, burst: 1}]
cors: {origins: "https://app.example.com"}
`
	type want struct {
		path       string
		status     int
		challenged bool
		body       string
	}
	for responses, wants := range map[string][]want{
		"":                                {{"/", 401, true, `"status":401`}, {"/foe", 403, false, `"status":403`}},
		"{profile: default}":              {{"/", 401, true, `"status":401`}},
		"{profile: github}":               {{"/", 401, false, "Requires authentication"}, {"/foe", 403, false, "administrative rules"}},
		"{profile: github, strict: true}": {{"/", 401, true, "Requires authentication"}},
		"{profile: stripe}":               {{"/", 401, true, "You did not provide an API key"}},
		"{profile: s3}":                   {{"/", 403, false, "<Code>AccessDenied</Code>"}, {"/slow", 503, false, "<Code>SlowDown</Code>"}},
		"{profile: s3, strict: true}":     {{"/", 401, true, "<Code>AccessDenied</Code>"}},
		"{profile: express}":              {{"/", 401, true, "Unauthorized"}, {"/slow", 429, false, "Too many requests, please try again later."}},
		"{profile: express-jwt}":          {{"/", 401, false, "UnauthorizedError"}, {"/slow", 429, false, "Too many requests"}},
		"{profile: oauth2-jwt-bearer}":    {{"/", 401, true, "UnauthorizedError"}},
		"{profile: cloudflare}":           {{"/foe", 403, false, "error code: 1020"}, {"/slow", 429, false, "error code: 1015"}},
		"{profile: aws-waf}":              {{"/", 403, false, "Missing Authentication Token"}, {"/foe", 403, false, `{"message":"Forbidden"}`}},
		"{profile: own.yaml}":             {{"/", 418, false, "own"}},
	} {
		t.Run(responses, func(t *testing.T) {
			section := policy
			if responses != "" {
				section += "responses: " + responses + "\n"
			}
			h := newHouse(t, section)
			h.write("api-keys.yaml", apiKeys("one", "roles: []"))
			h.write("own.yaml", "default: {status: 418, body: own, challenges: []}\n")
			h.start(false)
			for _, w := range wants {
				fields := []string{"Accept", "application/json", "Origin", "https://app.example.com"}
				if w.path == "/slow" {
					h.serve("GET", w.path, fields...)
				}
				got := h.serve("GET", w.path, fields...)
				if got.Code != w.status || (got.Header().Get("WWW-Authenticate") != "") != w.challenged || !strings.Contains(got.Body.String(), w.body) {
					t.Errorf("%s: %d %v\n%s", w.path, got.Code, got.Header(), got.Body)
				}
				if got.Header().Get("Cache-Control") != "no-store" || got.Header().Get("Access-Control-Allow-Origin") != "https://app.example.com" {
					t.Errorf("%s: %v", w.path, got.Header())
				}
			}
			if responses != "{profile: own.yaml}" {
				return
			}
			h.write("own.yaml", "default: {body: '${')\n")
			if h.reload() == nil {
				t.Error("a broken profile was taken")
			}
			h.write("own.yaml", "default: {status: 410, body: gone}\n")
			if err := h.reload(); err != nil {
				t.Fatal(err)
			}
			if got := h.serve(http.MethodGet, "/foe"); got.Code != 410 || got.Body.String() != "gone" {
				t.Errorf("%d %s", got.Code, got.Body)
			}
		})
	}
}

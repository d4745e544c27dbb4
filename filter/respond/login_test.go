package respond

import (
	"testing"

	"github.com/moatwaf/moat/filter"
)

func TestLogin(t *testing.T) {
	ask := filter.Decision{Verdict: filter.Challenge, Reason: filter.ReasonNoCredentials, Challenges: bearer, Login: "/login?next=%2Fa"}
	malformed := ask
	malformed.Status = 400
	block := ask
	block.Verdict = filter.Block
	for _, tt := range []struct {
		name, method, accept string
		d                    filter.Decision
		status               int
	}{
		{"browser", "GET", "text/html,application/xhtml+xml,*/*;q=0.8", ask, 302},
		{"browser, HEAD", "HEAD", "text/html", ask, 302},
		{"browser, form", "POST", "text/html", ask, 303},
		{"API client", "GET", "application/json", ask, 401},
		{"anything goes", "GET", "*/*", ask, 401},
		{"no Accept", "GET", "", ask, 401},
		{"malformed credentials", "GET", "text/html", malformed, 400},
		{"a rule", "GET", "text/html", block, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := answerTo(tt.d, tt.method, tt.accept)
			location, challenges := res.Header.Get("Location"), len(res.Header["Www-Authenticate"])
			if res.StatusCode != tt.status || (location == "/login?next=%2Fa") != (tt.status < 400) || res.Header.Get("Vary") != "Accept" || res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %v", res.StatusCode, res.Header)
			}
			if (challenges > 0) != (tt.status == 401 || tt.status == 400) {
				t.Errorf("%d with %d challenges", res.StatusCode, challenges)
			}
		})
	}
}

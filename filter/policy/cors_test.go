package policy

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/front"
)

// serve answers a request as a host does; the upstream answers 200.
func (h *house) serve(method, target string, fields ...string) *httptest.ResponseRecorder {
	hr := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(fields); i += 2 {
		hr.Header.Add(fields[i], fields[i+1])
	}
	r := filter.NewRequest(hr, time.Now())
	defer r.Release()
	w := httptest.NewRecorder()
	d := h.rt.Engine().Decide(r)
	face := front.Of(h.rt.Engine().Pipeline())
	if d.Refuses() {
		face.Refuse(w, r, d)
		return w
	}
	if upstream, goOn := face.Pass(w, r); goOn {
		upstream.Header().Set("X-Upstream", "yes")
		upstream.WriteHeader(http.StatusOK)
	}
	return w
}

const corsAuth = `
auth: {methods: [{api_key: {file: api-keys.yaml}}]}
rules: [{id: foe, match: {path: /foe}, action: block}]
`

func TestCORSSection(t *testing.T) {
	const origin = "https://app.example.com"
	preflight := []string{"Origin", origin, "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization"}
	strange := []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "GET"}
	for _, section := range []bool{false, true} {
		policy := corsAuth
		if section {
			policy += "cors: {origins: [\"" + origin + "\"], methods: [GET, POST], headers: [authorization]}\n"
		}
		h := newHouse(t, policy)
		h.write("api-keys.yaml", apiKeys("one", "roles: []"))
		h.start(false)
		for _, tt := range []struct {
			name, method, target string
			fields               []string
			status               int
			upstream             bool // without the section the upstream answers
			allow                string
		}{
			{"AU-35 preflight", "OPTIONS", "/", preflight, 204, true, origin},
			{"AU-37 preflight of a strange origin", "OPTIONS", "/", strange, 204, true, ""},
			{"IP-6 preflight that a rule refuses", "OPTIONS", "/foe", preflight, 403, false, origin},
			{"AU-36 no preflight", "OPTIONS", "/", []string{"Origin", origin}, 401, false, origin},
			{"AU-38 401", "GET", "/", []string{"Origin", origin}, 401, false, origin},
			{"401 to a strange origin", "GET", "/", []string{"Origin", "https://evil.example"}, 401, false, ""},
			{"401 without origin", "GET", "/", nil, 401, false, ""},
			{"answer of the upstream", "GET", "/", []string{"Origin", origin, "X-API-Key", "one"}, 200, true, origin},
		} {
			t.Run(tt.name, func(t *testing.T) {
				w := h.serve(tt.method, tt.target, tt.fields...)
				want, allow := tt.status, tt.allow
				if !section {
					allow = ""
					if tt.upstream {
						want = 200
					}
				}
				if w.Code != want || w.Header().Get("Access-Control-Allow-Origin") != allow {
					t.Errorf("section %v: %d %v", section, w.Code, w.Header())
				}
				if reached := w.Header().Get("X-Upstream") != ""; reached != (want == 200) {
					t.Errorf("section %v: reached the upstream: %v", section, reached)
				}
				if w.Code == 401 != (w.Header().Get("WWW-Authenticate") != "") {
					t.Errorf("section %v: %d %v", section, w.Code, w.Header())
				}
			})
		}
	}
}

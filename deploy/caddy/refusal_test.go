package moatcaddy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// refusals is a policy with a path for each kind of refusal.
const refusals = noWAF + `
rules:
  - {id: no-entry, match: {path: /blocked/*}, action: block}
  - {id: law, match: {path: /law/*}, action: block, status: 451}
tiers:
  - {id: slow, match: {path: /slow/*}, key: path, rate: 1/h, burst: 1, status: 429}
auth:
  realm: house
  methods: [{basic: {htpasswd: users.htpasswd}}]
  require:
    - {match: {path: /private/*}, auth: required}
    - {match: {path: /secret/*}, roles: [nobody], conceal: true}
    - {auth: none}
`

// annaPass is the password "pass" of the user anna, for htpasswd and Caddyfile.
const annaPass = "$2a$04$xWW2M84JiggkLiJg0vhWFeuuKb68Mq1QHyweR84ytGYfkTrokjyUq"

func writeRefusals(t *testing.T) string {
	t.Helper()
	path := writePolicy(t, refusals)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "users.htpasswd"), []byte("anna:"+annaPass+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rewrite(t, path, refusals)
	return path
}

// TestRefusalsOfSites holds the answers of sites on one server against each other:
// a site's error routes write the content of its refusals, and of no other's.
func TestRefusalsOfSites(t *testing.T) {
	policy := writeRefusals(t)
	s := startCaddy(t, `{
GLOBAL
}
&(shared) {
	moat `+policy+`
	respond "through"
}
http://plain.example:PORT {
	moat `+policy+`
	respond "through"
}
http://styled.example:PORT {
	moat `+policy+`
	handle_errors {
		header X-Styled yes
		respond "styled {err.status_code} {err.message} {http.moat.stage}/{http.moat.rule}"
	}
	respond "through"
}
http://others.example:PORT {
	moat `+policy+`
	handle_errors 5xx {
		respond "styled"
	}
	respond "through"
}
http://named.example:PORT {
	invoke shared
	handle_errors 403 {
		respond "styled {err.status_code}"
	}
}
http://looping.example:PORT {
	handle_errors {
		moat `+policy+`
		respond "not refused"
	}
	error 500
}
`)
	for _, tt := range []struct {
		site, path string
		status     int
		body       string // the beginning; of moat's own content if empty
		fields     map[string]string
	}{
		{"plain", "/", 200, "through", nil},
		{"plain", "/blocked/", 403, "", nil},
		{"plain", "/law/", 451, "", nil},
		{"plain", "/private/", 401, "", map[string]string{"Www-Authenticate": `Basic realm="house", charset="UTF-8"`}},
		{"plain", "/secret/", 404, "", nil},
		{"styled", "/", 200, "through", nil},
		{"styled", "/blocked/", 403, "styled 403 the request was refused access/no-entry", map[string]string{"X-Styled": "yes"}},
		{"styled", "/law/", 451, "styled 451 ", nil},
		{"styled", "/private/", 401, "styled 401 ", map[string]string{"Www-Authenticate": `Basic realm="house", charset="UTF-8"`}},
		{"styled", "/secret/", 404, "", map[string]string{"X-Styled": ""}}, // as a missing path, whose 404 is moat's too
		{"others", "/blocked/", 403, "", nil},
		{"others", "/private/", 401, "", map[string]string{"Www-Authenticate": `Basic realm="house", charset="UTF-8"`}},
		{"named", "/blocked/", 403, "styled 403", nil},
		{"named", "/law/", 451, "", nil},
		{"looping", "/", 500, "not refused", nil},
		{"looping", "/blocked/", 403, "", nil},
	} {
		t.Run(tt.site+tt.path, func(t *testing.T) {
			a := s.get(t, tt.path, "Host: "+tt.site+".example", "Accept: text/plain")
			if a.status != tt.status {
				t.Errorf("status %d, want %d", a.status, tt.status)
			}
			want := tt.body
			if want == "" {
				want = fmt.Sprintf("%d %s\n", tt.status, http.StatusText(tt.status))
			}
			if !strings.HasPrefix(a.body, want) {
				t.Errorf("content %q, want %q", a.body, want)
			}
			for name, value := range tt.fields {
				if got := a.header.Get(name); got != value {
					t.Errorf("%s %q, want %q", name, got, value)
				}
			}
			if a.status >= 400 && tt.site != "looping" && a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control %q", a.header.Get("Cache-Control"))
			}
			head := s.ask(t, http.MethodHead, tt.path, "Host: "+tt.site+".example", "Accept: text/plain")
			if head.status != tt.status || head.body != "" || !slices.Equal(head.header["Www-Authenticate"], a.header["Www-Authenticate"]) {
				t.Errorf("HEAD: %+v", head)
			}
		})
	}
}

// TestStyledTier holds that the fields of an exceeded tier do not depend on who
// writes the content.
func TestStyledTier(t *testing.T) {
	policy := writeRefusals(t)
	s := startCaddy(t, `{
GLOBAL
}
ADDR {
	moat `+policy+`
	handle_errors 429 {
		respond "slow down"
	}
	respond "through"
}
`)
	if a := s.get(t, "/slow/"); a.status != 200 {
		t.Fatalf("the first request: %+v", a)
	}
	a := s.get(t, "/slow/")
	if a.status != 429 || a.body != "slow down" || a.header.Get("Retry-After") == "" ||
		!strings.HasPrefix(a.header.Get("RateLimit"), `"slow";r=0`) || a.header.Get("RateLimit-Policy") == "" {
		t.Errorf("%+v", a)
	}
}

// TestOtherErrorsStayCaddys holds that moat's place among the error routes changes
// nothing for errors of other handlers.
func TestOtherErrorsStayCaddys(t *testing.T) {
	policy := writeRefusals(t)
	for name, errorRoutes := range map[string]string{"without error routes": "", "with others": "handle_errors 404 {\nrespond \"none\"\n}\n"} {
		t.Run(name, func(t *testing.T) {
			s := startCaddy(t, `{
GLOBAL
}
ADDR {
	moat `+policy+`
	handle /broken {
		error "out of order" 500
	}
	handle /gone {
		reverse_proxy 127.0.0.1:1
	}
	handle {
		respond "through"
	}
	`+errorRoutes+`
}
`)
			for path, status := range map[string]int{"/broken": 500, "/gone": 502} {
				if a := s.get(t, path); a.status != status || a.body != "" || a.header.Get("Cache-Control") != "" {
					t.Errorf("%s: %+v", path, a)
				}
			}
		})
	}
}

// TestSubrouteErrors holds that the error routes of a subroute answer, and that
// one which matches nothing does not let a refused request through to the handlers
// behind it.
func TestSubrouteErrors(t *testing.T) {
	policy := writeRefusals(t)
	s := newServer(t)
	config := func(status string) []byte {
		return fmt.Appendf(nil, `{
	"admin": {"listen": %q, "config": {"persist": false}},
	"apps": {"http": {"servers": {"srv": {
		"listen": [%q], "automatic_https": {"disable": true},
		"routes": [
			{"handle": [{
				"handler": "subroute",
				"routes": [{"handle": [{"handler": "moat", "policy": %q}]}],
				"errors": {"routes": [{
					"match": [{"expression": "{http.error.status_code} == %s"}],
					"handle": [{"handler": "static_response", "body": "styled"}]
				}]}
			}]},
			{"handle": [{"handler": "static_response", "body": "through"}]}
		]
	}}}}
}`, s.admin, s.addr, policy, status)
	}
	for status, body := range map[string]string{"403": "styled", "500": "403 Forbidden\n"} {
		if err := caddy.Load(config(status), true); err != nil {
			t.Fatal(err)
		}
		if a := s.get(t, "/"); a.status != 200 || a.body != "through" {
			t.Errorf("open page: %+v", a)
		}
		if a := s.get(t, "/blocked/", "Accept: text/plain"); a.status != 403 || !strings.HasPrefix(a.body, body) {
			t.Errorf("error route for %s: %+v", status, a)
		}
	}
	// What the admin API shows is what was loaded.
	if a := s.get(t, "http://"+s.admin+"/config/"); a.status != 200 || strings.Contains(a.body, "moat_error") || !json.Valid([]byte(a.body)) {
		t.Errorf("configuration: %d %s", a.status, a.body)
	}
}

// TestConcealedIsAsMissing compares a concealed path with a missing one, behind
// handlers that answer 404 in each way that there is.
func TestConcealedIsAsMissing(t *testing.T) {
	policy := writeRefusals(t)
	files := t.TempDir()
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "upstream")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "not here")
	})
	for name, handler := range map[string]string{
		"upstream":                 "reverse_proxy " + up,
		"files":                    "root " + files + "\nfile_server",
		"files with error routes":  "root " + files + "\nfile_server\nhandle_errors {\nrespond \"styled\"\n}",
		"error":                    "error 404",
		"error through a compress": "encode\nerror 404",
	} {
		t.Run(name, func(t *testing.T) {
			s := startCaddy(t, "{\nGLOBAL\n}\nADDR {\nmoat "+policy+"\n"+handler+"\n}\n")
			missing, concealed := s.get(t, "/missing"), s.get(t, "/secret/")
			for _, a := range []reply{missing, concealed} {
				a.header.Del("Date")
			}
			if missing.status != 404 || fmt.Sprint(missing) != fmt.Sprint(concealed) {
				t.Errorf("missing\n%v\nconcealed\n%v", missing, concealed)
			}
		})
	}
}

// TestRefusalHasTheIdOfTheAuditLine lets an operator find the line to an error page.
func TestRefusalHasTheIdOfTheAuditLine(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("version: 1\naudit: {file: audit.jsonl}\n"+noWAF+"rules: [{id: x, match: {path: /x}, action: block}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startCaddy(t, "{\nGLOBAL\n}\nADDR {\nmoat "+policy+"\nhandle_errors {\nrespond \"{err.id}\"\n}\n}\n")
	a := s.get(t, "/x")
	if len(a.body) != 32 {
		t.Fatalf("%+v", a)
	}
	eventually(t, "the audit line", func() bool {
		line, _ := os.ReadFile(filepath.Join(dir, "audit.jsonl"))
		return strings.Contains(string(line), `"id":"`+a.body+`"`)
	})
}

// TestExternalAnswerIsNoError holds that error routes do not take the place of what an
// external auth service answers, and do of moat's own refusals.
func TestExternalAnswerIsNoError(t *testing.T) {
	service := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") == "sid=1" {
			return
		}
		w.Header().Add("Www-Authenticate", "Own")
		w.Header().Add("Set-Cookie", "state=1")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte("own words"))
	})
	policy := writePolicy(t, noWAF+"rules: [{id: x, match: {path: /blocked}, action: block}]\nauth: {methods: [{forward: {url: \"http://"+service+"/verify\"}}]}\n")
	s := startCaddy(t, "{\nGLOBAL\n}\nADDR {\nroute {\nmoat "+policy+"\nrespond through\n}\nhandle_errors {\nrespond \"page {err.status_code}\"\n}\n}\n")
	if a := s.get(t, "/"); a.status != 401 || a.body != "own words" || a.header.Get("Www-Authenticate") != "Own" || a.header.Get("Set-Cookie") != "state=1" {
		t.Errorf("%+v", a)
	}
	if a := s.get(t, "/", "Cookie: sid=1"); a.status != 200 || a.body != "through" {
		t.Errorf("%+v", a)
	}
	if a := s.get(t, "/blocked"); a.status != 403 || a.body != "page 403" {
		t.Errorf("%+v", a)
	}
}

package moatcaddy

import (
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func basic(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// TestIdentityReachesUpstream holds that the upstream learns who the caller is from
// moat, and from nobody else.
func TestIdentityReachesUpstream(t *testing.T) {
	var got http.Header
	up := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		_, _ = io.Copy(io.Discard, r.Body)
		for name, value := range r.Trailer {
			got["Trailer-"+name] = value
		}
	})
	s := startCaddy(t, `{
GLOBAL	servers {
		expected_underscore_headers X_Auth_*
	}
}
ADDR {
	moat `+writeRefusals(t)+` {
		identity_header X-Auth-User
		identity_header X-Auth-Method method
	}
	reverse_proxy `+up+` {
		header_up X-Seen "{http.moat.identity}"
		header_up X-Id "{http.auth.user.id}"
	}
	handle_errors {
		reverse_proxy `+up+` {
			header_up X-Seen error
		}
	}
}
`)
	spoofed := []string{"X-Auth-User: root", "x-auth-user: root", "X_Auth_User: root", "x_AUTH-user: root", "X.Auth.User: root", "X-Auth-Method: magic"}
	for _, tt := range []struct {
		name, path string
		fields     []string
		user, seen string
	}{
		{"known caller", "/private/", []string{basic("anna", "pass")}, "anna", "anna"},
		{"known caller who says more", "/private/", append([]string{basic("anna", "pass")}, spoofed...), "anna", "anna"},
		{"nobody asked", "/", spoofed, "", ""},
		{"refused, to an error page of an upstream", "/blocked/", spoofed, "", "error"},
		{"caller who names the headers as hop-by-hop", "/private/", []string{basic("anna", "pass"), "Connection: close, x-auth-user, X_Auth_Method"}, "anna", "anna"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got = nil
			s.get(t, tt.path, tt.fields...)
			if got == nil {
				t.Fatal("nothing reached the upstream")
			}
			for name, values := range got {
				folded := strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(name))
				if folded == "x-auth-user" && (name != "X-Auth-User" || !slices.Equal(values, []string{tt.user})) {
					t.Errorf("%s: %q", name, values)
				}
			}
			if got.Get("X-Auth-User") != tt.user || tt.user != "" && got.Get("X-Id") != tt.user || strings.TrimSpace(got.Get("X-Seen")) != tt.seen {
				t.Errorf("X-Auth-User %q, X-Seen %q", got.Get("X-Auth-User"), got.Get("X-Seen"))
			}
			if method := got.Get("X-Auth-Method"); (tt.user == "") != (method == "") {
				t.Errorf("X-Auth-Method %q", method)
			}
		})
	}
	t.Run("in a trailer", func(t *testing.T) {
		got = nil
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+"/", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = -1
		req.Trailer = http.Header{"X-Auth-User": {"root"}, "X-Other": {"kept"}}
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got == nil || got.Get("Trailer-X-Auth-User") != "" || got.Get("X-Auth-User") != "" {
			t.Errorf("upstream saw %v", got)
		}
	})
}

// TestCaddysOwnAuthentication holds that moat stands in front of Caddy's handlers
// that ask for credentials, and does not touch their answers.
func TestCaddysOwnAuthentication(t *testing.T) {
	gate := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Ticket") == "" {
			w.Header().Add("Www-Authenticate", `Ticket realm="gate"`)
			w.Header().Add("Set-Cookie", "state=1")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "show your ticket")
		}
	})
	site := func(auth string, conceals bool) *server {
		policy := writePolicy(t, "rules: [{id: x, match: {path: /blocked}, action: block}]\n")
		if conceals {
			policy = writeRefusals(t)
		}
		return startCaddy(t, "{\nGLOBAL\n}\nADDR {\n"+auth+"\nmoat "+policy+"\nrespond through\n}\n")
	}
	for _, conceals := range []bool{false, true} {
		s := site("basic_auth {\nanna "+annaPass+"\n}", conceals)
		if a := s.get(t, "/"); a.status != 401 || a.header.Get("Www-Authenticate") != `Basic realm="restricted"` || a.body != "" || a.header.Get("Cache-Control") != "" {
			t.Errorf("basic_auth, no credentials: %+v", a)
		}
		if a := s.get(t, "/", basic("anna", "pass")); a.status != 200 || a.body != "through" {
			t.Errorf("basic_auth, good credentials: %+v", a)
		}
		if conceals {
			continue // without payload rules
		}
		for _, fields := range [][]string{nil, {basic("anna", "pass")}} {
			if a := s.get(t, "/?q=<script>alert(1)</script>", fields...); a.status != 403 || a.header["Www-Authenticate"] != nil {
				t.Errorf("basic_auth, attack: %+v", a)
			}
		}
	}
	s := site("forward_auth "+gate+" {\nuri /check\n}", false)
	if a := s.get(t, "/"); a.status != 401 || a.header.Get("Www-Authenticate") != `Ticket realm="gate"` || a.header.Get("Set-Cookie") != "state=1" || a.body != "show your ticket" {
		t.Errorf("forward_auth, no ticket: %+v", a)
	}
	if a := s.get(t, "/", "X-Ticket: 1"); a.status != 200 || a.body != "through" {
		t.Errorf("forward_auth, ticket: %+v", a)
	}
	if a := s.get(t, "/blocked"); a.status != 403 || a.header["Www-Authenticate"] != nil || a.header["Set-Cookie"] != nil {
		t.Errorf("forward_auth, blocked: %+v", a)
	}
}

// TestPlaceholders reads the placeholders where operators use them: in the access
// log, in a header to the upstream, on an error page.
func TestPlaceholders(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(policyHead+`
client_ip: {trusted_proxies: [127.0.0.0/8]}
rules:
  - {id: embargo, match: {country: [KP]}, action: block}
  - {id: watched, match: {path: /watched}, action: detect}
tiers: [{id: everyone, key: ip, rate: 1000/s}]
auth:
  methods: [{basic: {htpasswd: users.htpasswd}}]
  require: [{match: {path: /private}, auth: required}, {auth: none}]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "users.htpasswd"), []byte("anna:"+annaPass+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const all = "{http.moat.verdict}|{http.moat.stage}|{http.moat.rule}|{http.moat.reason}|{http.moat.country}|{http.moat.asn}|{http.moat.tier}|{http.moat.identity}|{http.moat.score}"
	s := startCaddy(t, `{
GLOBAL
}
ADDR {
	log
	log_append verdict {http.moat.verdict}
	log_append rule {http.moat.rule}
	log_append country {http.moat.country}
	log_append score {http.moat.score}
	moat `+policy+`
	respond "`+all+`"
	handle_errors {
		respond "`+all+`"
	}
}
`)
	for _, tt := range []struct {
		path   string
		fields []string
		want   string
	}{
		{"/", nil, "allow||||||everyone||0"},
		{"/watched", nil, "detect|access|watched|rule|||everyone||0"},
		{"/private", []string{basic("anna", "pass")}, "allow||||||everyone|anna|0"},
		{"/private", nil, "challenge|auth|require[0]|no-credentials|||everyone||0"},
		{"/kp", []string{"X-Forwarded-For: 175.45.176.1"}, "block|access|embargo|rule|KP||||0"},
		{"/?q=1%27+UNION+SELECT+password+FROM+users--+-", nil, "block|payload|949110|payload|||everyone||"},
	} {
		a := s.get(t, tt.path, tt.fields...)
		if !strings.HasPrefix(a.body, tt.want) || strings.HasSuffix(tt.want, "|") && len(a.body) == len(tt.want) {
			t.Errorf("%s: %q, want %q", tt.path, a.body, tt.want)
		}
		v := strings.Split(a.body, "|")
		s.logged(t, "handled request", `"verdict":"`+v[0]+`"`, `"rule":"`+v[2]+`"`, `"country":"`+v[4]+`"`, `"score":`+v[8])
	}
}

// TestTwoHandlers holds that the placeholders show the last decision.
func TestTwoHandlers(t *testing.T) {
	s := startCaddy(t, "{\nGLOBAL\n}\nADDR {\nroute {\nmoat "+writePolicy(t, noWAF)+"\nmoat "+
		writePolicy(t, noWAF+"rules: [{id: second, match: {path: /x}, action: block}]\n")+
		"\n}\nhandle_errors {\nrespond {http.moat.verdict}/{http.moat.rule}\n}\n}\n")
	if a := s.get(t, "/x"); a.body != "block/second" {
		t.Errorf("%+v", a)
	}
}

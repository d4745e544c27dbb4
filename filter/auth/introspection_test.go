package auth_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter/auth"
)

// introspectionServer answers about tokens: what answers holds, else not active.
func introspectionServer(t *testing.T, answers map[string]string) (*httptest.Server, *atomic.Int64) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if id, secret, ok := r.BasicAuth(); !ok || id != "moat" || secret != "a%3Ab" || r.Method != "POST" {
			w.WriteHeader(401)
			return
		}
		answer, ok := answers[r.FormValue("token")]
		if !ok {
			answer = `{"active":false}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s, &asked
}

func newIntrospection(t *testing.T, url string, withBearer bool) *auth.Introspection {
	t.Helper()
	m, err := auth.NewIntrospection(auth.IntrospectionConfig{URL: url, ClientID: "moat", ClientSecret: "a:b", Audience: audience}, withBearer)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestIntrospection(t *testing.T) {
	exp := func(d time.Duration) int64 { return now.Add(d).Unix() }
	s, asked := introspectionServer(t, map[string]string{
		"good":     `{"active":true,"sub":"anna","aud":["x","api"],"scope":"read write","plan":"pro"}`,
		"short":    fmt.Sprintf(`{"active":true,"username":"ida","aud":"api","exp":%d}`, exp(20*time.Second)),
		"expired":  fmt.Sprintf(`{"active":true,"sub":"anna","aud":"api","exp":%d}`, exp(0)),
		"later":    fmt.Sprintf(`{"active":true,"sub":"anna","aud":"api","nbf":%d}`, exp(time.Hour)),
		"foreign":  `{"active":true,"sub":"anna","aud":"other"}`,
		"nobody":   `{"active":true,"aud":"api"}`,
		"exp-text": `{"active":true,"sub":"anna","aud":"api","exp":"soon"}`,
		"off":      `{"active":false,"sub":"anna","aud":"api"}`,
		"no-json":  `<html>`,
		"unclear":  `{"sub":"anna","aud":"api"}`,
		"string":   `{"active":"true","sub":"anna","aud":"api"}`,
		"huge":     `{"active":true,"sub":"anna","aud":"api","a":"` + strings.Repeat("a", 64<<10) + `"}`,
	})
	m := newIntrospection(t, s.URL, false)
	for _, tt := range []struct {
		token, want string
		fails       bool // an error of the stage
	}{
		{"good", "", false}, {"short", "", false},
		{"expired", "token expired", false}, {"later", "token not valid yet", false}, {"foreign", "token for another audience", false},
		{"nobody", "active token of nobody", false}, {"exp-text", "claims not valid", false}, {"off", "token not active", false},
		{"unknown", "token not active", false}, {"####", "characters that no token has", false}, {strings.Repeat("a", 16<<10+1), "token too long", false},
		{"no-json", "the issuer's answer cannot be read", true}, {"huge", "the issuer's answer cannot be read", true},
		{"unclear", "the issuer's answer does not tell whether the token is active", true}, {"string", "the issuer's answer does not tell whether the token is active", true},
	} {
		who, err := verify(m, tt.token)
		var rejected *auth.Rejection
		if errorText(err) != tt.want || (who == nil) != (tt.want != "") || err != nil && errors.As(err, &rejected) == tt.fails {
			t.Errorf("%.20s: got %+v, %v", tt.token, who, err)
		}
	}
	who, err := verify(m, "good")
	if err != nil || who.Subject != "anna" || who.Method != "introspection" || !slices.Equal(who.Scopes, []string{"read", "write"}) || who.Claims["plan"] != "pro" {
		t.Errorf("%+v, %v", who, err)
	}

	before := asked.Load()
	for range 50 {
		_, _ = verify(m, "good")
		_, _ = verify(m, "off")
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("asked %d times for what is known", n)
	}
	for _, tt := range []struct {
		token string
		after time.Duration
		asks  int64
	}{{"good", 59 * time.Second, 0}, {"good", time.Minute, 1}, {"short", 19 * time.Second, 0}, {"short", 20 * time.Second, 1}, {"off", 9 * time.Second, 0}, {"off", 10 * time.Second, 1}} {
		before := asked.Load()
		_, _ = verifyAt(m, tt.token, now.Add(tt.after))
		if n := asked.Load() - before; n != tt.asks {
			t.Errorf("%s after %v: asked %d times, want %d", tt.token, tt.after, n, tt.asks)
		}
	}
}

// TestIntrospectionOutage holds that nobody gets in while the issuer is away, and that
// it is no fault of the caller.
func TestIntrospectionOutage(t *testing.T) {
	s, _ := introspectionServer(t, map[string]string{"good": `{"active":true,"sub":"anna","aud":"api"}`})
	p := pipeline(t, auth.Config{Realm: "api", Methods: []auth.Method{newIntrospection(t, s.URL, false)}, Requirements: []auth.Requirement{{}}})
	ask := func(token string) int {
		d, _, _ := decide(p, parse(t, "GET / HTTP/1.1", "Authorization: Bearer "+token))
		return d.StatusCode()
	}
	if got := ask("good"); got != 0 {
		t.Errorf("good: %d", got)
	}
	s.Close()
	if a, b := ask("good"), ask("other"); a != 0 || b != 503 {
		t.Errorf("while it is away: known %d, unknown %d; want 0 and 503", a, b)
	}
}

func TestIntrospectionBesideBearer(t *testing.T) {
	s, asked := introspectionServer(t, map[string]string{"good": `{"active":true,"sub":"ida","aud":"api"}`})
	p := pipeline(t, auth.Config{Realm: "api", Methods: []auth.Method{newIntrospection(t, s.URL, true), newBearer(t, nil)}, Requirements: []auth.Requirement{{}}})
	for credential, want := range map[string]string{"good": "ida", token(t, nil): "anna", "bad": "", "a.b.c": ""} {
		_, who, err := decide(p, parse(t, "GET / HTTP/1.1", "Authorization: Bearer "+credential))
		if err != nil || (who == nil) != (want == "") || who != nil && who.Subject != want {
			t.Errorf("%.20s: %+v, %v; want %q", credential, who, err, want)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

// TestIntrospectionIsBounded holds that a flood of tokens asks no more at a time than
// the issuer is to bear.
func TestIntrospectionIsBounded(t *testing.T) {
	release := make(chan struct{})
	var most, current atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		most.Store(max(most.Load(), current.Add(1)))
		<-release
		current.Add(-1)
		_, _ = io.WriteString(w, `{"active":false}`)
	}))
	defer s.Close()
	m := newIntrospection(t, s.URL, false)
	var busy atomic.Int64
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, err := verify(m, fmt.Sprint("token", i)); errors.Is(err, auth.ErrBusy) {
				if busy.Add(1) == 200-64 {
					close(release)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() > 64 || busy.Load() < 200-64 {
		t.Errorf("%d questions at a time, %d were refused", most.Load(), busy.Load())
	}
}

func TestNewIntrospectionRefuses(t *testing.T) {
	_, err := auth.NewIntrospection(auth.IntrospectionConfig{URL: "http://issuer.example/", Cache: -1}, false)
	want := "introspection: the URL \"http://issuer.example/\" is not one of https\nintrospection: the client's id or secret is empty: the endpoint would answer nobody (RFC 7662 section 2.1)\nintrospection: a negative time"
	if errorText(err) != want {
		t.Errorf("got %v", err)
	}
}

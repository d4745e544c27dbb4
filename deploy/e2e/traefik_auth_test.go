package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestTraefikAuthBehind holds that a request without credentials passes moat on to
// Traefik's own authentication, whose answer reaches the client untouched, and that
// an attack is refused before it is asked who sends it.
func TestTraefikAuthBehind(t *testing.T) {
	skipShort(t)
	const attack = "?q=%3Cscript%3Ealert(document.cookie)%3C/script%3E"
	// The password of the middleware, which the file of the fixtures has too.
	credentials := "Authorization: Basic YW5uYTpwYXNzOndvcmQ="
	for _, target := range traefikTargets(t) {
		t.Run(target.Name(), func(t *testing.T) {
			u := newUpstream(t)
			g := target.(*traefikTarget)
			var plain string // the address of the same Traefik without moat
			alone := &traefikTarget{whole: g.whole, change: func(s string) string {
				return strings.Replace(s, "middlewares: [moat, password]", "middlewares: [password]", 1)
			}}
			alone.socket = "/nowhere.sock"
			plain = alone.startTraefik(t, u.URL)
			addr := g.Start(t, openPolicy(t), u.URL)

			send := func(addr, target string, fields ...string) *Answer {
				t.Helper()
				lines := append([]string{"GET " + target + " HTTP/1.1", "Host: localhost", "Connection: close"}, fields...)
				a, err := Send(t.Context(), addr, Message{Method: http.MethodGet, Head: []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")})
				if err != nil {
					t.Fatal(err)
				}
				return a
			}
			for _, c := range []struct {
				name, target, credentials string
				status                    int
			}{
				{"no credentials", "/staff/x", "", 401},
				{"wrong credentials", "/staff/x", "Authorization: Basic YW5uYTp3cm9uZw==", 401},
				{"good credentials", "/staff/x", credentials, 404}, // of the upstream
				{"attack without credentials", "/staff/x" + attack, "", 403},
				{"attack with wrong credentials", "/staff/x" + attack, "Authorization: Basic YW5uYTp3cm9uZw==", 403},
				{"attack with credentials", "/staff/x" + attack, credentials, 403},
			} {
				t.Run(c.name, func(t *testing.T) {
					fields := slices.DeleteFunc([]string{c.credentials}, func(s string) bool { return s == "" })
					a := send(addr, c.target, fields...)
					if a.Status != c.status {
						t.Fatalf("%d, want %d", a.Status, c.status)
					}
					challenge := a.Header.Get("WWW-Authenticate")
					switch c.status {
					case http.StatusForbidden:
						if challenge != "" {
							t.Errorf("a challenge: %q", challenge)
						}
					case http.StatusUnauthorized:
						if challenge != `Basic realm="staff"` {
							t.Errorf("challenge %q", challenge)
						}
						if problems := a.differences(send(plain, c.target, fields...), "Traefik without moat"); len(problems) > 0 {
							t.Errorf("%s", strings.Join(problems, "\n"))
						}
					}
				})
			}
		})
	}
}

// TestTraefikGRPC speaks gRPC through Traefik.
func TestTraefikGRPC(t *testing.T) {
	skipShort(t)
	for _, target := range traefikTargets(t) {
		t.Run(target.Name(), func(t *testing.T) {
			speakGRPC(t, "http://"+target.Start(t, openPolicy(t), "h2c://"+grpcUpstream(t)))
		})
	}
}

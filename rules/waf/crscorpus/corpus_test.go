package crscorpus

import (
	"errors"
	"io"
	"testing"
)

func TestAll(t *testing.T) {
	all := All()
	if len(all) < 4600 {
		t.Errorf("%d cases, want the whole corpus of more than 4600", len(all))
	}
	seen := map[string]bool{}
	refused := 0
	for i := range all {
		c := &all[i]
		if seen[c.ID] {
			t.Errorf("%s: the id is there twice", c.ID)
		}
		seen[c.ID] = true
		r, err := c.Request()
		if err != nil {
			var re *Refused
			if !errors.As(err, &re) {
				t.Errorf("%s: %v", c.ID, err)
			}
			refused++
			continue
		}
		if r.RemoteAddr != ClientAddr {
			t.Errorf("%s: comes from %s", c.ID, r.RemoteAddr)
		}
	}
	t.Logf("%d cases, %d refused by net/http", len(all), refused)
}

func TestBuildRaw(t *testing.T) {
	host := header{{"Host", "localhost"}}
	for _, tt := range []struct {
		name         string
		method, data string
		header       header
		auto         bool
		want         string
	}{
		{"nothing to add", "GET", "", host, false, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"connection", "GET", "", host, true, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"},
		{"empty POST", "POST", "", host, true, "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
		{"plain form", "POST", "a=b c&d", host, true,
			"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close\r\nContent-Length: 7\r\n\r\na=b+c&d"},
		{"encoded form", "POST", "a=%3C ", host, true,
			"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close\r\nContent-Length: 6\r\n\r\na=%3C "},
		{"multipart", "POST", "--x\n", append(header{{"content-type", "multipart/form-data; boundary=x"}}, host...), true,
			"POST / HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=x\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\n--x\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(buildRaw(tt.method, "/", "HTTP/1.1", tt.header, tt.data, tt.auto)); got != tt.want {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestRequest(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		refused   int // status; -1 for a request
		body      string
		broken    bool
	}{
		{"whole", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", -1, "abc", false},
		{"bytes behind it", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n", -1, "", false},
		{"short", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", -1, "abc", true},
		{"no host", "GET / HTTP/1.1\r\n\r\n", 400, "", false},
		{"no request line", "hello\r\n\r\n", 400, "", false},
		{"unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "", false},
		{"nothing", "", 0, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Case{Raw: []byte(tt.raw)}
			r, err := c.Request()
			if tt.refused >= 0 {
				var re *Refused
				if !errors.As(err, &re) || re.Status != tt.refused {
					t.Fatalf("got %v, want a refusal with %d", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r.Body)
			if string(b) != tt.body || (err != nil) != tt.broken {
				t.Errorf("body %q, %v", b, err)
			}
			if r.Host != "a" {
				t.Errorf("host %q", r.Host)
			}
		})
	}
}

package decide

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// readHeads returns the files of a folder: heads with LF for the end of a field
// line too, as editors write them.
func readHeads(t testing.TB, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.head"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no heads: %v", err)
	}
	heads := make(map[string]string)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfterN(string(b), "\n", 8)
		last := len(lines) - 1
		if last == 7 {
			lines[last] = strings.ReplaceAll(lines[last], "\n", "\r\n")
		}
		heads[strings.TrimSuffix(filepath.Base(file), ".head")] = strings.Join(lines, "")
	}
	return heads
}

func TestGoodHeads(t *testing.T) {
	for name, text := range readHeads(t, "good") {
		h, err := parseHead(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := fmt.Sprintf("%s %s %s %s %s %v %d", h.method, h.url, h.proto, h.host, h.peer, h.hasBody, h.length)
		if want := goodHeads[name]; got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

var goodHeads = map[string]string{
	"plain":             "GET /search?q=1 HTTP/1.1 www.example.com 203.0.113.7:51312 false 0",
	"spaces-in-target":  "GET /a%20b%20HTTP/1.1 HTTP/2.0 www.example.com [2001:db8::1]:443 false 0",
	"no-fields":         "POST / HTTP/1.0   true -1",
	"absolute-target":   "GET http://other.example/x HTTP/1.1 other.example 192.0.2.1:1 false 0",
	"asterisk":          "OPTIONS * HTTP/1.1 www.example.com 192.0.2.1:1 false 0",
	"connect":           "CONNECT //www.example.com:443 HTTP/1.1 www.example.com:443 192.0.2.1:1 false 0",
	"words-of-tomorrow": "PUT / HTTP/3.0 www.example.com 192.0.2.1:1 true 12",
}

func TestBadHeads(t *testing.T) {
	client := []string{"method-not-a-token", "target-unreadable", "host-with-slash"}
	for name, text := range readHeads(t, "bad") {
		_, err := parseHead(text)
		if err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		var malformed *clientError
		if got := errors.As(err, &malformed); got != slices.Contains(client, name) {
			t.Errorf("%s: %v; the client's fault: %v", name, err, got)
		}
	}
	many := "GET\n/\nHTTP/1.1\na\n\n-\n\n" + strings.Repeat("A: b\r\n", maxFields+1) + "\r\n"
	if _, err := parseHead(many); !errors.Is(err, errFields) {
		t.Errorf("too many fields: %v", err)
	}
}

// slowHead is the golden twin of parseHead: net/textproto's reader behind the lines.
func slowHead(text string) (lines []string, header http.Header, ok bool) {
	lines = strings.SplitN(text, "\n", 8)
	if len(lines) < 8 {
		return nil, nil, false
	}
	r := bufio.NewReader(strings.NewReader(lines[7]))
	fields, err := textproto.NewReader(r).ReadMIMEHeader()
	if err != nil || r.Buffered() > 0 {
		return nil, nil, false
	}
	return lines[:7], http.Header(fields), true
}

func FuzzHead(f *testing.F) {
	for _, dir := range []string{"good", "bad"} {
		for _, text := range readHeads(f, dir) {
			f.Add(text)
		}
	}
	f.Add("GET\n/\nHTTP/1.0\n\n\n0\n\nA: b\n\r\n\r\n") // a bare LF at the end of a value
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHead(text)
		var malformed *clientError
		if err != nil && !errors.As(err, &malformed) {
			if h != nil {
				t.Error("a head beside an error of the host")
			}
			return
		}
		lines, header, ok := slowHead(text)
		if !ok {
			t.Fatalf("%q is taken, and by net/textproto it is not", text)
		}
		if !maps.EqualFunc(h.header, header, slices.Equal) {
			t.Errorf("fields %q, and by net/textproto %q", h.header, header)
		}
		if h.target != lines[1] || h.peer != lines[4] {
			t.Errorf("lines %q became %q %q", lines, h.target, h.peer)
		}
		if err == nil {
			if h.method != lines[0] || h.url == nil {
				t.Errorf("%q: method %q, URL %v", lines, h.method, h.url)
			}
			h.traefik = true
			h.withoutTraefik() // must not panic, whatever the fields are
		}
	})
}

// FuzzForwarded: no subrequest makes a request that is about something else than the
// host has said.
func FuzzForwarded(f *testing.F) {
	f.Add("GET", "/a?b=c", "203.0.113.7", "1.2.3.4, 5.6.7.8", "X-Forwarded-Uri", "/other")
	f.Add("POST", "*", "", ",", "X-Real-Ip", "")
	f.Fuzz(func(t *testing.T, method, uri, host, chain, name, value string) {
		sub := &http.Request{Method: "GET", URL: &url.URL{Path: "/v1/forward-auth"}, Header: http.Header{}, Body: http.NoBody}
		for n, v := range map[string]string{"X-Forwarded-Method": method, "X-Forwarded-Uri": uri, "X-Forwarded-Host": host, "X-Forwarded-For": chain} {
			sub.Header.Set(n, v)
		}
		sub.Header.Add(name, value)
		q, problem := forwarded(sub)
		if problem != "" {
			return
		}
		if method != q.method || uri != q.target {
			t.Errorf("%q %q was asked about, %q %q is judged", method, uri, q.method, q.target)
		}
		_ = q.parseTarget()
	})
}

func TestWithoutTraefik(t *testing.T) {
	for _, c := range []struct {
		name, peer string
		tls        bool
		header     http.Header
		wantPeer   string
		want       http.Header
	}{
		{
			name: "what Traefik has put there", peer: "203.0.113.7:5",
			header:   http.Header{"X-Real-Ip": {"203.0.113.7"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"www.example.com"}, "X-Forwarded-Port": {"80"}, "X-Forwarded-Server": {"t"}, "Accept": {"*/*"}},
			wantPeer: "203.0.113.7:5", want: http.Header{"Accept": {"*/*"}},
		},
		{
			name: "with TLS and a zone", peer: "[fe80::1%eth0]:5", tls: true,
			header:   http.Header{"X-Real-Ip": {"fe80::1"}, "X-Forwarded-Proto": {"wss"}},
			wantPeer: "[fe80::1%eth0]:5", want: http.Header{},
		},
		{
			name: "what a proxy in front has sent", peer: "192.0.2.1:5",
			header:   http.Header{"X-Real-Ip": {"203.0.113.7"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"other.example"}},
			wantPeer: "192.0.2.1:5", want: http.Header{"X-Real-Ip": {"203.0.113.7"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"other.example"}},
		},
		{
			name: "the last hop that Traefik trusts", peer: "192.0.2.1:5",
			header:   http.Header{"X-Forwarded-For": {"198.51.100.1, ::ffff:203.0.113.7"}},
			wantPeer: "203.0.113.7", want: http.Header{"X-Forwarded-For": {"198.51.100.1"}},
		},
		{
			name: "over two lines", peer: "192.0.2.1:5",
			header:   http.Header{"X-Forwarded-For": {"198.51.100.1", "203.0.113.7"}},
			wantPeer: "203.0.113.7", want: http.Header{"X-Forwarded-For": {"198.51.100.1"}},
		},
		{
			name: "the only hop", peer: "192.0.2.1:5", header: http.Header{"X-Forwarded-For": {"2001:db8::1"}},
			wantPeer: "2001:db8::1", want: http.Header{},
		},
		{
			name: "no address is left to the policy", peer: "192.0.2.1:5", header: http.Header{"X-Forwarded-For": {"198.51.100.1, nobody"}},
			wantPeer: "192.0.2.1:5", want: http.Header{"X-Forwarded-For": {"198.51.100.1, nobody"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &head{peer: c.peer, tls: c.tls, host: "www.example.com", header: c.header}
			h.withoutTraefik()
			if h.peer != c.wantPeer || !maps.EqualFunc(h.header, c.want, slices.Equal) {
				t.Errorf("peer %s, %v", h.peer, h.header)
			}
		})
	}
}

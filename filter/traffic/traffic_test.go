package traffic

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func header(m *Message, name string) string {
	for _, f := range m.Header {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// TestGood is the forms that people have at hand.
func TestGood(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       Message
		header     map[string]string
	}{
		{"raw", "GET /a?b=1 HTTP/1.1\r\nHost: example.com\r\nX-A: 1\r\n\r\n", Message{Form: FormRaw, Method: "GET", Target: "/a?b=1", Host: "example.com"}, map[string]string{"x-a": "1"}},
		{"raw, line feeds only", "GET / HTTP/1.0\nHost: a\n", Message{Form: FormRaw, Method: "GET", Target: "/", Host: "a", Proto: "HTTP/1.0"}, nil},
		{"raw, a body without a length", "POST / HTTP/1.1\nHost: a\nContent-Type: text/plain\n\nhello\nworld", Message{Form: FormRaw, Method: "POST", Target: "/", Host: "a", Body: []byte("hello\nworld")}, map[string]string{"content-type": "text/plain"}},
		{"raw, an editor's line feed behind the body", "POST / HTTP/1.1\nHost: a\nContent-Length: 3\n\na=1\n", Message{Form: FormRaw, Method: "POST", Target: "/", Host: "a", Body: []byte("a=1")}, nil},
		{"raw, an editor's line feed and no length", "POST / HTTP/1.1\nHost: a\n\na=1\n", Message{Form: FormRaw, Method: "POST", Target: "/", Host: "a", Body: []byte("a=1")}, nil},
		{"raw, chunked", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n3\r\na=1\r\n0\r\n\r\n", Message{Form: FormRaw, Method: "POST", Target: "/", Host: "a", Body: []byte("a=1")}, nil},
		{"raw, a byte order mark", "\xef\xbb\xbfGET / HTTP/1.1\nHost: a\n\n", Message{Form: FormRaw, Method: "GET", Target: "/", Host: "a"}, nil},
		{"curl", "curl https://example.com/a?b=1", Message{Form: FormCurl, Method: "GET", Target: "/a?b=1", Host: "example.com"}, map[string]string{"user-agent": "curl/8.5.0"}},
		{"curl as a browser copies it", "curl 'https://example.com/login' \\\n  -X 'POST' \\\n  -H 'content-type: application/json' \\\n  --data-raw $'{\"a\":\"it\\'s\\u0021\"}' \\\n  --compressed",
			Message{Form: FormCurl, Method: "POST", Target: "/login", Host: "example.com", Body: []byte(`{"a":"it's!"}`)}, map[string]string{"content-type": "application/json", "accept-encoding": "deflate, gzip, br, zstd"}},
		{"curl, a form", `curl -sSd a=1 -d "b=x y" example.com`, Message{Form: FormCurl, Method: "POST", Target: "/", Host: "example.com", Body: []byte("a=1&b=x y")}, map[string]string{"content-type": "application/x-www-form-urlencoded"}},
		{"curl, into the query", `curl -G --data-urlencode "q=1' or 1=1" http://a/s`, Message{Form: FormCurl, Method: "GET", Target: "/s?q=1%27%20or%201%3D1", Host: "a"}, nil},
		{"curl, dots", `curl http://a/b/../c/./d`, Message{Form: FormCurl, Method: "GET", Target: "/c/d", Host: "a"}, nil},
		{"curl, dots as they are", `curl --path-as-is http://a/b/../c`, Message{Form: FormCurl, Method: "GET", Target: "/b/../c", Host: "a"}, nil},
		{"curl, joined arguments and a host", `curl -XPUT -H'Host: b' -u u:p http://a/`, Message{Form: FormCurl, Method: "PUT", Target: "/", Host: "b"}, map[string]string{"authorization": "Basic dTpw"}},
		{"archive", `{"log":{"entries":[{"request":{"method":"post","url":"https://a/b?c","httpVersion":"h2","headers":[{"name":":authority","value":"a"},{"name":"x","value":"y"}],"postData":{"mimeType":"text/plain","text":"t"}}}]}}`,
			Message{Form: FormHAR, Method: "POST", Target: "/b?c", Host: "a", Proto: "HTTP/2.0", Body: []byte("t")}, map[string]string{"x": "y", "content-type": "text/plain"}},
		{"an entry, fields of a form", `{"request":{"method":"POST","url":"http://a/","postData":{"mimeType":"application/x-www-form-urlencoded","params":[{"name":"a b","value":"1&2"}]}}}`,
			Message{Form: FormHAR, Method: "POST", Target: "/", Host: "a", Body: []byte("a+b=1%262")}, nil},
		{"a request, base64", `{"method":"POST","url":"http://a/","postData":{"text":"AAE=","encoding":"base64"}}`, Message{Form: FormHAR, Method: "POST", Target: "/", Host: "a", Body: []byte("\x00\x01")}, nil},
		{"audit", `{"time":"2026-03-01T00:00:00Z","client":"192.0.2.9","verdict":"block","method":"GET","host":"a","path":"/x y","query":"b=1","user_agent":"u"}`,
			Message{Form: FormAudit, Method: "GET", Target: "/x%20y?b=1", Host: "a", Client: "192.0.2.9"}, map[string]string{"user-agent": "u"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all, err := Parse([]byte(tt.text))
			if err != nil || len(all) != 1 {
				t.Fatalf("%d requests, %v", len(all), err)
			}
			got, want := &all[0], tt.want
			if want.Proto == "" {
				want.Proto = "HTTP/1.1"
			}
			if got.Form != want.Form || got.Method != want.Method || got.Target != want.Target || got.Host != want.Host ||
				got.Proto != want.Proto || string(got.Body) != string(want.Body) || got.Client != want.Client {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
			for name, value := range tt.header {
				if header(got, name) != value {
					t.Errorf("%s: %q, want %q", name, header(got, name), value)
				}
			}
			r, err := got.Request()
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil || string(body) != string(want.Body) || r.ContentLength != int64(len(body)) || r.RequestURI != want.Target || r.Host != want.Host {
				t.Errorf("request %s %s of %s, body %q, %v", r.Method, r.RequestURI, r.Host, body, err)
			}
		})
	}
}

// TestMany reads several requests at once.
func TestMany(t *testing.T) {
	for text, want := range map[string]int{
		"{\"verdict\":\"block\",\"method\":\"GET\",\"path\":\"/\"}\n{\"verdict\":\"block\",\"method\":\"GET\",\"path\":\"/b\"}\n": 2,
		`{"log":{"entries":[{"request":{"url":"http://a/"}},{"request":{"url":"http://b/"}},{"request":{"url":"http://c/"}}]}}`:   3,
	} {
		if all, err := Parse([]byte(text)); err != nil || len(all) != want {
			t.Errorf("%d requests, %v, want %d", len(all), err, want)
		}
	}
}

// TestBad holds that every fault is told with its place.
func TestBad(t *testing.T) {
	for _, tt := range []struct {
		name, text, want string
		line             int
	}{
		{"nothing", " \n", "there is no request", 0},
		{"prose", "hello world", "neither a request", 1},
		{"a header without a colon", "GET / HTTP/1.1\nHost: a\nnonsense\n\n", "a header line has", 3},
		{"a body too short", "POST / HTTP/1.1\nHost: a\nContent-Length: 9\n\na", "Content-Length says 9", 5},
		{"a broken chunk", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\nzz", "the body", 5},
		{"JSON of something else", `{"a":1}`, "neither an HTTP archive", 1},
		{"broken JSON", "{\n\"a\":\n!}", "does not parse", 3},
		{"an archive without a body", `{"method":"POST","url":"http://a/","postData":{"mimeType":"multipart/form-data","params":[{"name":"a"}]}}`, "not the body", 1},
		{"an URL without a host", `{"method":"GET","url":"/a"}`, "cannot be read", 1},
		{"an audit line about nothing", `{"verdict":"block"}`, "no request", 1},
		{"an open quote", "curl \\\n 'http://a", "not closed", 2},
		{"a pipe", "curl http://a | sh", "the shell's", 1},
		{"a variable", `curl "http://$HOST/"`, "a variable", 0},
		{"a file", "curl http://a -d @secret.txt", "not read", 1},
		{"a file in a form", "curl http://a -F f=@secret.txt", "not read", 1},
		{"an unknown option", "curl http://a \\\n --frobnicate", "--frobnicate", 2},
		{"an option without its argument", "curl http://a -H", "no argument", 1},
		{"two commands", "curl http://a\ncurl http://b", "a second command", 2},
		{"no URL", "curl -s", "no URL", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.text))
			var place *Error
			if !errors.As(err, &place) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if tt.line != 0 && place.Line != tt.line {
				t.Errorf("line %d, want %d: %v", place.Line, tt.line, err)
			}
		})
	}
	if _, err := (&Message{Target: "http://[::1", Host: "a"}).Request(); err == nil {
		t.Error("a target that is none")
	}
	if _, err := (&Message{Client: "nobody"}).Request(); err == nil {
		t.Error("a client that is none")
	}
}

// FuzzParse holds that no text makes a parser panic, and that what it returns is a
// request or an *Error.
func FuzzParse(f *testing.F) {
	f.Add([]byte("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"))
	f.Add([]byte("curl -X POST $'http://a/\\u0041' -H \"a: b\" --data-raw 'c'"))
	f.Add([]byte(`{"log":{"entries":[{"request":{"method":"GET","url":"http://a/"}}]}}`))
	f.Add([]byte(`{"verdict":"block","method":"GET","path":"/","client":"::1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := Parse(data)
		if err != nil {
			var place *Error
			if !errors.As(err, &place) {
				t.Errorf("%T: %v", err, err)
			}
			return
		}
		if len(all) == 0 {
			t.Error("no request and no error")
		}
		for i := range all {
			if r, err := all[i].Request(); err == nil && (r.URL == nil || r.Header == nil || r.Body == nil) {
				t.Error("half a request")
			}
		}
	})
}

package waf

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unsafe"

	"github.com/moatwaf/moat/filter"
)

// inline returns the configuration of a policy that has the given rules only.
func inline(text string) Config {
	return Config{
		FS:      fstest.MapFS{"rules.conf": &fstest.MapFile{Data: []byte(text)}},
		Include: []Include{{Name: "/rules.conf"}},
	}
}

// repeated are requests with several values under one name, one of them an
// attack, each shown to a collection of its own.
var repeated = []struct {
	name    string
	request func() *http.Request
}{
	{"form", func() *http.Request {
		return newHTTP("POST", "/", "a=1&b=2&c=3&d=4&e=5&q=tea&q=x1%27+UNION+SELECT+password+FROM+users--+-&q=milk&q=sugar",
			"Content-Type: application/x-www-form-urlencoded")
	}},
	{"form, empty names", func() *http.Request {
		return newHTTP("POST", "/", "a=1&b=2&c=3&=tea&=x1%27+UNION+SELECT+password+FROM+users--+-&=milk",
			"Content-Type: application/x-www-form-urlencoded")
	}},
	{"form, names in two cases", func() *http.Request {
		return newHTTP("POST", "/", "a=1&b=2&c=3&Q=tea&q=x1%27+UNION+SELECT+password+FROM+users--+-&qQ=milk&QQ=sugar",
			"Content-Type: application/x-www-form-urlencoded")
	}},
	{"query, names in two cases", func() *http.Request {
		return newHTTP("GET", "/?a=1&b=2&Q=tea&q=x1%27%20UNION%20SELECT%20password%20FROM%20users--%20-", "")
	}},
	{"JSON, names in two cases", func() *http.Request {
		return newHTTP("POST", "/", `{"a":1,"Q":"tea","q":"x1' UNION SELECT password FROM users-- -","qQ":"milk","QQ":1}`,
			"Content-Type: application/json")
	}},
	{"query, empty names", func() *http.Request {
		return newHTTP("GET", "/?a=1&b=2&c=3&=tea&=x1%27%20UNION%20SELECT%20password%20FROM%20users--%20-&=milk", "")
	}},
	{"JSON", func() *http.Request {
		return newHTTP("POST", "/", `{"a":1,"b":2,"c":3,"q":"tea","q":"x1' UNION SELECT password FROM users-- -","q":"milk"}`,
			"Content-Type: application/json")
	}},
	{"cookies", func() *http.Request {
		return newHTTP("GET", "/", "", "Cookie: a=1; b=2; c=3; q=tea; q=x1' UNION SELECT password FROM users-- -; q=milk")
	}},
	{"fields", func() *http.Request {
		return newHTTP("GET", "/", "", "X-Q: tea", "X-Q: x1' UNION SELECT password FROM users-- -", "X-Q: milk", "X-A: 1", "X-B: 2")
	}},
	{"multipart fields", func() *http.Request {
		field := func(name, value string) string {
			return "--x\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
		}
		return newHTTP("POST", "/", field("a", "1")+field("", "tea")+field("", sqli)+field("b", "2")+"--x--\r\n",
			"Content-Type: multipart/form-data; boundary=x")
	}},
	{"part headers", func() *http.Request {
		part := func(name string, header ...string) string {
			return "--x\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n" + strings.Join(header, "\r\n") + "\r\n\r\nv\r\n"
		}
		return newHTTP("POST", "/", part("a", "A: 1", "B: 2")+part("b", "C: x1' UNION SELECT password", "D: 4")+part("c", "E: 5")+"--x--\r\n",
			"Content-Type: multipart/form-data; boundary=x")
	}},
}

// TestEveryValueIsJudged holds requests with several values under one name
// against rules that share transformations: none of many tries may get through.
func TestEveryValueIsJudged(t *testing.T) {
	s := mustNew(t, inline(`
SecRule ARGS|ARGS_NAMES|REQUEST_COOKIES|REQUEST_HEADERS|MULTIPART_PART_HEADERS "@streq never" "id:1,phase:2,t:none,t:urlDecodeUni,t:lowercase,pass,nolog"
SecRule ARGS|ARGS_NAMES|REQUEST_COOKIES|REQUEST_HEADERS|MULTIPART_PART_HEADERS "@streq neither" "id:2,phase:2,t:none,t:urlDecodeUni,t:lowercase,pass,nolog"
SecRule ARGS|REQUEST_COOKIES|REQUEST_HEADERS:X-Q|MULTIPART_PART_HEADERS "@contains union select" "id:3,phase:2,t:none,t:urlDecodeUni,t:lowercase,deny,msg:'attack'"
`))
	for _, tt := range repeated {
		t.Run(tt.name, func(t *testing.T) {
			const tries = 10_000 / raceSlows
			passed := 0
			for range tries {
				if d := check(t, s, tt.request()); d.Rule != "3" {
					passed++
				}
			}
			if passed > 0 {
				t.Errorf("%d of %d tries got through", passed, tries)
			}
		})
	}
}

// TestEveryValueIsJudgedByCRS is the same with the whole rule set, fewer times.
func TestEveryValueIsJudgedByCRS(t *testing.T) {
	s := readyStage(t)
	for _, tt := range repeated {
		if tt.name == "fields" || tt.name == "part headers" {
			continue // the Core Rule Set looks for no such thing there
		}
		t.Run(tt.name, func(t *testing.T) {
			for i := range 50 / raceSlows {
				if d := check(t, s, tt.request()); d.Verdict != filter.Block {
					t.Fatalf("try %d got through", i)
				}
			}
		})
	}
}

func TestOwnKey(t *testing.T) {
	for _, key := range []string{"", "a", "name"} {
		seen := map[*byte]bool{}
		var keep []string
		for range 100 {
			k := ownKey(key)
			keep = append(keep, k)
			p := unsafe.StringData(k)
			if k != key || p == nil || seen[p] {
				t.Fatalf("ownKey(%q) = %q at %p, want a copy at an address of its own", key, k, p)
			}
			seen[p] = true
		}
		_ = keep
	}
}

func TestSplitForm(t *testing.T) {
	tests := []struct {
		body string
		want [][2]string
	}{
		{"", nil},
		{"a=1", [][2]string{{"a", "1"}}},
		{"a", [][2]string{{"a", ""}}},
		{"&&a=1&&b=2&", [][2]string{{"a", "1"}, {"b", "2"}}},
		{"=x&a==1", [][2]string{{"", "x"}, {"a", "=1"}}},
		{"a=1&b=2&c=3&d=4", [][2]string{{"a", "1"}, {"b", "2"}, {"c", "3"}}},
	}
	for _, tt := range tests {
		if got := splitForm(tt.body, 3); !slices.Equal(got, tt.want) {
			t.Errorf("splitForm(%q) = %q, want %q", tt.body, got, tt.want)
		}
	}
}

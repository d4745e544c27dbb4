package differ

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
)

// The shapes are what today's clients send: browsers that navigate and fetch, apps,
// webhooks, telemetry, file uploads. Their values are random and harmless; whether a
// rule sees something in them is for the plain engine to say.

// A Shape makes one kind of request.
type Shape struct {
	Name string
	Make func(*rand.Rand) Message
}

func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// chance is true once in n times.
func chance(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

var words = strings.Fields(`tea pot search order account settings catalogue blue red large small London Berlin Zürich Ada Lovelace invoice
 payment draft café naïve select update insert user admin from where table script style image function return value null true false
 order by union station group having join drop shipping and or not the a in of to is it for with on as at by an be this that from
 index home about contact news press team jobs help login logout profile cart checkout`)

var sentences = []string{
	"It's a nice day; isn't it?", "Please select a date from the list & confirm.", "5 > 3 and 2 < 4", "a + b = c", "O'Brien & Sons, Ltd.",
	"The price is $12.50 (incl. 19% VAT)", "C:\\Users\\ada\\report.docx", "see https://example.com/a?b=c#d", "#hashtag @mention", "1/2 cup -- or more",
	"Füße, straße, naïve café", "日本語のテキスト", "emoji 🎉 party", "e=mc^2; {x|y}", "\"quoted\" and 'single'", "line one\nline two", "tab\tseparated",
	"50% off!", "<3", "if (a) { b(); }", "SELECT is a word", "root cause analysis", "ping me at 10:30", "/etc is a directory", "100,000.00", "N/A", "--", "*",
	"Don't drop the table, please", "user@example.com", "(555) 010-9999", "a|b", "~tilde~", "`code`", "x=1&y=2", "null", "undefined", "NaN", "",
}

func word(r *rand.Rand) string { return oneOf(r, words...) }

// phrase is a few words.
func phrase(r *rand.Rand) string {
	var b strings.Builder
	for i := range 1 + r.IntN(8) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word(r))
	}
	return b.String()
}

func hexOf(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "0123456789abcdef"[r.IntN(16)]
	}
	return string(b)
}

func uuid(r *rand.Rand) string {
	return hexOf(r, 8) + "-" + hexOf(r, 4) + "-4" + hexOf(r, 3) + "-a" + hexOf(r, 3) + "-" + hexOf(r, 12)
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(256))
	}
	return b
}

func jwt(r *rand.Rand) string {
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + e.EncodeToString([]byte(`{"sub":"`+word(r)+`"}`)) + "." + e.EncodeToString(random(r, 64))
}

// value is what a field of a form or an API holds.
func value(r *rand.Rand) string {
	switch r.IntN(14) {
	case 0:
		return fmt.Sprint(r.IntN(100000))
	case 1:
		return uuid(r)
	case 2:
		return fmt.Sprintf("%s.%s@example.com", word(r), word(r))
	case 3:
		return fmt.Sprintf("2026-%02d-%02dT%02d:%02d:00.000Z", 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60))
	case 4:
		return base64.StdEncoding.EncodeToString(random(r, 1+r.IntN(40)))
	case 5:
		return "https://" + word(r) + ".example.com/" + word(r) + "?" + word(r) + "=" + word(r)
	case 6, 7:
		return oneOf(r, sentences...)
	case 8:
		return hexOf(r, 8+r.IntN(32))
	case 9:
		return oneOf(r, "on", "true", "1", "0", "-1", "12.50", "", "null", "en-GB", "#ff8800")
	case 10:
		return strings.Repeat(phrase(r)+". ", 1+r.IntN(10))
	case 11:
		return jwt(r)
	}
	return phrase(r)
}

func name(r *rand.Rand) string {
	return oneOf(r, word(r), word(r)+"_"+word(r), word(r)+"["+word(r)+"]", "utm_"+word(r), "_"+hexOf(r, 4), "q", "id", "page", word(r)+"."+word(r), "items[0][id]", word(r)+"[]", "X-"+word(r))
}

// query is a query string of n pairs.
func query(r *rand.Rand, n int) string {
	var pairs []string
	for range n {
		pairs = append(pairs, url.QueryEscape(name(r))+"="+oneOf(r, url.QueryEscape, url.PathEscape)(value(r)))
	}
	return strings.Join(pairs, "&")
}

func path(r *rand.Rand) string {
	p := ""
	for range 1 + r.IntN(4) {
		p += "/" + oneOf(r, word(r), fmt.Sprint(r.IntN(9999)), uuid(r), "api", "v1", url.PathEscape(word(r)+" "+word(r)))
	}
	return p + oneOf(r, "", "", "/", ".html", ".php", ".js", "."+hexOf(r, 8)+".css", ".png", ".json", ".woff2")
}

func target(r *rand.Rand) string {
	t := path(r)
	if n := r.IntN(6); n > 0 {
		t += "?" + query(r, n)
	}
	return t
}

var agents = []string{
	"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.6478.71 Mobile Safari/537.36",
	"okhttp/4.12.0", "GitHub-Hookshot/044aadd", "Stripe/1.0 (+https://stripe.com/docs/webhooks)", "Go-http-client/2.0", "python-requests/2.32.3", "curl/8.9.1",
	"OTel-OTLP-Exporter-JavaScript/0.52.1", "Microsoft-WebDAV-MiniRedir/10.0.19045", "Apache-HttpClient/4.5.14 (Java/17.0.11)", "MyApp/3.2 (build 811; iOS 18.1)",
}

func cookies(r *rand.Rand) string {
	var c []string
	for range 1 + r.IntN(6) {
		c = append(c, oneOf(r, "sid", "theme", "_ga", "_gid", "lang", "cart", "csrftoken", "__Host-session", "consent", "ab_test")+"="+
			oneOf(r, hexOf(r, 32), "GA1.2."+fmt.Sprint(r.IntN(1<<30))+".1700000000", word(r), url.QueryEscape(`{"a":`+fmt.Sprint(r.IntN(9))+`}`), jwt(r), ""))
	}
	return strings.Join(c, "; ")
}

// browser is a navigation of Chrome, Firefox or Safari.
func browser(r *rand.Rand) Message {
	m := Message{Method: "GET", Target: target(r), Proto: "HTTP/1.1", HTTP2: chance(r, 2)}
	host := oneOf(r, "shop.example.com", "www.example.com", "example.com:8443", "localhost")
	add := func(n, v string) { m.Header = append(m.Header, Field{n, v}) }
	add("Host", host)
	switch r.IntN(3) {
	case 0:
		add("Sec-Ch-Ua", `"Chromium";v="126", "Google Chrome";v="126", "Not.A/Brand";v="24"`)
		add("Sec-Ch-Ua-Mobile", oneOf(r, "?0", "?1"))
		add("Sec-Ch-Ua-Platform", oneOf(r, `"Linux"`, `"Windows"`, `"macOS"`, `"Android"`))
		add("Upgrade-Insecure-Requests", "1")
		add("User-Agent", oneOf(r, agents[0], agents[1], agents[5]))
		add("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7")
	case 1:
		add("User-Agent", agents[2])
		add("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
		add("Priority", "u=0, i")
		add("TE", "trailers")
	case 2:
		add("User-Agent", oneOf(r, agents[3], agents[4]))
		add("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	}
	add("Sec-Fetch-Site", oneOf(r, "same-origin", "none", "cross-site"))
	add("Sec-Fetch-Mode", "navigate")
	add("Sec-Fetch-Dest", "document")
	add("Accept-Encoding", oneOf(r, "gzip, deflate, br, zstd", "gzip, deflate, br"))
	add("Accept-Language", oneOf(r, "en-GB,en;q=0.9,de;q=0.8", "de-DE,de;q=0.9", "ja", "en-US,en;q=0.5"))
	if !chance(r, 3) {
		add("Referer", "https://"+host+target(r))
	}
	if !chance(r, 4) {
		add("Cookie", cookies(r))
	}
	if chance(r, 4) {
		add("Cache-Control", oneOf(r, "no-cache", "max-age=0"))
	}
	if chance(r, 6) {
		add("If-None-Match", oneOf(r, `W/"`+hexOf(r, 16)+`"`, `"`+hexOf(r, 32)+`"`))
	}
	if chance(r, 8) {
		add("X-Forwarded-For", oneOf(r, "203.0.113.7", "203.0.113.7, 10.0.0.1", "2001:db8::1"))
	}
	if chance(r, 10) {
		add("Range", "bytes=0-1023")
	}
	return m
}

// fetch is a request of a page's script.
func fetch(r *rand.Rand, method, contentType, body string) Message {
	m := browser(r)
	m.Method, m.Body = method, body
	m.Set("Accept", oneOf(r, "application/json, text/plain, */*", "*/*", "application/json"))
	m.Set("Sec-Fetch-Mode", oneOf(r, "cors", "same-origin"))
	m.Set("Sec-Fetch-Dest", "empty")
	m.Del("Upgrade-Insecure-Requests")
	if method != "GET" {
		m.Set("Origin", "https://shop.example.com")
	}
	if contentType != "" {
		m.Set("Content-Type", contentType)
	}
	if chance(r, 3) {
		m.Set("Authorization", "Bearer "+jwt(r))
	}
	if chance(r, 3) {
		m.Set("X-Requested-With", "XMLHttpRequest")
	}
	if chance(r, 4) {
		m.Set("X-CSRF-Token", base64.StdEncoding.EncodeToString(random(r, 32)))
	}
	return m
}

// client is a request of a program.
func client(r *rand.Rand, agent, method, path, contentType, body string) Message {
	m := Message{Method: method, Target: path, Proto: "HTTP/1.1", Body: body, Header: []Field{
		{"Host", "api.example.com"}, {"User-Agent", agent}, {"Accept", "*/*"}, {"Accept-Encoding", "gzip"},
	}}
	if contentType != "" {
		m.Set("Content-Type", contentType)
	}
	return m
}

// document is a random JSON value of some depth.
func document(r *rand.Rand, depth int) any {
	switch n := r.IntN(8); {
	case depth <= 0 || n < 3:
		switch r.IntN(5) {
		case 0:
			return r.IntN(1 << 20)
		case 1:
			return r.Float64() * 1000
		case 2:
			return oneOf[any](r, true, false, nil)
		}
		return value(r)
	case n < 5:
		list := []any{}
		for range r.IntN(5) {
			list = append(list, document(r, depth-1))
		}
		return list
	}
	m := map[string]any{}
	for range r.IntN(6) {
		m[name(r)] = document(r, depth-1)
	}
	return m
}

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // made of plain values
	}
	return string(b)
}

// form is a urlencoded body of n fields.
func form(r *rand.Rand, n int) string {
	v := url.Values{}
	for range n {
		v.Add(name(r), value(r))
	}
	return v.Encode()
}

// part is a part of a multipart body.
func part(boundary, disposition, contentType, content string) string {
	s := "--" + boundary + "\r\nContent-Disposition: form-data; " + disposition + "\r\n"
	if contentType != "" {
		s += "Content-Type: " + contentType + "\r\n"
	}
	return s + "\r\n" + content + "\r\n"
}

// upload is a multipart body with fields and files.
func upload(r *rand.Rand, size int) (contentType, body string) {
	boundary := oneOf(r, "----WebKitFormBoundary"+hexOf(r, 16), "---------------------------"+fmt.Sprint(r.Uint64()), uuid(r))
	for range r.IntN(4) {
		body += part(boundary, `name="`+word(r)+`"`, "", strings.ReplaceAll(value(r), "\n", "\r\n"))
	}
	for range 1 + r.IntN(2) {
		file := oneOf(r, "beach.jpg", "report 2026.pdf", "Überblick.docx", "data.csv", "archive.tar.gz", "IMG_0001.HEIC", "notes.txt")
		body += part(boundary, `name="`+oneOf(r, "file", "files[]", "photo")+`"; filename="`+file+`"`,
			oneOf(r, "image/jpeg", "application/pdf", "text/csv", "application/octet-stream"), string(random(r, r.IntN(size+1))))
	}
	return "multipart/form-data; boundary=" + boundary, body + "--" + boundary + "--\r\n"
}

// Shapes are what clients send, harmless all.
var Shapes = []Shape{
	{"navigation", browser},
	{"static file", func(r *rand.Rand) Message {
		m := browser(r)
		m.Target = "/assets/" + word(r) + "." + hexOf(r, 8) + oneOf(r, ".js", ".css", ".png", ".woff2")
		m.Set("Accept", "*/*")
		m.Set("Sec-Fetch-Mode", "no-cors")
		m.Set("Sec-Fetch-Dest", oneOf(r, "script", "style", "image", "font"))
		return m
	}},
	{"fetch", func(r *rand.Rand) Message { return fetch(r, "GET", "", "") }},
	{"form", func(r *rand.Rand) Message {
		m := browser(r)
		m.Method, m.Body = "POST", form(r, 1+r.IntN(12))
		m.Set("Content-Type", "application/x-www-form-urlencoded")
		m.Set("Origin", "https://shop.example.com")
		return m
	}},
	{"API, JSON", func(r *rand.Rand) Message {
		return fetch(r, oneOf(r, "POST", "PUT", "PATCH"), oneOf(r, "application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8"),
			marshal(map[string]any{word(r): document(r, 3), word(r): document(r, 2), "id": r.IntN(999)}))
	}},
	{"API, DELETE", func(r *rand.Rand) Message { return fetch(r, "DELETE", "", "") }},
	{"preflight", func(r *rand.Rand) Message {
		m := fetch(r, "OPTIONS", "", "")
		m.Set("Access-Control-Request-Method", oneOf(r, "PUT", "POST", "DELETE"))
		m.Set("Access-Control-Request-Headers", "authorization,content-type")
		return m
	}},
	{"GraphQL", func(r *rand.Rand) Message {
		return fetch(r, "POST", "application/json", marshal(map[string]any{
			"operationName": "Product" + fmt.Sprint(r.IntN(9)),
			"query":         "query Product($id: ID!) {\n  product(id: $id) {\n    " + word(r) + "\n    price(currency: \"EUR\") { amount }\n    __typename\n  }\n}",
			"variables":     map[string]any{"id": uuid(r), word(r): value(r)},
		}))
	}},
	{"GraphQL, text", func(r *rand.Rand) Message {
		return fetch(r, "POST", "application/graphql", "{ "+word(r)+"(first: 10) { id "+word(r)+" } }")
	}},
	{"upload", func(r *rand.Rand) Message {
		t, body := upload(r, 3000)
		return fetch(r, "POST", t, body)
	}},
	{"webhook of GitHub", func(r *rand.Rand) Message {
		m := client(r, agents[7], "POST", "/hooks/github", "application/json", marshal(map[string]any{
			"ref": "refs/heads/main", "after": hexOf(r, 40), "repository": map[string]any{"full_name": "a/" + word(r), "url": "https://api.github.com/repos/a/b"},
			"commits": []any{map[string]any{"id": hexOf(r, 40), "message": oneOf(r, sentences...), "author": map[string]any{"email": "a@example.com"}, "added": []string{"src/" + word(r) + ".go"}}},
		}))
		m.Set("X-GitHub-Event", "push")
		m.Set("X-GitHub-Delivery", uuid(r))
		m.Set("X-Hub-Signature-256", "sha256="+hexOf(r, 64))
		return m
	}},
	{"webhook of Stripe", func(r *rand.Rand) Message {
		m := client(r, agents[8], "POST", "/hooks/stripe", "application/json; charset=utf-8", marshal(map[string]any{
			"id": "evt_" + hexOf(r, 24), "object": "event", "type": "invoice.paid", "livemode": false, "created": 1700000000 + r.IntN(1<<20),
			"data": map[string]any{"object": map[string]any{"amount_due": r.IntN(10000), "customer_email": nil, "description": oneOf(r, sentences...)}},
		}))
		m.Set("Stripe-Signature", "t=1700000000,v1="+hexOf(r, 64)+",v0="+hexOf(r, 64))
		return m
	}},
	{"SOAP", func(r *rand.Rand) Message {
		m := client(r, agents[14], "POST", "/services/orders", oneOf(r, `text/xml; charset=utf-8`, `application/soap+xml; charset=utf-8; action="urn:get"`),
			`<?xml version="1.0" encoding="UTF-8"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><m:Get xmlns:m="urn:orders"><m:Id>`+
				fmt.Sprint(r.IntN(999))+`</m:Id><m:Name kind="`+word(r)+`">`+phrase(r)+`</m:Name></m:Get></soap:Body></soap:Envelope>`)
		m.Set("SOAPAction", `"urn:get"`)
		return m
	}},
	{"telemetry", func(r *rand.Rand) Message {
		return client(r, agents[12], "POST", "/v1/traces", "application/json", marshal(map[string]any{"resourceSpans": []any{map[string]any{
			"resource":   map[string]any{"attributes": []any{map[string]any{"key": "service.name", "value": map[string]any{"stringValue": word(r)}}}},
			"scopeSpans": []any{map[string]any{"spans": []any{map[string]any{"traceId": hexOf(r, 32), "spanId": hexOf(r, 16), "name": "GET " + path(r), "kind": 2, "startTimeUnixNano": "1700000000000000000"}}}},
		}}}))
	}},
	{"NDJSON", func(r *rand.Rand) Message {
		body := ""
		for range 1 + r.IntN(5) {
			body += marshal(map[string]any{"index": map[string]any{"_index": word(r)}}) + "\n" + marshal(map[string]any{"t": value(r), "n": r.IntN(99)}) + "\n"
		}
		return client(r, agents[10], "POST", "/_bulk", "application/x-ndjson", body)
	}},
	{"beacon", func(r *rand.Rand) Message {
		return fetch(r, "POST", "text/plain;charset=UTF-8", marshal(map[string]any{"e": word(r), "u": "https://shop.example.com" + path(r), "t": r.IntN(9999)}))
	}},
	{"text", func(r *rand.Rand) Message {
		return fetch(r, "POST", oneOf(r, "text/plain", "text/csv", "application/x-unknown", ""), strings.Repeat(value(r)+"\n", 1+r.IntN(4)))
	}},
	{"CSP report", func(r *rand.Rand) Message {
		return fetch(r, "POST", "application/csp-report", marshal(map[string]any{"csp-report": map[string]any{
			"document-uri": "https://shop.example.com/" + word(r), "violated-directive": "script-src-elem", "blocked-uri": "inline", "line-number": r.IntN(99),
			"original-policy": "default-src 'self'; script-src 'self' 'nonce-" + hexOf(r, 8) + "'",
		}}))
	}},
	{"WebDAV", func(r *rand.Rand) Message {
		m := client(r, agents[13], oneOf(r, "PROPFIND", "MKCOL", "MOVE", "PUT", "LOCK", "REPORT"), path(r), oneOf(r, "application/xml", "text/xml", ""),
			`<?xml version="1.0"?><D:propfind xmlns:D="DAV:"><D:prop><D:getlastmodified/><D:`+word(r)+`/></D:prop></D:propfind>`)
		m.Set("Depth", oneOf(r, "0", "1", "infinity"))
		if chance(r, 3) {
			m.Set("Destination", "https://dav.example.com"+path(r))
		}
		return m
	}},
	{"protobuf", func(r *rand.Rand) Message {
		return client(r, agents[9], "POST", "/pkg.Service/Method", oneOf(r, "application/grpc", "application/x-protobuf", "application/grpc-web+proto"), string(random(r, 40)))
	}},
	{"app", func(r *rand.Rand) Message {
		return client(r, oneOf(r, agents[6], agents[15], agents[11]), "GET", "/v2"+target(r), "", "")
	}},
	{"HEAD", func(r *rand.Rand) Message { m := browser(r); m.Method = "HEAD"; return m }},
	{"WebSocket", func(r *rand.Rand) Message {
		m := browser(r)
		m.HTTP2 = false
		m.Set("Connection", "Upgrade")
		m.Set("Upgrade", "websocket")
		m.Set("Sec-WebSocket-Key", base64.StdEncoding.EncodeToString(random(r, 16)))
		m.Set("Sec-WebSocket-Version", "13")
		return m
	}},
}

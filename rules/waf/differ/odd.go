package differ

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"math/rand/v2"
	"strings"
)

// What follows is unusual and mostly legal: the places where two parsers part.

// oddTarget changes the target of a message.
func oddTarget(r *rand.Rand, m *Message) {
	p, q, _ := strings.Cut(m.Target, "?")
	switch r.IntN(16) {
	case 0:
		q = strings.ReplaceAll(q, "&", ";")
	case 1:
		q = strings.ReplaceAll(q, "&", "&&") + "&"
	case 2:
		q += "&a=b=c&=x&=&y&&%3d=%26&a"
	case 3:
		q += "&" + oneOf(r, "a%00b=1", "%=1", "a=%", "a=%4", "%zz=%zz", "a=%u0041", "a[=1", "a]=1", "a[b][c]=d", "a.b=c", "A=1&a=2&a=3", "+a+=+b+", "a%5b%5d=1&a[]=2", "%20=%20")
	case 4:
		for i := range r.IntN(40) {
			q += fmt.Sprintf("&p%d=%s", i%7, word(r))
		}
	case 5:
		if chance(r, 12) {
			q += strings.Repeat("&a=1", 990+r.IntN(20))
		}
	case 6:
		p = oneOf(r, "//", "/./", "/../", "/%2e%2e/", "/a//b", "/a/./b/../c", "/%00", "/a;b=c", "/a%2fb", "/a\\b", "/~x", "/%u0041", "/.git/config", "/a.php/b", "/a%20b", "/%ff", "/*", "/?", "/'") + strings.TrimPrefix(p, "/")
	case 7:
		p = "http://" + oneOf(r, "example.com", "other.example.com:81", "localhost") + p
	case 8:
		q += "?" + q
	case 9:
		p += oneOf(r, "/", ".", "%20", ";jsessionid="+hexOf(r, 16), "%3f", "%23", "~", ".bak", ".config", ".EXE", "%2e", "/..")
	case 10:
		q = strings.Repeat(oneOf(r, "a", "%41", "a=", "[", "é"), r.IntN(300))
		q = targetText(q)
	case 11:
		q += "&" + strings.Repeat("n", 90+r.IntN(20)) + "=1"
	case 12:
		q += "&v=" + strings.Repeat("1", 390+r.IntN(20))
	case 13:
		q = ""
		p += "?"
	case 14:
		m.Target = oneOf(r, "*", "/", "/a:b", "/a?b?c", "?a", "/%", "/a%", "http://h", "/a#b", "/a|b")
		return
	case 15:
		q += oneOf(r, "#frag", "&url=http://127.0.0.1/", "&u=file:///etc/hosts", "&x=../../etc", "&c=$(id)", "&d={{7*7}}")
	}
	m.Target = p
	if q != "" {
		m.Target += "?" + strings.TrimPrefix(q, "&")
	}
}

// oddHeader changes the fields of a message.
func oddHeader(r *rand.Rand, m *Message) {
	add := func(n, v string) { m.Header = append(m.Header, Field{n, v}) }
	switch r.IntN(28) {
	case 0: // twice
		if len(m.Header) > 0 {
			f := m.Header[r.IntN(len(m.Header))]
			if !strings.EqualFold(f.Name, "Host") {
				add(f.Name, oneOf(r, f.Value, value(r), ""))
			}
		}
	case 1:
		if len(m.Header) > 0 {
			i := r.IntN(len(m.Header))
			m.Header[i].Value = ""
		}
	case 2:
		add("X-"+word(r), strings.Repeat(oneOf(r, "a", "ab ", "%41", "<"), r.IntN(2000)))
	case 3:
		for i := range r.IntN(60) {
			add(fmt.Sprintf("X-H%d", i), word(r))
		}
	case 4:
		for i := range m.Header {
			m.Header[i].Name = oneOf(r, strings.ToLower, strings.ToUpper)(m.Header[i].Name)
		}
	case 5:
		m.Set("Cookie", oneOf(r, "", "=", ";", "a", "a;b", "a=b;;c=d", "=x", "a==b", "a=b=c", `a="b c"; d='e'`, "a=b, c=d", "a=1; A=2; a=3", " a = b ", "a=%41%00", "$Version=1; a=b; $Path=/", "a=b;", "a\tb=c",
			"é=ü", "a=\"x;y\"", "a=b; ; ;", "a[b]=c", "__proto__=x", "a="+strings.Repeat("x", 500), "a=1&b=2", "session=../../etc"))
	case 6:
		add("Cookie", cookies(r))
		add("Cookie", oneOf(r, cookies(r), "", "x"))
	case 7:
		m.Set("User-Agent", oneOf(r, "", "-", "sqlmap/1.8", "Nikto", strings.Repeat("M", 500), "() { :; }; x", "${jndi:ldap://x}", "curl", "Mozilla/5.0 (compatible; Googlebot/2.1)", "python-requests/2.31", "é"))
	case 8:
		m.Set("Accept", oneOf(r, "", "*/*", "text/html;q=0.9, */*;q=0.8", "a", "*/*, */*", "text/html;level=1;q=0.4", "image/*,application/json;v=\"a,b\"", "text/html, , a/b", "application/vnd.x+json; charset=utf-8"))
	case 9:
		m.Set("Host", oneOf(r, "", "127.0.0.1", "[::1]", "[2001:db8::1]:443", "a.example.com.", "EXAMPLE.com", "example.com:80", "10.0.0.1:8080", "a_b", "localhost:0", "xn--bcher-kva.example"))
	case 10:
		m.Set("Connection", oneOf(r, "keep-alive", "close", "keep-alive, close", "close, close", "upgrade", "", "Keep-Alive, keep-alive"))
	case 11:
		m.Set("Range", oneOf(r, "bytes=0-", "bytes=0-1,2-3,4-5,6-7,8-9,10-11", "bytes=-5", "bytes=5-1", "bytes=0-1,0-1", "x=1-2", "", "bytes="))
	case 12:
		m.Set("Content-Encoding", oneOf(r, "gzip", "deflate", "br", "identity", "gzip, gzip", "x-gzip", "", "GZIP", "zstd"))
		if m.Body != "" && !chance(r, 4) {
			m.Body = compress(r, m.Get("Content-Encoding"), m.Body)
		}
	case 13:
		m.Set("Content-Type", contentType(r, m.Get("Content-Type")))
	case 14:
		add("Content-Type", contentType(r, m.Get("Content-Type")))
	case 15:
		m.Chunked = true
	case 16:
		m.AsIs = true
		m.Set("Content-Length", oneOf(r, fmt.Sprint(len(m.Body)), fmt.Sprint(max(0, len(m.Body)-3)), fmt.Sprint(len(m.Body)+5), "0", "-1", "abc", "007", ""))
	case 17:
		m.Method = oneOf(r, "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "FOO", "PROPFIND", "M-SEARCH", "QUERY")
	case 18:
		m.Proto = oneOf(r, "HTTP/1.0", "HTTP/1.1", "HTTP/1.1", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9")
	case 19:
		m.HTTP2 = !m.HTTP2
	case 20:
		add(oneOf(r, "X-Forwarded-For", "X-Real-IP", "Forwarded", "Via", "X-Forwarded-Host", "X-Original-URL", "X-HTTP-Method-Override", "Proxy", "If", "Expect", "Lock-Token", "Content-Range", "Accept-Charset",
			"X.Filename", "X_Filename", "X-File-Name", "Authorization", "Referer", "Origin", "Destination", "Early-Data", "X-Middleware-Subrequest", "From", "TE", "Trailer"),
			oneOf(r, "127.0.0.1", "100-continue", "for=1.2.3.4;by=x", "Basic "+value(r), "Bearer x", "https://example.com/a?b=c", "utf-8", "a.php", "bytes 0-1/2", "trailers", "", word(r), "*", "null"))
	case 21:
		m.Remote = oneOf(r, "[2001:db8::7]:50000", "10.1.2.3:1", "@", "[::ffff:198.51.100.9]:80", "203.0.113.255:65535")
	case 22:
		m.Del(oneOf(r, "User-Agent", "Accept", "Host", "Content-Type", "Referer"))
	case 23:
		m.Set("Accept-Encoding", oneOf(r, "", "identity", "gzip;q=1.0, identity; q=0.5, *;q=0", "*", "gzip,gzip", "compress"))
	case 24:
		m.Set("Accept-Language", oneOf(r, "", "*", "en", "xx-YY;q=2", "de-DE, en;q=0.1;q=0.2"))
	case 25:
		m.Set("Cache-Control", oneOf(r, "no-store", "max-age=0, no-cache", "private=\"x\"", "max-age=x", "only-if-cached"))
	case 26:
		add(oneOf(r, "x-a", "X-a", "X-A"), value2(r))
		add(oneOf(r, "x-a", "X-A"), value2(r))
	case 27:
		m.Set("Referer", oneOf(r, "", "about:blank", "https://example.com/?q="+fieldValue(value(r)), "android-app://com.example", "http://[::1]/", "javascript:x", "/relative", "https://a.example/%2e%2e/"))
	}
}

func value2(r *rand.Rand) string { return fieldValue(value(r)) }

// contentType returns a media type near that of a message, or another.
func contentType(r *rand.Rand, now string) string {
	base, params, _ := strings.Cut(now, ";")
	if chance(r, 3) {
		base = oneOf(r, "application/json", "application/x-www-form-urlencoded", "multipart/form-data", "text/xml", "application/xml", "text/plain", "application/vnd.api+json",
			"application/octet-stream", "", "image/png", "multipart/mixed", "multipart/related", "application/graphql", "application/x-ndjson", "text/html", "application/soap+xml", "x", "application/problem+json", "text/json", "application/grpc")
	}
	base = oneOf(r, base, base, strings.ToUpper(base), " "+base+" ", base+",text/plain", base+" x")
	return base + oneOf(r, "", ";"+params, ";"+params, "; charset=utf-8", ";charset=UTF-16", "; charset=ibm037", "; charset=utf-7", `; charset="utf-8"`, "; charset=utf-8; charset=utf-16", ";;", "; boundary=x", `; boundary="x y"`,
		"; boundary=", ";boundary=a;boundary=b", "; Boundary=X", "; a=b", "; charset=iso-8859-1", "; charset=windows-1252", "; version=1;"+params, ";"+params+";", "; boundary*=utf-8''x", "; boundary=\"----x", "; charset=us-ascii")
}

// compress encodes a body.
func compress(r *rand.Rand, coding, body string) string {
	var b bytes.Buffer
	switch strings.ToLower(coding) {
	case "gzip", "x-gzip", "gzip, gzip":
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(body)) // a Buffer takes everything
		_ = w.Close()
	case "deflate":
		w := zlib.NewWriter(&b)
		_, _ = w.Write([]byte(body))
		_ = w.Close()
	default:
		return body
	}
	out := b.String()
	switch r.IntN(8) {
	case 0:
		return out[:r.IntN(len(out))]
	case 1:
		return out + "x"
	}
	return out
}

// oddBody gives a message a body of an unusual structure, with texts in it.
func oddBody(r *rand.Rand, m *Message, text func() string) {
	if m.Method == "GET" || m.Method == "HEAD" {
		m.Method = oneOf(r, "POST", "PUT", "PATCH", "POST", "POST", "GET", "DELETE")
	}
	switch r.IntN(5) {
	case 0:
		m.Set("Content-Type", "application/json")
		m.Body = oddJSON(r, text)
	case 1:
		m.Set("Content-Type", "application/x-www-form-urlencoded")
		m.Body = oddForm(r, text)
	case 2:
		t, b := oddMultipart(r, text)
		m.Set("Content-Type", t)
		m.Body = b
	case 3:
		m.Set("Content-Type", oneOf(r, "text/xml", "application/xml", "application/soap+xml", "application/atom+xml"))
		m.Body = oddXML(r, text)
	case 4:
		m.Set("Content-Type", oneOf(r, "text/plain", "text/csv", "application/x-ndjson", "application/graphql", "text/html", "application/x-unknown", "application/vnd.api+json"))
		m.Body = oneOf(r, text(), text()+"\n"+text(), "a="+text()+"&b="+text(), "a="+text()+"\r\nb="+text(), "{\"a\":"+fmt.Sprintf("%q", text())+"}", "\ufeff"+text(),
			marshal(map[string]string{"a": text()})+"\n"+marshal(map[string]string{"b": text()}), "[1,2", " {\"a\":1} ", "{ a(b: \""+text()+"\") { c # "+text()+"\n } }", "\x00"+text())
	}
	switch r.IntN(12) {
	case 0:
		m.Body = "\ufeff" + m.Body
	case 1:
		m.Body += oneOf(r, "\r\n", " ", "\x00", "x", "\n\n", "}", "&")
	case 2:
		m.Body = m.Body[:r.IntN(len(m.Body)+1)]
	case 3:
		m.Body = damage(r, m.Body)
	}
}

// quote is a JSON string, in one of the ways to write it.
func quote(r *rand.Rand, s string) string {
	switch r.IntN(5) {
	case 0:
		return marshal(s)
	case 1:
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
	case 2:
		return `"` + eachByte(r, s, 2, func(c byte) string { return fmt.Sprintf(`\u00%02x`, c) }) + `"`
	case 3:
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "/", `\/`, "\t", `\t`).Replace(s) + `"`
	}
	return `"` + s + `"`
}

// oddJSON is JSON as no library writes it.
func oddJSON(r *rand.Rand, text func() string) string {
	scalar := func() string {
		return oneOf(r, quote(r, text()), quote(r, value(r)), "1e400", "-0", "1E5", "0.10", "12345678901234567890", "true", "false", "null", `""`, `"\ud83d\ude00"`, `"\ud83d"`, `"\u0000"`, "01", "1.", "+1", "NaN", `"a
b"`, "\"\xff\"", "'x'")
	}
	var node func(depth int) string
	node = func(depth int) string {
		if depth == 0 || chance(r, 3) {
			return scalar()
		}
		var parts []string
		object := chance(r, 2)
		for range r.IntN(5) {
			if object {
				parts = append(parts, quote(r, oneOf(r, "a", "a", "A", "b", "", "a.b", "0", name(r), text()))+oneOf(r, ":", " : ", ":\n")+node(depth-1))
			} else {
				parts = append(parts, node(depth-1))
			}
		}
		list := strings.Join(parts, oneOf(r, ",", ", ", " ,\n"))
		if chance(r, 25) {
			list += ","
		}
		if object {
			return "{" + list + "}"
		}
		return "[" + list + "]"
	}
	switch r.IntN(14) {
	case 0:
		return scalar()
	case 1:
		n := 1 + r.IntN(40)
		return strings.Repeat(oneOf(r, "[", `{"a":`), n) + scalar() + strings.Repeat(oneOf(r, "]", "}"), n)
	case 2:
		if chance(r, 6) {
			n := 1000 + r.IntN(60)
			return strings.Repeat("[", n) + "1" + strings.Repeat("]", n)
		}
	case 3:
		return node(3) + node(2)
	case 4:
		return `{"query":` + quote(r, "{ a(b: \""+text()+"\") }") + `,"variables":{"x":` + scalar() + `}}`
	case 5:
		return "[" + strings.Repeat(scalar()+",", r.IntN(60)) + "1]"
	case 6:
		return `{"a":1/*` + text() + `*/}`
	}
	return node(4)
}

// oddForm is a urlencoded body.
func oddForm(r *rand.Rand, text func() string) string {
	var parts []string
	for range r.IntN(8) {
		n := oneOf(r, "a", "A", "b", "", "a[]", name(r), text())
		v := oneOf(r, text(), value(r), "")
		if !chance(r, 3) {
			n, v = eachByte(r, n, 1, percentIfSpecial), eachByte(r, v, 1, percentIfSpecial)
		}
		parts = append(parts, n+oneOf(r, "=", "=", "=", "", "==", " = ")+v)
	}
	s := strings.Join(parts, oneOf(r, "&", "&", "&", "&&", ";", "&amp;"))
	return s + oneOf(r, "", "", "", "&", "=", "%", "%4", "&=&", "&%=x", "&x=%u0041", "\r\n", "&a+b=c+d", "+", strings.Repeat("&a=1", r.IntN(30)))
}

func percentIfSpecial(c byte) string {
	switch {
	case c == ' ':
		return "+"
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		return string([]byte{c})
	}
	return fmt.Sprintf("%%%02x", c)
}

// oddMultipart is a multipart body.
func oddMultipart(r *rand.Rand, text func() string) (contentType, body string) {
	boundary := oneOf(r, "x", "----WebKitFormBoundaryabc", "a b", "'x'", "x:y", strings.Repeat("b", 70), "0", "--")
	nl := oneOf(r, "\r\n", "\r\n", "\r\n", "\r\n", "\n")
	body = oneOf(r, "", "", "", "preamble"+nl, nl)
	for range 1 + r.IntN(4) {
		q := oneOf(r, `"`, `"`, `"`, "", "'")
		body += "--" + boundary + nl
		head := []string{oneOf(r, "Content-Disposition: form-data; name=", "content-disposition: form-data; name=", "Content-Disposition:form-data;name=", "Content-Disposition: attachment; name=", "Content-Disposition: form-data; x=y; name=",
			"Content-Disposition: form-data;"+nl+" name=", "X-Disposition: name=", "Content-Disposition: form-data, name=") + q + oneOf(r, "a", "A", "b", "", name(r), text(), `a\"b`) + q}
		switch r.IntN(6) {
		case 0, 1:
			head[0] += "; filename=" + q + oneOf(r, "a.jpg", "a.php", "../../x", "", "ü.txt", text(), "C:\\a.exe", "a.php;.jpg", ".htaccess") + q
		case 2:
			head[0] += "; filename*=" + oneOf(r, "UTF-8''a%20b.txt", "utf-8'en'%e2%82%ac.txt", "iso-8859-1''%A3", "x''a.php", "UTF-8''"+text())
		case 3:
			head[0] += oneOf(r, "; name=b", ";", "; filename=a; filename=b", "; Name=c")
		}
		if chance(r, 2) {
			head = append(head, oneOf(r, "Content-Type: text/plain", "Content-Type: image/png", "Content-Type: application/json", "Content-Type: text/html; charset=utf-7", "Content-Transfer-Encoding: base64",
				"Content-Transfer-Encoding: 7bit", "X: y", "Content-Type: multipart/mixed; boundary=y", "Content-Disposition: form-data; name=dup", "x"+nl+" folded: y", "no colon", ": empty", "Content-Length: 3"))
		}
		body += strings.Join(head, nl) + nl + oneOf(r, nl, nl, nl, nl, nl, "")
		body += oneOf(r, text(), value(r), string(random(r, r.IntN(200))), "--y"+nl+"Content-Disposition: form-data; name=in"+nl+nl+text()+nl+"--y--", "--"+boundary, "--", "") + nl
	}
	body += oneOf(r, "--"+boundary+"--", "--"+boundary+"--", "--"+boundary+"--", "--"+boundary+"--", "", "--"+boundary, "--"+boundary+"-", "--"+boundary+"-- ") + oneOf(r, nl, nl, "", "epilogue")
	field := boundary
	if strings.ContainsAny(boundary, " :'") || chance(r, 4) {
		field = `"` + boundary + `"`
	}
	return oneOf(r, "multipart/form-data", "multipart/form-data", "multipart/form-data", "multipart/mixed", "Multipart/Form-Data") + oneOf(r, "; boundary=", ";boundary=", "; BOUNDARY=", "; charset=utf-8; boundary=") + field +
		oneOf(r, "", "", "", ";", "; boundary=other", "; x=y", " "), body
}

// oddXML is XML, or nearly.
func oddXML(r *rand.Rand, text func() string) string {
	escape := func(s string) string {
		if chance(r, 3) {
			return s
		}
		return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
	}
	var node func(depth int) string
	node = func(depth int) string {
		switch r.IntN(7) {
		case 0:
			return escape(text())
		case 1:
			return "<![CDATA[" + text() + "]]>"
		case 2:
			return "<!-- " + text() + " -->"
		case 3:
			return oneOf(r, "&lt;", "&#65;", "&#x41;", "&x;", "&amp;lt;", "<?pi "+word(r)+"?>", "<br/>", "\x00", "&nbsp;", "<a", "</b>")
		}
		if depth == 0 {
			return escape(value(r))
		}
		tag := oneOf(r, "a", "b", "n:c", "A", "é", word(r))
		attr := oneOf(r, "", "", ` x="`+escape(text())+`"`, ` x='`+escape(value(r))+`'`, ` xmlns:n="urn:n"`, " x=y", ` x="1" x="2"`)
		inner := ""
		for range r.IntN(4) {
			inner += node(depth - 1)
		}
		return "<" + tag + attr + ">" + inner + "</" + tag + ">"
	}
	return oneOf(r, "", `<?xml version="1.0"?>`, `<?xml version="1.0" encoding="UTF-8"?>`, `<?xml version="1.0" encoding="ISO-8859-1"?>`, `<?xml version="1.1"?>`, "\ufeff", " ") +
		oneOf(r, "", "", "", "<!DOCTYPE a>", `<!DOCTYPE a [<!ENTITY x "`+word(r)+`">]>`, `<!DOCTYPE a SYSTEM "file:///etc/hosts">`, `<!DOCTYPE a [<!ENTITY % p SYSTEM "http://x/">%p;]>`) +
		"<root>" + node(3) + node(2) + "</root>" + oneOf(r, "", "", "", "\n", "x", "<b/>")
}

package view_test

import (
	"strings"
	"testing"

	"github.com/moatwaf/moat/rules/waf/view"
)

// What follows are shapes that must be known, as ordinary traffic has them or as a
// parser could get them wrong, and shapes that need not be. Both are held against
// the engine.

var targets = []string{
	"/", "/index.html", "/a/b/?x=1&y=2", "/search?q=caf%C3%A9+au+lait&page=2", "/a%20b/c%2Fd?e=%zz&f=%4",
	"/?", "/??", "/?&&a=1&&", "/?a&b=&=c&=", "/?a=1&A=2&a=3", "/?a=b=c", "/?x=1#frag?y=2", "/#", "/a?b#", "/a#?b",
	"/a;jsessionid=1?q=%E2%82%AC", `/a\b`, "/\"<>|^`{}", "/über?straße=ä", "//double//slash?a=1", "/a//../b/./c",
	"http://example.com/a?b=c", "http://example.com", "https://user:pw@example.com:8443/a%20b?c#d", "*", "", "?a=1", "a/b", "/%", "/%4", "/%zz",
	"/a b?c d=e f", "/\x7f", "/a?\x01", "/[x]/(y)", "/a:b/c@d", "/a?[]=1&b[c]=2", "/a?%00=%ff&%fe", "/:x", "/a?b?c?d",
	"/?+a+=+b+", "/?%2B=%26&%3D=%25", "/a%3Fb?c", "/a%23b", "/%41%42", "/a/", "/a\\", "/.well-known/x", "/?q=\xff\xfe",
	"example.com:443", "mailto:x", "/?" + repeat(1000, "a#=#", "&"), "/?" + repeat(1001, "a#=#", "&"), "/?" + repeat(1000, "a#=#", "&") + "&&",
}

var cookieFields = []string{
	"a=1", "a=1; b=2", "a=1;b=2;", " a = 1 ; b = 2 ", ";;a=1;;", "a", "a=", "=a", "=", "a=b=c", "a=1; a=2; A=3", "\ta\t=\t1\t",
	"a=\x0b1", "\x01a\x01=\x011\x01", "a=\"quoted; not\"", "\u00a0a=1\u00a0", "a=\xff; \xff=a", "", " ", "\x7fa=1",
}

var forms = []string{
	"a=1", "a=1&b=2&c=3", "name=J%C3%BCrgen+M%C3%BCller&mail=j%40example.com&note=", "a=1&a=2&A=3&a=4", "&&a=1&&b", "=", "=a", "a==b", "a=%zz&b=%4&c=%",
	"a=%00%ff", "%61=1&a=2", "a+b=c+d", "a;b=1", strings.Repeat("x", 5000) + "=" + strings.Repeat("y+", 5000),
	repeat(1000, "a#=#", "&"), repeat(1001, "a#=#", "&"), repeat(1000, "a=#", "&"), "\xff=1&\xfe=2&\xff=3", "K=1&\u212a=2&k=3", "İ=1&i=2",
}

var texts = []string{
	"hello", "a=1\r\nb=2\r\n", "a=1&b=2", "a[0]=1&a[1]=%20+", "=", "no pairs here = really", "{\"a\":[1,2]}", " [1,2,3] ", "{bad}", "\xef\xbb\xbf{\"a\":1}",
	"\xef\xbb\xbftext", "{ query }", strings.Repeat("n", 128) + "=1", strings.Repeat("n", 129) + "=1", "a*b^c=1", "a b=1", "a=1\r\n\r\n&&b=2&", "[\"\\ud83d\\ude00\"]",
	repeat(999, "a#=#", "&"), repeat(1000, "a#=#", "&"), "\xff", "ä=1",
}

var documents = []string{
	`{}`, `[]`, `{"a":1}`, `[1,2,3]`, ` { "a" : [ 1 , { "b" : null } , "c" , true , false , -1.5e+10 ] } `, `"top"`, `12`, `-0.5E-3`, `true`, `false`, `null`,
	`{"a":{"b":{"c":[[],[[]],{},[{}]]}}}`, `{"a":"\u00e9\u20ac\ud83d\ude00\n\t\"\\\/\b\f\r"}`, `{"\u0061":1,"a":2,"A":3,"a.b":4}`, `{"a":{"b":1},"a.b":2}`,
	`{"a":"\ud83d"}`, `{"a":"\ud83dx"}`, `{"a":"\ud83d\u0041"}`, `{"a":"\ude00\ud83d"}`, `{"a":"\ude00"}`, `{"":""}`, `{"a":""}`, `["",null,[""]]`,
	"{\"\u00fc\":\"\u00fc \U0001f600\"}", "{\"a\":\"\xff\xfe\"}", "{\"a\":\"tab\there\"}", "{\"a\":\"del\x7f\"}", "[1]\n\n", "[1]x", "[1,]", `{"a":1,}`, `{,}`, `[,1]`, `{"a"}`, `{"a":}`,
	`{a:1}`, `[01]`, `[1.]`, `[.5]`, `[+1]`, `[1e]`, `[-]`, `[tru]`, `[nul]`, `[NaN]`, `["a`, `["a\`, `["\u12"]`, `["\x"]`, `[1 2]`, `{"a":1 "b":2}`, `{"a":1}{"b":2}`, ``, ` `,
	`{"a":"]}","b":"\\\"[{"}`, `["\\"]`, `["\\\\\""]`, `{"a\"b":1}`, `{"a":"https:\/\/example.com\/"}`, `[[1,[2,[3,[4]]]]]`, `{"k":[{"a":1},{"a":2},{"a":3}]}`,
	`{"query":"query Q($a:Int){user(id:$a){name}}","variables":{"a":1}}`, `{"query":"not graphql ("}`, `[{"query":"{a(b:\"c\")}"}]`,
	"[" + repeat(1000, "#", ",") + "]", "[" + repeat(999, "#", ",") + "]", "[" + repeat(1001, "#", ",") + "]", "[" + repeat(1000, "[]", ",") + ",1]", "[" + repeat(500, "[#]", ",") + "]", "[" + repeat(499, "[#]", ",") + "]",
	"{" + repeat(1000, `"a#":#`, ",") + "}", "{" + repeat(1000, `"a#":#`, ",") + `,"b":{}}`, strings.Repeat("[", 1024) + strings.Repeat("]", 1024), strings.Repeat("[", 1025) + strings.Repeat("]", 1025),
	strings.Repeat(`{"a":`, 1024) + "1" + strings.Repeat("}", 1024), strings.Repeat(`{"aaaaaaaaaaaaaaa":[`, 30) + repeat(200, "#", ",") + strings.Repeat("]}", 30),
	`{"` + strings.Repeat("long", 400) + `":[` + repeat(50, `"#"`, ",") + `]}`, `{"a":"` + strings.Repeat("x", 70000) + `"}`, "\xef\xbb\xbf{\"a\":1}",
}

var markups = []string{
	`<a/>`, `<a></a>`, `<a b="c" d='e'>f<g>h</g>i</a>`, `<?xml version="1.0" encoding="UTF-8"?><soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope"><soap:Body><m:Get xmlns:m="http://example.org/"><m:Name>IBM</m:Name></m:Get></soap:Body></soap:Envelope>`,
	"<?xml version='1.0'?>\r\n<a>\r\n  <b>x &lt; y &amp;&amp; z &#233; &#x20AC;</b>\r\n</a>\r\n", `<a><!-- comment -->text<!-- -- --></a>`, `<a><!--c-->t</a>`, `<a><![CDATA[<b>&amp;]]></a>`, `<a><![CDATA[]]></a>`, "<a><![CDATA[\r\nx\ry\xff]]></a>",
	`<!DOCTYPE note SYSTEM "note.dtd"><note>x</note>`, `<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>`, `<methodCall><params><param><value>1</value></param></params></methodCall>`, `<rss><channel><link>http://x/</link></channel></rss>`,
	`<br>`, `<a><br></a>`, `<a><b></a></b>`, `<a`, `<a b=c>`, `<a b>`, `<a b="<">`, `<a>]]></a>`, `<a>&nbsp;&bogus;&</a>`, `<a>&#0;</a>`, `<a>&#xD800;</a>`, `<a>&#x110000;</a>`, "<a>\x00</a>", "<a>\xff</a>", "<a>\u00fc \U0001f600</a>", "<a b=\"\u00fc&quot;&apos;\"/>",
	`text`, `<a/>text`, `text<a/>`, `<a/><b/>`, ` <a/> `, `<a:b:c/>`, `<:a/>`, `<a:/>`, `<1a/>`, `<?xml version="1.1"?><a/>`, `<?xml encoding="utf-8"?><a/>`, `<?xml version="1.0" encoding="iso-8859-1"?><a>` + "\xfc</a>", `<?xml version="1.0" encoding="utf-16"?><a/>`,
	`<?pi some thing?><a>x<?pi?>y</a>`, "<a b='1'c='2'/>", "<a b = '1' />", "<a\n\tb\n=\n'1'\n></a >", "<a>  </a>", "<a>\u00a0x\u00a0\u0085</a>", "<a b='  x  ' c='\u00a0'/>", "<a b=\"\r\n\t\"/>", "<a>&#13;&#10;x&#9;</a>",
	"<a>" + repeat(1000, "<b>#</b>", "") + "</a>", "<a>" + repeat(1001, "<b>#</b>", "") + "</a>", "<a>" + repeat(500, "<b c='#'>#</b>", "") + "</a>", "<a>" + repeat(501, "<b c='#'>#</b>", "") + "</a>",
	strings.Repeat("<a>", 500) + strings.Repeat("</a>", 500), "\xef\xbb\xbf<a>x</a>", "<a>\ufffe</a>", "<a>\ufffd</a>", "<A></a>", "<x:a></y:a>", `<a><!-->x</a>`, `<a><!---></a>`, `<a><!x></a>`, `<a x="&lt;a&gt;">&quot;</a>`, `<a>&#;</a>`, `<a>&#x;</a>`, `<a>&#00000000000065;</a>`,
}

var boundaries = []string{
	"multipart/form-data; boundary=b", `multipart/form-data; boundary="b"`, "multipart/form-data;boundary=b", "Multipart/Form-Data; Boundary=b", "multipart/form-data; charset=utf-8; boundary=b", "multipart/form-data ; boundary=b",
	"multipart/form-data", "multipart/form-data; boundary=", `multipart/form-data; boundary="`, "multipart/form-data; boundary=b; boundary=c", "multipart/form-data; boundary=b; boundary=b", "multipart/mixed; boundary=b", "multipart/related; type=x; boundary=b",
	"multipart/form-data; boundary*=utf-8''b", `multipart/form-data; boundary="a\b"`, "multipart/form-data; boundary=b;", "multipart/form-data, boundary=b", "multipart/form-data; boundary=b\u00a0", "multipart/form-data; boundary=b x",
}

var multiparts = []string{
	"--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b--\n",
	"--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b\nContent-Disposition: form-data; name=\"f\"; filename=\"x.png\"\nContent-Type: image/png\n\n\x89PNG\r\x00\n\x1a\n--b--\n",
	"--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b--", "--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b--\n\nepilogue", "--b\nContent-Disposition: form-data; name=\"a\"\n\n\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a\"\n\n--b--\n",
	"--b--\n", "--b--", "preamble\n--b\n\n1\n--b--\n", "\n--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b--\n", "--b\n\nx\n--b--\n", "--b\nContent-Type: text/plain\n\nx\n--b--\n",
	"--b\ncontent-disposition: form-data; name=\"a\"\ncontent-type:text/plain\nX-y-Z:  v  \n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=a; filename=f.txt\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=\"\"; filename=\"\"\n\n1\n--b--\n",
	"--b\nContent-Disposition: form-data; name=\"a\\\"b\"; filename=\"C:\\dir\\x.txt\"\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=\"ü\"; filename=\"Ünïcödé 😀.txt\"\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a\"; filename*=utf-8''x%20y.txt\n\n1\n--b--\n",
	"--b\nContent-Disposition: form-data; name=\"a\"; filename=\"x\"; filename*=utf-8''y\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a\"; name=\"b\"\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a\"\nContent-Disposition: form-data; name=\"b\"\n\n1\n--b--\n",
	"--b\nContent-Disposition: attachment; name=\"a\"; filename=\"x\"\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a\"\nContent-Transfer-Encoding: quoted-printable\n\n=41\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a\"\nContent-Transfer-Encoding: binary\n\n=41\n--b--\n",
	"--b\nContent-Disposition: form-data;\n name=\"a\"\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--bb\n2\n--b\t\nX: y\n\n3\n--b--  \n", "--b\nContent-Disposition: form-data; name=\"a\"\n\n--bx\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b-\n--b--\n",
	"--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b", "--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n", "--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b x\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b--x\n--b--\n", "--b \nX: y\n\n1\n--b--\n",
	"--b\nContent-Disposition form-data\n\n1\n--b--\n", "--b\n: x\n\n1\n--b--\n", "--b\nA B: x\n\n1\n--b--\n", "--b\nX: \x01\n\n1\n--b--\n", "--b\nContent-Disposition:\n\n1\n--b--\n", "--b\nContent-Disposition: form-data\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a\";\n\n1\n--b--\n",
	"--b\nContent-Disposition: form-data; name=\"f\"; filename=\"A.txt\"\n\n1\n--b\nContent-Disposition: form-data; name=\"f\"; filename=\"a.TXT\"\n\n22\n--b\nContent-Disposition: form-data; name=\"F\"; filename=\"a.txt\"\n\n333\n--b--\n",
	"--b\nContent-Disposition: form-data; name=\"f\"; filename=\"K\"\n\n1\n--b\nContent-Disposition: form-data; name=\"f\"; filename=\"\u212a\"\n\n22\n--b\nContent-Disposition: form-data; name=\"F\"; filename=\"\u017f\"\n\n333\n--b\nContent-Disposition: form-data; name=\"F\"; filename=\"S\"\n\n333\n--b--\n",
	"--b\nContent-Disposition: form-data; name=file; filename=test.txt; filename*=utf-8''test.txt\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=file; filename=\"=?utf-8?B?w7w=?=\"; filename*=utf-8''%C3%BC.txt\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=file; filename*=iso-8859-1'de'%FC.txt\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=file; filename=\"a\\\"b\"; filename*=utf-8''x\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=file; filename=x; filename*=utf-8''\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=file; filename=x; filename*=utf-8''%zz\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=file; filename=x; filename*=\"utf-8''y\"\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=file; filename*=y\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=file; filename*=''y'z\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=file; filename*=a'b\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; filename*=utf-8''x; filename*=utf-8''x\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; filename*0=x; filename*1=y\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; FILENAME*=UTF-8'en'x%2Fy; filename=\"x/y\"\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name*=utf-8''x\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; filename=\"\"; filename*=utf-8''x\n\n1\n--b--\n", "\n--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b--\n", "\n\n--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b--\n",
	"--b\nContent-Disposition: Form-Data; NAME=\"a\"; FileName=\"x\"; size=3\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a\"; x=1; x=2\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name=\"a;b\"; filename=\"x;filename*=y\"\n\n1\n--b--\n", "--b\nContent-Disposition: form-data; name = \"a\"\n\n1\n--b--\n",
}

func known(tb testing.TB, contentType string, bodies []string, want func(string) bool) {
	tb.Helper()
	for _, body := range bodies {
		out := plainPolicy().compare(tb, request("POST", "/?a=1", "Content-Type: "+contentType, []byte(body)), []byte(body))
		if body == "" || want == nil {
			continue
		}
		if got := out.body == view.Known; got != want(body) {
			tb.Errorf("%.200q is known: %v (%v)", body, got, out.body)
		}
	}
}

func TestTargets(t *testing.T) {
	for _, target := range targets {
		plainPolicy().compare(t, request("GET", target, "", nil), nil)
	}
	for _, field := range cookieFields {
		if out := plainPolicy().compare(t, request("GET", "/", "Cookie: x\nCookie:"+field, nil), nil); out.head != view.Known {
			t.Errorf("the cookies %q are not known: %v", field, out.head)
		}
	}
}

func TestForms(t *testing.T) {
	known(t, "application/x-www-form-urlencoded", forms, func(s string) bool { return strings.Count(s, "&") < 1000 })
}

func TestTexts(t *testing.T) {
	known(t, "text/plain", texts, func(s string) bool { return strings.Count(s, "&") < 999 })
}

func TestDocuments(t *testing.T) { known(t, "application/json", documents, nil) }

func TestMarkups(t *testing.T) { known(t, "text/xml", markups, nil) }

func TestMultiparts(t *testing.T) {
	for _, contentType := range boundaries {
		known(t, contentType, []string{crlf(multiparts[1])}, nil)
	}
	for _, s := range multiparts {
		known(t, "multipart/form-data; boundary=b", []string{crlf(s), s}, nil)
	}
}

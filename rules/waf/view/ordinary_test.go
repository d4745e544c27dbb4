package view_test

import (
	"strings"
	"testing"

	"github.com/moatwaf/moat/rules/waf/view"
)

// TestOrdinary holds that what ordinary clients send is known.
func TestOrdinary(t *testing.T) {
	tests := []struct{ name, contentType, body string }{
		{"Chrome's form", "application/x-www-form-urlencoded", "q=caf%C3%A9+%F0%9F%98%80&empty=&tags%5B%5D=a&tags%5B%5D=b&note=line%0D%0Abreak"},
		{"jQuery's form", "application/x-www-form-urlencoded; charset=UTF-8", "user%5Bname%5D=x&user%5Bmail%5D=y%40example.com"},
		{"form with names in two cases", "application/x-www-form-urlencoded", "a=1&A=2&a=3"},
		{"Chrome's upload", "multipart/form-data; boundary=----WebKitFormBoundaryABC", crlf("------WebKitFormBoundaryABC\nContent-Disposition: form-data; name=\"title\"\n\nÜber uns 😀\n------WebKitFormBoundaryABC\nContent-Disposition: form-data; name=\"f\"; filename=\"bild ä.png\"\nContent-Type: image/png\n\n\x89PNG\x0d\x0a\x1a\x0a\x00--\n------WebKitFormBoundaryABC--\n")},
		{"Firefox's upload without a file", "multipart/form-data; boundary=----geckoformboundary1a2b", crlf("------geckoformboundary1a2b\nContent-Disposition: form-data; name=\"f\"; filename=\"\"\nContent-Type: application/octet-stream\n\n\n------geckoformboundary1a2b--\n")},
		{"a name with a quote as browsers send it", "multipart/form-data; boundary=b", crlf("--b\nContent-Disposition: form-data; name=\"a%22b\"; filename=\"x%0Ay.txt\"\n\n1\n--b--\n")},
		{"curl's upload", "multipart/form-data; boundary=------------------------d74496d66958873e", crlf("--------------------------d74496d66958873e\nContent-Disposition: attachment; name=\"f\"; filename=\"x.txt\"\nContent-Type: text/plain\n\nhello\n--------------------------d74496d66958873e--\n")},
		{".NET's upload", `multipart/form-data; boundary="9a7f3c1e-0d6b-4a36-8a52-6a1f3f0c2b11"`, crlf("--9a7f3c1e-0d6b-4a36-8a52-6a1f3f0c2b11\nContent-Type: text/plain; charset=utf-8\nContent-Disposition: form-data; name=title\n\nHello\n--9a7f3c1e-0d6b-4a36-8a52-6a1f3f0c2b11\nContent-Disposition: form-data; name=file; filename=\"r\u00e9sum\u00e9.pdf\"; filename*=utf-8''r%C3%A9sum%C3%A9.pdf\n\n%PDF-1.7\n--9a7f3c1e-0d6b-4a36-8a52-6a1f3f0c2b11--\n")},
		{"Java's upload", "multipart/form-data; boundary=b", crlf("--b\nContent-Disposition: form-data; name=\"meta\"\nContent-Type: application/json; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n{\"a\":1}\n--b--\n")},
		{"aiohttp's upload", "multipart/form-data; boundary=b", crlf("--b\nContent-Type: text/plain; charset=utf-8\nContent-Disposition: form-data; name=\"a\"\nContent-Length: 1\n\n1\n--b--\n")},
		{"several files of one field", "multipart/form-data; boundary=b", crlf(repeat(20, "--b\nContent-Disposition: form-data; name=\"files[]\"; filename=\"#.jpg\"\nContent-Type: image/jpeg\n\n#\n", "") + "--b--\n")},
		{"a related body", "multipart/related; type=\"application/xop+xml\"; start=\"<a>\"; start-info=\"text/xml\"; boundary=\"b\"", crlf("--b\nContent-Id: <a>\nContent-Type: application/xop+xml\n\n<a/>\n--b--\n")},
		{"an API's JSON", "application/json", string(order(14))},
		{"JSON of other scripts", "application/json; charset=utf-8", `{"name":"\u0645\u0631\u062d\u0628\u0627","名前":"山田","emoji":"\ud83d\ude00\u200d","e2":"😀","empty":"","null":null,"list":[],"object":{}}`},
		{"indented JSON", "application/json", "{\r\n\t\"a\" : [\r\n\t\t1,\r\n\t\t-2.5e-3\r\n\t],\r\n\t\"b\" : {\r\n\t}\r\n}\r\n"},
		{"JSON with repeated keys", "application/json", `{"a":1,"a":2,"A":3,"b":{"c":1},"b.c":2}`},
		{"a JSON scalar", "application/json", `"just text"`},
		{"JSON:API", "application/vnd.api+json", `{"data":{"type":"articles","attributes":{"title":"x"}}}`},
		{"a GraphQL query", "application/json", `{"query":"query Q($id: ID!) { user(id: $id) { name } }","variables":{"id":"1"},"operationName":"Q"}`},
		{"a report", "application/csp-report", `{"csp-report":{"document-uri":"https://example.com/","blocked-uri":"inline"}}`},
		{"JSON lines", "application/x-ndjson", "{\"a\":1}\n{\"a\":2}\n\n"},
		{"a beacon", "text/plain;charset=UTF-8", `{"event":"view","page":"/a"}`},
		{"a text form", "text/plain", "name=x\r\ncomment=a b\r\n"},
		{"text", "text/plain", "Dear all,\n\nplease find = attached.\n"},
		{"a table", "text/csv", "a,b\n1,2\n"},
		{"a SOAP call", "text/xml; charset=utf-8", string(samples[7].body)},
		{"XML-RPC", "text/xml", `<?xml version="1.0"?><methodCall><methodName>add</methodName><params><param><value><int>1</int></value></param></params></methodCall>`},
		{"a feed", "application/atom+xml", "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\r\n  <title type=\"html\">A &amp; B &#8211; ü</title>\r\n  <link href=\"https://example.com/\"/>\r\n  <!-- c -->\r\n  <content><![CDATA[<p>x & y</p>]]></content>\r\n</feed>\r\n"},
		{"a declared document type", "application/xml", `<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd"><plist version="1.0"><dict><key>a</key><true/></dict></plist>`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			hr := request("POST", "/api?x=1", "Content-Type: "+tt.contentType+"\nCookie: a=1; b=2", []byte(tt.body))
			if out := plainPolicy().compare(t, hr, []byte(tt.body)); out.head != view.Known || out.body != view.Known {
				t.Errorf("%v, %v", out.head, out.body)
			}
			if strings.Contains(tt.contentType, "xml") && !strings.Contains(tt.contentType, "multipart") {
				v := view.Get()
				defer v.Release()
				r := samples[7].request(t)
				defer r.Release()
				b := view.New(view.Options{})
				if b.Head(v, r, view.XML) != view.Known || b.Body(v, view.Body{Kind: view.XML, Data: []byte(tt.body), Whole: true}, "XML") != view.Known {
					t.Error("not known as a whole")
				}
			}
		})
	}
}

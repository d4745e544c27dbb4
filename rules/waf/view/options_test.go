package view_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf/view"
)

// TestLimits compares bodies around low limits, so that a limit of the View that is
// not the engine's shows.
func TestLimits(t *testing.T) {
	p := newPolicy("SecArgumentsLimit 4\nSecRequestBodyJsonDepthLimit 3\n", view.Options{Arguments: 4, JSONDepth: 3})
	seen := map[view.Reason]int{}
	for _, pairs := range []int{3, 4, 5} {
		query := "/?" + repeat(pairs, "a#=#", "&")
		out := p.compare(t, request("GET", query, "", nil), nil)
		if want := pairs <= 4; (out.head == view.Known) != want {
			t.Errorf("%s: %v", query, out.head)
		}
	}
	bodies := map[string][]string{
		"application/x-www-form-urlencoded": {"a=1&b=2&c=3&d=4", "a=1&b=2&c=3&d=4&&", "a=1&b=2&c=3&d=4&e=5", "a=1&a=2&a=3&a=4&a=5"},
		"text/plain":                        {"a=1&b=2&c=3", "a=1&b=2&c=3&d=4"},
		"application/json": {"[1,2,3]", "[1,2,3,4]", `{"a":1,"b":2,"c":3,"d":4}`, `{"a":1,"b":2,"c":3,"d":4,"e":[]}`, `[1,2,3,4,[]]`, `[[],[],[],[],[]]`, `[[1],[2]]`, `[[1],[]]`,
			`[[[]]]`, `[[[1]]]`, `[[[[]]]]`, `{"a":{"b":{"c":1}}}`, `{"a":{"b":{"c":{}}}}`, "1", `[{},{},{},{},{}]`},
		"text/xml":                        {"<a><b>1</b><b>2</b><b>3</b><b>4</b></a>", "<a><b>1</b><b>2</b><b>3</b><b>4</b><b>5</b></a>", "<a b='1' c='2' d='3' e='4'/>", "<a b='1' c='2' d='3' e='4' f=''/>", "<a b='1' c='2' d='3' e='4' f='5'/>"},
		"multipart/form-data; boundary=b": {crlf(repeat(4, "--b\nContent-Disposition: form-data; name=\"a#\"\n\n1\n", "") + "--b--\n"), crlf(repeat(5, "--b\nContent-Disposition: form-data; name=\"a#\"\n\n1\n", "") + "--b--\n"), crlf(repeat(2, "--b\nContent-Disposition: form-data; name=\"a#\"\nX: y\nZ: z\n\n1\n", "") + "--b--\n"), crlf(repeat(2, "--b\nContent-Disposition: form-data; name=\"a#\"\nX: y\n\n1\n", "") + "--b--\n")},
	}
	for contentType, bodies := range bodies {
		for _, body := range bodies {
			out := p.compare(t, request("POST", "/", "Content-Type: "+contentType, []byte(body)), []byte(body))
			seen[out.body]++
		}
	}
	if seen[view.Known] < 12 || seen[view.Arguments] < 8 || seen[view.OddJSON] < 2 {
		t.Errorf("%v", seen)
	}
}

// TestParsers lets a rule choose the body parser: every parser for every kind.
func TestParsers(t *testing.T) {
	rules, n := "", 100
	parsers := []string{"URLENCODED", "JSON", "XML", "MULTIPART", "RAW", "raw", "NONE"}
	for _, parser := range parsers {
		n++
		rules += fmt.Sprintf("SecRule REQUEST_HEADERS:X-Parser \"@streq %s\" \"id:%d,phase:1,pass,nolog,ctl:requestBodyProcessor=%s\"\n", parser, n, parser)
	}
	p := newPolicy(rules, view.Options{})
	p.chooses = true
	seen := map[view.Reason]int{}
	for contentType := range mediaKinds {
		for _, parser := range parsers {
			for _, body := range []string{"a=1&b=2", `{"a":[1,2]}`, `"a"`, "<x><t>a</t></x>", crlf(multiparts[1]), "text", ""} {
				out := p.compare(t, request("POST", "/", "Content-Type: "+contentType+"\nX-Parser: "+parser, []byte(body)), []byte(body))
				seen[out.body]++
				if t.Failed() {
					t.Fatalf("%s of %s as %s", body, contentType, parser)
				}
			}
		}
	}
	if seen[view.Known] < 100 || seen[view.Processor] < 10 {
		t.Errorf("%v", seen)
	}
}

// TestConnections compares the addresses that hosts give.
func TestConnections(t *testing.T) {
	remotes := []string{"198.51.100.7:40000", "[2001:db8::1]:443", "[fe80::1%eth0]:99", "[::ffff:192.0.2.1]:1", "192.0.2.1", "@", "", "x:y", "192.0.2.1:99999"}
	locals := []net.Addr{
		nil, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:443")), net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[2001:db8::2]:8443")),
		&net.TCPAddr{IP: net.ParseIP("192.0.2.9"), Port: 80}, &net.TCPAddr{IP: net.ParseIP("fe80::2"), Zone: "eth0", Port: 80}, &net.TCPAddr{Port: 80}, &net.TCPAddr{},
		&net.TCPAddr{IP: net.IP{1, 2, 3}, Port: 80}, &net.TCPAddr{IP: net.ParseIP("192.0.2.9"), Zone: "x", Port: 80}, &net.TCPAddr{IP: net.ParseIP("192.0.2.9"), Port: 70000},
		&net.UDPAddr{IP: net.ParseIP("192.0.2.8"), Port: 443}, &net.UnixAddr{Name: "/run/x.sock", Net: "unix"},
	}
	for _, remote := range remotes {
		for _, local := range locals {
			for _, client := range []string{"", "203.0.113.5", "2001:db8::5"} {
				hr := request("GET", "/", "", nil)
				hr.RemoteAddr = remote
				hr = hr.WithContext(context.WithValue(context.Background(), http.LocalAddrContextKey, local))
				r := filter.NewRequest(hr, time.Unix(1700000000, 0))
				r.Client = r.Peer
				if client != "" {
					r.Client = netip.MustParseAddr(client)
				}
				if out := plainPolicy().compareRequest(t, r, nil); out.head != view.Known {
					t.Errorf("%s, %v: %v", remote, local, out.head)
				}
				r.Release()
			}
		}
	}
}

// TestHosts compares what hosts other than net/http's server for HTTP/1.1 give.
func TestHosts(t *testing.T) {
	http2 := request("GET", "/a?b=c", "Cookie: a=1\nCookie: b=2\nAccept: */*", nil)
	http2.Proto, http2.ProtoMajor, http2.ProtoMinor = "HTTP/2.0", 2, 0
	noHost := request("GET", "/", "", nil)
	noHost.Host = ""
	http10 := request("GET", "/", "", nil)
	http10.Host, http10.Proto, http10.ProtoMinor = "", "HTTP/1.0", 0
	noTarget := request("GET", "", "", nil)
	noTarget.URL = &url.URL{Path: "/x y", RawQuery: "a=b c"}
	chunked := request("POST", "/", "Content-Type: text/plain", []byte("text"))
	chunked.ContentLength, chunked.TransferEncoding = -1, []string{"chunked"}
	twice := request("POST", "/", "Transfer-Encoding: chunked\nContent-Length: 7", []byte("text"))
	twice.TransferEncoding = []string{"gzip", "chunked"}
	several := request("POST", "/", "Content-Length: 4", []byte("text"))
	several.TransferEncoding = []string{"gzip", "chunked"}
	several.Header = http.Header{}
	port := request("GET", "/", "", nil)
	port.Host = "Shop.Example.com.:8443"
	odd := request("GET", "/", "content-type: text/xml\ncookie: a=1\nCOOKIE: b=2\nContent-Type: application/json\nx-UPPER: 1", nil)
	fold := request("GET", "/", "Coo\u212aie: a=1\nCook\u0130e: b=2\n\u00c7ookie: x", nil)
	empty := request("GET", "/", "X-Empty:\nAccept:", nil)
	for name, hr := range map[string]*http.Request{
		"HTTP/2": http2, "no host": noHost, "HTTP/1.0": http10, "no target": noTarget, "chunked": chunked, "given twice": twice, "codings": several,
		"port": port, "odd names": odd, "names that fold": fold, "empty": empty,
	} {
		var body []byte
		if hr.Body != http.NoBody {
			body = []byte("text")
		}
		out := plainPolicy().compare(t, hr, body)
		if odd := strings.Contains(name, "names"); odd != (out.head == view.Header) || !odd && out.head != view.Known {
			t.Errorf("%s: %v", name, out.head)
		}
	}
	for _, target := range []string{"example.com:443", "/socket?a=1", "[2001:db8::1]:443", "x"} {
		if out := plainPolicy().compare(t, request("CONNECT", target, "Content-Type: text/plain", []byte("tunnel")), nil); out.head != view.Known {
			t.Errorf("CONNECT %s: %v", target, out.head)
		}
	}
}

// TestViewsAreReused holds that nothing of a request is left in a View, and that
// many may be built at a time.
func TestViewsAreReused(t *testing.T) {
	p := view.New(view.Options{})
	v := view.Get()
	r := samples[4].request(t)
	defer r.Release()
	if p.Head(v, r, view.Multipart) != view.Known || p.Body(v, view.Body{Kind: view.Multipart, Data: samples[4].body}, "MULTIPART") != view.Known || len(v.List(variables.Files)) != 1 {
		t.Fatal("not known")
	}
	v.Reset()
	for c := range 256 {
		c := variables.RuleVariable(c)
		if len(v.List(c)) > 0 || len(v.Single(c)) > 1 {
			t.Errorf("%s holds %v, %q after Reset", c.Name(), v.List(c), v.Single(c))
		}
	}
	if v.Phase() != 0 || p.Body(v, view.Body{}, "") != view.Unset {
		t.Error("a body is taken before a head")
	}
	v.Release()

	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				r := chromeRequest(t)
				v := view.Get()
				if p.Head(v, r, view.None) != view.Known || len(v.List(variables.ArgsGet)) != 3 || v.Single(variables.RequestBasename) != "list" {
					t.Error("another request's values")
				}
				v.Release()
				r.Release()
			}
		})
	}
	wg.Wait()
}

func TestReasons(t *testing.T) {
	seen := map[string]bool{}
	for n := range view.NumReasons {
		name := view.Reason(n).String()
		if name == "" || seen[name] || strings.ToLower(name) != name {
			t.Errorf("the reason %d is %q", n, name)
		}
		seen[name] = true
	}
	if view.Reason(200).String() != "unset" {
		t.Error("an unknown reason has a name of its own")
	}
}

// TestHostileBodies holds that the dearest bodies cost no more than reading them a
// few times: each is built of what a parser might compare with all the rest.
func TestHostileBodies(t *testing.T) {
	const size = 1 << 20
	fill := func(s string) []byte { return []byte(strings.Repeat(s, size/len(s))) }
	part := func(i int) string {
		return crlf(fmt.Sprintf("--b\nContent-Disposition: form-data; name=\"f\"; filename=\"%s%d\"\n\n\n", strings.Repeat("x", 8000), i))
	}
	tests := []struct {
		name, contentType string
		body              []byte
		kind              view.Kind
	}{
		{"header fields of a part", "multipart/form-data; boundary=b", append([]byte("--b\r\n"), fill("a:\r\n")...), view.Multipart},
		{"long file names", "multipart/form-data; boundary=b", []byte(part(1) + part(2) + strings.Repeat(part(3), 120)), view.Multipart},
		{"almost a boundary", "multipart/form-data; boundary=b", append([]byte("--b\r\n\r\n"), fill("\r\n--bb")...), view.Multipart},
		{"parameters", "multipart/form-data; boundary=b", append([]byte("--b\r\nContent-Disposition: form-data"), fill("; a=b")...), view.Multipart},
		{"attributes", "text/xml", append([]byte("<a"), fill(" a=''")...), view.XML},
		{"elements", "text/xml", fill("<a>"), view.XML},
		{"references", "text/xml", append([]byte("<a>"), fill("&lt;")...), view.XML},
		{"comments", "text/xml", append([]byte("<a>"), fill("<!---->")...), view.XML},
		{"brackets", "application/json", fill("["), view.JSON},
		{"empty objects", "application/json", append([]byte("[{}"), fill(",{}")...), view.JSON},
		{"long names", "application/json", []byte(`{"` + strings.Repeat("x", size/2) + `":[` + repeat(900, "#", ",") + "]}"), view.JSON},
		{"escapes", "application/json", append([]byte(`["`), fill(`\u0041`)...), view.JSON},
		{"ampersands", "application/x-www-form-urlencoded", fill("&"), view.Form},
		{"escapes of a form", "application/x-www-form-urlencoded", fill("%41"), view.Form},
		{"lines", "text/plain", append([]byte("a=1"), fill("\r\n")...), view.Text},
	}
	parsers := map[view.Kind]string{view.Multipart: "MULTIPART", view.XML: "XML", view.JSON: "JSON", view.Form: "URLENCODED", view.Text: "RAW"}
	p := view.New(view.Options{})
	for _, tt := range tests {
		hr := request("POST", "/", "Content-Type: "+tt.contentType, []byte("x"))
		r := filter.NewRequest(hr, time.Unix(1700000000, 0))
		v := view.Get()
		start := time.Now()
		if p.Head(v, r, tt.kind) != view.Known {
			t.Fatal("the head is not known")
		}
		why := p.Body(v, view.Body{Kind: tt.kind, Data: tt.body, Whole: tt.kind == view.XML}, parsers[tt.kind])
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%s: %v after %v", tt.name, why, took)
		} else {
			t.Logf("%s: %v after %v", tt.name, why, took)
		}
		v.Release()
		r.Release()
	}
}

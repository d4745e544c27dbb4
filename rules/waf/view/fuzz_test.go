package view_test

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// request returns a request as a server could hand it over, with header fields
// "Name: value", one a line.
func request(method, target, header string, body []byte) *http.Request {
	hr := &http.Request{
		Method: method, RequestURI: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Host: "shop.example.com", URL: &url.URL{Path: "/"}, Body: http.NoBody,
	}
	for line := range strings.SplitSeq(header, "\n") {
		name, value, _ := strings.Cut(line, ":")
		if name != "" {
			hr.Header[name] = append(hr.Header[name], strings.TrimSpace(value))
		}
	}
	if len(body) > 0 {
		hr.Body = io.NopCloser(bytes.NewReader(body))
		hr.ContentLength = int64(len(body))
	}
	hr, _ = withBody(hr)
	return hr
}

func FuzzHead(f *testing.F) {
	for _, s := range targets {
		f.Add("GET", s, "Cookie: a=1; b=2\nAccept: */*")
	}
	for _, s := range cookieFields {
		f.Add("GET", "/", "Cookie: "+s)
	}
	f.Add("POST", "/", "Content-Type: multipart/form-data; boundary=x\ncontent-type: text/xml")
	f.Add("OPTIONS", "*", "Transfer-Encoding: chunked")
	f.Fuzz(func(t *testing.T, method, target, header string) {
		plainPolicy().compare(t, request(method, target, header, nil), nil)
	})
}

func fuzzBody(f *testing.F, contentType string, seeds []string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		plainPolicy().compare(t, request("POST", "/?a=1", "Content-Type: "+contentType, body), body)
	})
}

func FuzzForm(f *testing.F) { fuzzBody(f, "application/x-www-form-urlencoded", forms) }

func FuzzText(f *testing.F) {
	fuzzBody(f, "text/plain", append(append([]string{}, texts...), forms...))
}

func FuzzJSON(f *testing.F) { fuzzBody(f, "application/json", documents) }

func FuzzXML(f *testing.F) { fuzzBody(f, "text/xml", markups) }

func FuzzMultipart(f *testing.F) {
	for _, s := range multiparts {
		f.Add("multipart/form-data; boundary=b", []byte(crlf(s)))
	}
	for _, s := range boundaries {
		f.Add(s, []byte(crlf(multiparts[0])))
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		if strings.ContainsAny(contentType, "\r\n") || !strings.HasPrefix(contentType, "multipart/") {
			return
		}
		plainPolicy().compare(t, request("POST", "/", "Content-Type: "+contentType, body), body)
	})
}

// crlf writes a multipart body as it is sent.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// repeat returns n texts with their number in the place of #.
func repeat(n int, s, separator string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(separator)
		}
		b.WriteString(strings.ReplaceAll(s, "#", strconv.Itoa(i)))
	}
	return b.String()
}

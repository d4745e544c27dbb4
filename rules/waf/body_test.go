package waf

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules"
)

const attackForm = "id=1%27+UNION+SELECT+password+FROM+users--+-"

// post returns a request with a spy for a body. length is the announced one; -1
// for a chunked body.
func post(contentType string, body []byte, length int64, header ...string) (*http.Request, *spyBody) {
	r := newHTTP("POST", "/upload", "", header...)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	s := spy(body)
	r.Body, r.ContentLength = s, length
	if length < 0 {
		r.TransferEncoding = []string{"chunked"}
	}
	return r, s
}

// TestStreams holds that bodies which nobody inspects are not touched.
func TestStreams(t *testing.T) {
	s := readyStage(t)
	for _, contentType := range []string{
		"application/grpc", "application/grpc+proto", "application/grpc-web+proto", "application/octet-stream",
		"application/protobuf", "application/x-protobuf", "application/connect+json",
	} {
		r, body := post(contentType, []byte(attackForm), -1)
		if s.NeedsBody(filter.NewRequest(r, testTime)) {
			t.Errorf("%s: NeedsBody", contentType)
		}
		if d := check(t, s, r); d.Verdict != filter.Continue || body.reads != 0 {
			t.Errorf("%s: %v after %d reads, want continue after none", contentType, d.Verdict, body.reads)
		}
	}
	// Refused by the headers alone.
	r, body := post("application/x-www-form-urlencoded", []byte("a=1"), 3)
	r.URL.RawQuery = strings.Repeat("a&", 1001)
	r.RequestURI = "/?" + r.URL.RawQuery
	if d := check(t, s, r); d.Verdict != filter.Block || body.reads != 0 {
		t.Errorf("too many arguments: %v after %d reads, want a refusal after none", d.Verdict, body.reads)
	}
	// A tunnel has no body to read.
	r, body = post("", []byte(attackForm), -1)
	r.Method = http.MethodConnect
	if check(t, s, r); body.reads != 0 {
		t.Errorf("CONNECT: %d reads", body.reads)
	}
}

// TestReplay holds that the upstream gets the client's bytes, whatever the rules
// were shown.
func TestReplay(t *testing.T) {
	s := readyStage(t)
	for _, tt := range []struct{ contentType, body string }{
		{"application/json", "\xef\xbb\xbf{\"a\":1}"},
		{"application/x-ndjson", "{\"a\":1}\n{\"b\":2}\n"},
		{"text/xml", "<?xml version='1.0' encoding='iso-8859-1'?><link>\xe9</link>"},
		{"application/x-www-form-urlencoded", "a=1&b=2"},
		{"text/plain", "hello"},
	} {
		r, _ := post(tt.contentType, []byte(tt.body), int64(len(tt.body)))
		if d := check(t, s, r); d.Verdict != filter.Continue {
			t.Errorf("%s: %v %v", tt.contentType, d.Verdict, d.Payload)
		}
		got, err := io.ReadAll(r.Body)
		if err != nil || string(got) != tt.body {
			t.Errorf("%s: upstream reads %q, %v, want %q", tt.contentType, got, err, tt.body)
		}
	}
}

// TestOversize is the table of what becomes of a body over the limit.
func TestOversize(t *testing.T) {
	const limit = 2000
	filler := strings.Repeat("f", limit)
	kinds := []struct{ name, contentType, early, late string }{
		{"form", "application/x-www-form-urlencoded", attackForm + "&f=" + filler, "f=" + filler + "&" + attackForm},
		{"JSON", "application/json", `{"id":"` + sqli + `","f":"` + filler + `"}`, `{"f":"` + filler + `","id":"` + sqli + `"}`},
		{"NDJSON", "application/x-ndjson", `{"id":"` + sqli + "\"}\n{\"f\":\"" + filler + `"}`, `{"f":"` + filler + "\"}\n{\"id\":\"" + sqli + `"}`},
		{"XML", "text/xml", "<a><b>" + sqli + "</b><c>" + filler + "</c></a>", "<a><c>" + filler + "</c><b>" + sqli + "</b></a>"},
		{"text", "text/plain", sqli + " " + filler, filler + " " + sqli},
		{"multipart", "multipart/form-data; boundary=x",
			parts("--x", "Content-Disposition: form-data; name=a", "", sqli, "--x", "Content-Disposition: form-data; name=f", "", filler, "--x--"),
			parts("--x", "Content-Disposition: form-data; name=f", "", filler, "--x", "Content-Disposition: form-data; name=a", "", sqli, "--x--")},
	}
	for _, o := range []Oversize{OversizeBlock, OversizeInspect, OversizePass} {
		s := mustNew(t, Config{BodyLimit: limit, Oversize: o})
		for _, k := range kinds {
			for _, announced := range []bool{true, false} {
				t.Run(o.String()+"/"+k.name, func(t *testing.T) {
					run := func(content string) (filter.Decision, *spyBody) {
						length := int64(-1)
						if announced {
							length = int64(len(content))
						}
						r, body := post(k.contentType, []byte(content), length)
						d := check(t, s, r)
						if rest, err := io.ReadAll(r.Body); d.Verdict == filter.Continue && (err != nil || string(rest) != content) {
							t.Errorf("the upstream reads %d of %d bytes, %v", len(rest), len(content), err)
						}
						return d, body
					}
					switch o {
					case OversizeBlock:
						r, body := post(k.contentType, []byte(k.late), int64(len(k.late)))
						if !announced {
							r.ContentLength = -1
						}
						d := check(t, s, r)
						if d.Reason != filter.ReasonOversize || d.StatusCode() != http.StatusRequestEntityTooLarge {
							t.Errorf("%v %v %d, want 413", d.Verdict, d.Reason, d.StatusCode())
						}
						if announced && body.reads > 0 {
							t.Error("an announced length over the limit was read all the same")
						}
					case OversizeInspect:
						if d, _ := run(k.early); d.Reason != filter.ReasonPayload {
							t.Errorf("attack before the cut: %v %v, want a refusal by rule", d.Verdict, d.Reason)
						}
						if d, _ := run(k.late); d.Verdict != filter.Continue {
							t.Errorf("attack behind the cut: %v %v %v, want continue", d.Verdict, d.Reason, d.Payload)
						}
					case OversizePass:
						if d, _ := run(k.early); d.Verdict != filter.Continue {
							t.Errorf("%v %v, want continue", d.Verdict, d.Reason)
						}
					}
				})
			}
		}
	}
}

// TestExactLimit holds that a body of exactly the limit is whole.
func TestExactLimit(t *testing.T) {
	const limit = 512
	s := mustNew(t, Config{BodyLimit: limit})
	body := `{"a":"` + strings.Repeat("x", limit-8) + `"}`
	for _, tt := range []struct {
		body string
		want filter.Verdict
	}{{body, filter.Continue}, {body + " ", filter.Block}} {
		r, _ := post("application/json", []byte(tt.body), -1)
		if d := check(t, s, r); d.Verdict != tt.want {
			t.Errorf("%d bytes of %d: %v %v", len(tt.body), limit, d.Verdict, d.Reason)
		}
	}
}

// failing is a body that ends in an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
func (f failing) Close() error             { return nil }

func TestBrokenBody(t *testing.T) {
	s := readyStage(t)
	for _, tt := range []struct {
		name   string
		err    error
		reason filter.Reason
		status int
	}{
		{"a connection that ends", io.ErrUnexpectedEOF, filter.ReasonMalformed, 400},
		{"a broken chunk", errors.New("invalid byte in chunk length"), filter.ReasonMalformed, 400},
		{"the host's limit", &http.MaxBytesError{Limit: 1}, filter.ReasonOversize, 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := post("application/json", nil, -1)
			r.Body = failing{tt.err}
			if d := check(t, s, r); d.Reason != tt.reason || d.StatusCode() != tt.status {
				t.Errorf("%v %d, want %v %d", d.Reason, d.StatusCode(), tt.reason, tt.status)
			}
		})
	}
}

func compress(tb testing.TB, coding string, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		w, _ = zstd.NewWriter(&b)
	case "raw":
		w, _ = flate.NewWriter(&b, flate.BestCompression)
	}
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestContentEncoding(t *testing.T) {
	s := mustNew(t, Config{BodyLimit: 256 << 10})
	form := "application/x-www-form-urlencoded"
	clean := []byte("a=1&b=tea")
	bomb := compress(t, "gzip", bytes.Repeat([]byte{'a'}, 64<<20))
	ratio := compress(t, "gzip", bytes.Repeat([]byte{'a'}, 200<<10))
	for _, tt := range []struct {
		name, contentType, encoding string
		body                        []byte
		status                      int // 0 for a request that passes
	}{
		{"gzip", form, "gzip", compress(t, "gzip", clean), 0},
		{"gzip, attack", form, "gzip", compress(t, "gzip", []byte(attackForm)), 403},
		{"gzip by its old name", form, "X-GZIP", compress(t, "gzip", []byte(attackForm)), 403},
		{"gzip of two members, attack in the second", form, "gzip",
			append(compress(t, "gzip", []byte("a=1&")), compress(t, "gzip", []byte(attackForm))...), 403},
		{"deflate", form, "deflate", compress(t, "deflate", clean), 0},
		{"deflate, attack", form, "deflate", compress(t, "deflate", []byte(attackForm)), 403},
		{"deflate without the zlib header", form, "deflate", compress(t, "raw", []byte(attackForm)), 400},
		{"deflate and more", form, "deflate", append(compress(t, "deflate", clean), attackForm...), 400},
		{"gzip and more", form, "gzip", append(compress(t, "gzip", clean), attackForm...), 400},
		{"gzip, cut off", form, "gzip", compress(t, "gzip", clean)[:15], 400},
		{"no gzip at all", form, "gzip", []byte(attackForm), 400},
		{"a bomb", form, "gzip", bomb, 413},
		{"a ratio that no text has", form, "gzip", ratio, 413},
		{"identity", form, "identity", []byte(attackForm), 403},
		{"brotli", form, "br", compress(t, "br", clean), 0},
		{"brotli, attack", form, "br", compress(t, "br", []byte(attackForm)), 403},
		{"brotli and more", form, "br", append(compress(t, "br", clean), attackForm...), 400},
		{"brotli and a byte", form, "br", append(compress(t, "br", clean), 0), 400},
		{"brotli and much more", form, "br", append(compress(t, "br", clean), make([]byte, 8<<10)...), 400},
		{"brotli, cut off", form, "br", compress(t, "br", clean)[:6], 400},
		{"no brotli at all", form, "br", []byte(attackForm), 400},
		{"a bomb of brotli", form, "br", compress(t, "br", bytes.Repeat([]byte{'a'}, 64<<20)), 413},
		{"zstd", form, "zstd", compress(t, "zstd", clean), 0},
		{"zstd, attack", "application/json", "zstd", compress(t, "zstd", []byte(`{"a":"`+xss+`"}`)), 403},
		{"zstd of two frames, attack in the second", form, "zstd",
			append(compress(t, "zstd", []byte("a=1&")), compress(t, "zstd", []byte(attackForm))...), 403},
		{"zstd and more", form, "zstd", append(compress(t, "zstd", clean), attackForm...), 400},
		{"zstd, cut off", form, "zstd", compress(t, "zstd", clean)[:12], 400},
		{"no zstd at all", form, "zstd", []byte(attackForm), 400},
		{"a bomb of zstd", form, "zstd", compress(t, "zstd", bytes.Repeat([]byte{'a'}, 64<<20)), 413},
		{"zstd with a window that is too large", form, "zstd", []byte("\x28\xb5\x2f\xfd\x00\xff\x01\x00\x00"), 400},
		{"brotli by a name that it has not", form, "x-br", compress(t, "br", clean), 415},
		{"twice", form, "gzip, gzip", compress(t, "gzip", compress(t, "gzip", []byte(attackForm))), 415},
		{"unknown", form, "rot13", []byte("x"), 415},
		{"a type that nobody reads", "application/octet-stream", "br", []byte("x"), 0},
		{"JSON", "application/json", "gzip", compress(t, "gzip", []byte(`{"a":"`+xss+`"}`)), 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := post(tt.contentType, tt.body, int64(len(tt.body)), "Content-Encoding: "+tt.encoding)
			if d := check(t, s, r); d.StatusCode() != tt.status {
				t.Errorf("%d %v %v %v, want %d", d.StatusCode(), d.Reason, d.Detail, d.Payload, tt.status)
			}
		})
	}
}

// TestCodings holds that what the policy does not let decode is refused.
func TestCodings(t *testing.T) {
	s := mustNew(t, Config{Codings: []string{"gzip"}})
	for coding, want := range map[string]int{"gzip": 0, "deflate": 415, "br": 415, "zstd": 415, "identity": 0} {
		body := []byte("a=1")
		if coding != "identity" {
			body = compress(t, coding, body)
		}
		r, _ := post("application/x-www-form-urlencoded", body, int64(len(body)), "Content-Encoding: "+coding)
		if d := check(t, s, r); d.StatusCode() != want {
			t.Errorf("%s: %d, want %d", coding, d.StatusCode(), want)
		}
	}
	none := mustNew(t, Config{Codings: []string{}})
	body := compress(t, "gzip", []byte("a=1"))
	r, _ := post("application/x-www-form-urlencoded", body, int64(len(body)), "Content-Encoding: gzip")
	if d := check(t, none, r); d.StatusCode() != 415 {
		t.Errorf("without codings: %d", d.StatusCode())
	}
	if _, err := New(Config{Codings: []string{"lzma"}}); err == nil || !strings.Contains(err.Error(), `"lzma"`) {
		t.Errorf("an unknown coding: %v", err)
	}
}

// TestManyParts holds the three policies for a body of too many parts.
func TestManyParts(t *testing.T) {
	body := strings.Repeat("--x\r\nContent-Disposition: form-data; name=a; filename=a.txt\r\n\r\n1\r\n", 1500) + "--x--\r\n"
	for o, want := range map[Oversize]filter.Reason{OversizeBlock: filter.ReasonOversize, OversizePass: filter.ReasonNone, OversizeInspect: filter.ReasonNone} {
		s := mustNew(t, Config{Oversize: o})
		r, _ := post("multipart/form-data; boundary=x", []byte(body), int64(len(body)))
		if d := check(t, s, r); d.Reason != want {
			t.Errorf("%v: %v %v %v, want %v", o, d.Verdict, d.Reason, d.Payload, want)
		}
	}
}

// TestChunkedOverWire is the same through a server: the chunks of a real client.
func TestChunkedOverWire(t *testing.T) {
	s := readyStage(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		r := filter.NewRequest(hr, testTime)
		defer r.Release()
		d, err := s.Check(r)
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case d.Refuses():
			w.WriteHeader(d.StatusCode())
		default:
			_, _ = io.Copy(w, hr.Body)
		}
	}))
	defer srv.Close()
	for body, want := range map[string]int{"a=1&b=2": 200, attackForm: 403} {
		pr, pw := io.Pipe()
		go func() {
			for i := range len(body) {
				if _, err := pw.Write([]byte(body[i : i+1])); err != nil {
					return
				}
			}
			_ = pw.Close()
		}()
		req, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, pr)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "shop.example.com"
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want || want == 200 && string(got) != body {
			t.Errorf("%s: %d %q, want %d", body, resp.StatusCode, got, want)
		}
	}
}

// FuzzCoding holds that no body makes a decoder panic, or grow beyond the limit.
func FuzzCoding(f *testing.F) {
	for name, c := range codings {
		f.Add(uint8(c), compress(f, name, []byte(attackForm)))
		f.Add(uint8(c), append(compress(f, name, bytes.Repeat([]byte("word "), 1000)), "more"...))
	}
	f.Fuzz(func(t *testing.T, c uint8, data []byte) {
		const limit = 1 << 16
		plain, end, err := decode(codingGzip+coding(c)%(numCodings-1), data, limit, c&0x80 != 0)
		if len(plain) > limit || err != nil && (end || plain != nil) {
			t.Errorf("%d bytes, %v, %v", len(plain), end, err)
		}
	})
}

// FuzzPrepare holds that no body makes the preparation panic, or grow beyond what
// the engine takes.
func FuzzPrepare(f *testing.F) {
	for _, tt := range normalWeb {
		f.Add(tt.contentType, []byte(tt.clean))
		for _, a := range tt.attacks {
			f.Add(tt.contentType, []byte(a))
		}
	}
	f.Add("multipart/form-data; boundary=", []byte("--"))
	f.Add("text/xml", []byte("<a b='&&&&&&'>&&&&</a>"))
	f.Add("application/x-ndjson", []byte("\n\n\n{"))
	s := &Stage{config: Config{BodyLimit: 1 << 16, arguments: defaultArguments}}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		if int64(len(body)) > s.config.BodyLimit {
			return
		}
		h := http.Header{"Content-Type": {contentType}}
		p, _ := s.prepare(h, payload{kind: kindOf(mediaType(h)), data: body})
		p.settle(s.config.arguments, true)
		if limit := 12*s.config.BodyLimit + 64<<10; int64(len(p.data)) >= limit {
			t.Errorf("%d bytes became %d", len(body), len(p.data))
		}
	})
}

// FuzzScan holds that no rule file makes the reader panic, and that what it reads
// is what the file holds.
func FuzzScan(f *testing.F) {
	f.Add([]byte("SecRule ARGS \"@rx a\" \\\n  \"id:1,phase:2,deny\"\n"))
	f.Add([]byte("SecDataset a `\nb\n`\n"))
	f.Add([]byte("SecAction \"id:1,msg:'a,b',t:none\"\nInclude x\n# c\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := bytes.Count(data, []byte("\n")) + 1
		for _, d := range scan("f", data, new(rules.Errors)) {
			if d.line < 1 || d.line > lines {
				t.Errorf("line %d of %d", d.line, lines)
			}
			if r, ok := parseRule(&d); ok {
				_ = r.transforms()
				_ = r.withFresh(1)
			}
		}
	})
}

// TestPlainBoundary holds the boundary of a plain Content-Type against that of mime.
func TestPlainBoundary(t *testing.T) {
	for _, value := range []string{
		"multipart/form-data; boundary=x", "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
		"multipart/form-data; boundary=-", "multipart/form-data; boundary=", "multipart/form-data; boundary=x ",
		"multipart/form-data; boundary=x; charset=utf-8", "multipart/form-data; boundary=\"x\"", "multipart/form-data; boundary=x'y",
		"multipart/form-data; boundary=x_y", "multipart/form-data;boundary=x", "Multipart/Form-Data; Boundary=x",
		"multipart/form-data; boundary=@", "multipart/form-data; boundary=[", "multipart/form-data; boundary=`a{",
		"multipart/form-data; boundary=" + strings.Repeat("a", 300), "multipart/form-data; boundary=\xc3\xa9", "multipart/mixed; boundary=x", "",
	} {
		h := http.Header{"Content-Type": {value}}
		if got, ok := plainBoundary(h); ok && got != boundaryOf(h) {
			t.Errorf("%q: %q, want %q", value, got, boundaryOf(h))
		}
	}
	h := http.Header{"Content-Type": {"multipart/form-data; boundary=----geckoformboundary1f"}}
	if got, ok := plainBoundary(h); !ok || got != "----geckoformboundary1f" {
		t.Errorf("%q, %v, want what stands there", got, ok)
	}
}

package waf

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf/view"
)

// TestKindsAreThoseOfViews holds that the kinds of bodies are the same numbers here and
// in package view, with the same body parsers.
func TestKindsAreThoseOfViews(t *testing.T) {
	for kind, want := range map[bodyKind]view.Kind{
		kindNone: view.None, kindText: view.Text, kindForm: view.Form, kindMultipart: view.Multipart,
		kindJSON: view.JSON, kindNDJSON: view.NDJSON, kindXML: view.XML,
	} {
		if view.Kind(kind) != want {
			t.Errorf("kind %d is %d in a view", kind, want)
		}
	}
	if int(kindXML)+1 != len(processors) {
		t.Errorf("%d kinds, %d processors", kindXML+1, len(processors))
	}
}

// kindRules tell by what they match which parser a request had, and what it made of the
// body.
const kindRules = `SecRule REQBODY_PROCESSOR "@rx ." "id:1,phase:1,pass,nolog,setvar:tx.p=%{REQBODY_PROCESSOR}"
SecRule REQBODY_PROCESSOR "@streq RAW" "id:11,phase:1,pass,msg:'m'"
SecRule REQBODY_PROCESSOR "@streq URLENCODED" "id:12,phase:1,pass,msg:'m'"
SecRule REQBODY_PROCESSOR "@streq MULTIPART" "id:13,phase:1,pass,msg:'m'"
SecRule REQBODY_PROCESSOR "@streq JSON" "id:14,phase:1,pass,msg:'m'"
SecRule REQBODY_PROCESSOR "@streq XML" "id:15,phase:1,pass,msg:'m'"
SecRule REQBODY_PROCESSOR "@streq RAW" "id:21,phase:2,pass,msg:'m'"
SecRule REQBODY_PROCESSOR "@streq URLENCODED" "id:22,phase:2,pass,msg:'m'"
SecRule REQBODY_PROCESSOR "@streq MULTIPART" "id:23,phase:2,pass,msg:'m'"
SecRule REQBODY_PROCESSOR "@streq JSON" "id:24,phase:2,pass,msg:'m'"
SecRule REQBODY_PROCESSOR "@streq XML" "id:25,phase:2,pass,msg:'m'"
SecRule ARGS_POST:a "@streq marker" "id:31,phase:2,pass,msg:'m'"
SecRule ARGS_POST:body "@contains marker" "id:32,phase:2,pass,msg:'m'"
SecRule ARGS_POST:json.a "@streq marker" "id:33,phase:2,pass,msg:'m'"
SecRule ARGS_POST:json.0.a "@streq marker" "id:34,phase:2,pass,msg:'m'"
SecRule XML:/* "@contains marker" "id:35,phase:2,pass,msg:'m'"
SecRule FILES "@contains marker" "id:36,phase:2,pass,msg:'m'"
SecRule REQUEST_BODY "@contains marker" "id:37,phase:2,pass,msg:'m'"
SecRule REQUEST_BODY_LENGTH "@gt 0" "id:38,phase:2,pass,msg:'m'"
SecRule ARGS_NAMES "@rx ^(?:a|body|json)" "id:39,phase:2,pass,msg:'m'"
SecRule ARGS_COMBINED_SIZE "@gt 5" "id:40,phase:2,pass,msg:'m'"
SecRule REQBODY_ERROR "!@eq 0" "id:41,phase:2,pass,msg:'m'"
SecRule REQUEST_HEADERS:Content-Type "@rx ." "id:42,phase:1,pass,msg:'m'"
`

// kindStages are the stages that both engines have for kindRules.
var kindStages = sync.OnceValues(func() ([2]*Stage, error) {
	plain, err := New(inline(kindRules))
	if err != nil {
		return [2]*Stage{}, err
	}
	judged, err := New(fast(inline(kindRules)))
	return [2]*Stage{plain, judged}, err
})

// kindBodies are a body for each parser.
var kindBodies = []string{
	"a=marker&b=2",
	`{"a":"marker","b":[1,true]}`,
	"{\"a\":\"marker\"}\n{\"a\":\"2\"}\n",
	`<?xml version="1.0"?><r a="1"><a>marker</a></r>`,
	"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nmarker\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"marker.txt\"\r\n\r\nx\r\n--b--\r\n",
	"marker, and nothing else",
}

// equally holds that both engines say the same of a request, and returns how the fast
// one came to it.
func equally(tb testing.TB, plain, judged *Stage, request func() *http.Request) Judged {
	tb.Helper()
	got, j := answerOrError(tb, judged, request())
	if got == "clean" {
		got = "nothing"
	}
	want := ""
	for range 20 {
		if want, _ = answerOrError(tb, plain, request()); nothing(want) && got == "nothing" || want == got {
			return j
		}
	}
	hr := request()
	tb.Errorf("%s %s %q\nis %s by %+v\nplain Coraza: %s", hr.Method, hr.RequestURI, hr.Header, got, j, want)
	return j
}

// answerOrError is answerOf for requests about which the engine may be unable to decide.
func answerOrError(tb testing.TB, s *Stage, hr *http.Request) (string, Judged) {
	tb.Helper()
	r := filter.NewRequest(hr, testTime)
	defer r.Release()
	in, err := s.Inspect(r)
	if err != nil {
		return "an error", Judged{Path: PathFailed}
	}
	return lineOf(&in), in.Judged
}

// nothing reports whether an answer of the plain engine is that of a request in which it
// has found nothing.
func nothing(line string) bool {
	return strings.HasPrefix(line, fmt.Sprintf("%v ", filter.Continue)) && strings.HasSuffix(line, "rules []") && strings.Contains(line, " score 0 ")
}

// checkKind holds a content type against both engines.
func checkKind(tb testing.TB, stages [2]*Stage, values ...string) (paths [6]Path) {
	tb.Helper()
	for i, body := range kindBodies {
		j := equally(tb, stages[0], stages[1], func() *http.Request {
			hr := newHTTP("POST", "/?q=1", body)
			hr.Header["Content-Type"] = values
			if len(values) == 0 {
				delete(hr.Header, "Content-Type")
			}
			return hr
		})
		paths[i] = j.Path
	}
	return paths
}

// contentTypes are the media types that the stage tells apart, and ways to write them.
func contentTypes() []string {
	all := slices.Sorted(maps.Keys(kinds))
	for _, t := range DefaultContentTypes() {
		all = append(all, strings.ReplaceAll(t, "*", "vnd.x"))
	}
	for _, t := range slices.Clone(all) {
		all = append(all, strings.ToUpper(t), t+"; charset=utf-8", " "+t+" ;x=1", t+";", t+",text/plain")
	}
	return append(all, "", ";", "/", "text", "text/", "/json", "a/b+json", "a/b+xml", "a/+xml", "multipart/mixed; boundary=b", "multipart/form-data; boundary=b",
		"multipart/form-data; boundary=\"b\"", "Multipart/Related;boundary=b", "multipart", "application/x-www-form-urlencodedx", "application/x-www-form-urlencoded/x",
		"image/svg+xml", "image/png", "font/woff", "audio/x+json", "application/grpc", "application/grpc-web+json", "application/connect+json", "x/grpc+xml",
		"application/json\t", "application/\u017fon", "application/jſon", "\xff/\xfe", "application/json\x00", "text/plain text/xml", "application/soap+xml; action=\"x\"",
		strings.Repeat("a", 3000)+"/json")
}

// TestKindsOfContentTypes holds what both engines take a body for against each other,
// for every content type that is told apart and for many that are not.
func TestKindsOfContentTypes(t *testing.T) {
	stages, err := kindStages()
	if err != nil {
		t.Fatal(err)
	}
	if off := stages[1].ProofOff(); off != "" {
		t.Fatal(off)
	}
	all := contentTypes()
	step := 1
	if raceSlows > 1 {
		step = 11
	}
	engine := 0
	for i := 0; i < len(all); i += step {
		for _, p := range checkKind(t, stages, all[i]) {
			if p == PathEngine {
				engine++
			}
		}
		if t.Failed() {
			t.Fatalf("content type %q", all[i])
		}
	}
	checkKind(t, stages)
	checkKind(t, stages, "application/json", "text/xml")
	checkKind(t, stages, "", "application/json")
	t.Logf("%d content types; %d of %d requests went to the engine", len(all), engine, len(all)*len(kindBodies))
	if engine > len(all)*len(kindBodies)/3 {
		t.Error("most bodies must be judged without the engine")
	}

	r := rand.New(rand.NewPCG(3, 5))
	n := 1500
	if testing.Short() || raceSlows > 1 {
		n = 150
	}
	for range n {
		value := mutateType(r, all)
		checkKind(t, stages, value)
		if t.Failed() {
			t.Fatalf("content type %q", value)
		}
	}
}

// mutateType returns a content type that resembles one of the list.
func mutateType(r *rand.Rand, all []string) string {
	b := []byte(all[r.IntN(len(all))])
	if len(b) > 200 {
		b = b[:200]
	}
	for range 1 + r.IntN(3) {
		at := r.IntN(len(b) + 1)
		switch r.IntN(4) {
		case 0:
			b = slices.Insert(b, at, "/;,+= \t\"*\\-.xJ\xc5\xbf\x00"[r.IntN(16)])
		case 1:
			b = slices.Insert(b, at, []byte(all[r.IntN(len(all)-1)])...)
		case 2:
			b = slices.Delete(b, at, min(len(b), at+1+r.IntN(3)))
		case 3:
			if at < len(b) {
				b[at] ^= 0x20
			}
		}
	}
	return string(b)
}

// FuzzContentType holds a content type against both engines.
func FuzzContentType(f *testing.F) {
	for _, t := range contentTypes() {
		f.Add(t)
	}
	stages, err := kindStages()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if len(value) > 4096 {
			return
		}
		checkKind(t, stages, value)
	})
}

package view_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf"
	"github.com/moatwaf/moat/rules/waf/view"
)

// The golden twin is the engine itself, driven by the payload stage. An action in
// the first rules of each phase that an operator can write takes down what the
// collections hold.

const dumpAction = "viewdump"

func init() {
	plugins.RegisterAction(dumpAction, func() plugintypes.Action { return &dump{} })
}

// dump is the action.
type dump struct{ phase string }

func (d *dump) Init(_ plugintypes.RuleMetadata, phase string) error {
	d.phase = phase
	return nil
}

func (d *dump) Type() plugintypes.ActionType { return plugintypes.ActionTypeNondisruptive }

func (d *dump) Evaluate(_ plugintypes.RuleMetadata, tx plugintypes.TransactionState) {
	v, ok := dumps.Load(tx.ID())
	if !ok {
		return
	}
	seen := v.(*seen)
	phase := &seen.phase1
	if d.phase == "2" {
		phase = &seen.phase2
		body, err := tx.(interface {
			RequestBodyReader() (io.Reader, error)
		}).RequestBodyReader()
		if err == nil {
			seen.body, err = io.ReadAll(body)
		}
		if err != nil {
			panic(err)
		}
	}
	*phase = map[variables.RuleVariable][]string{}
	for c := range 256 {
		c := variables.RuleVariable(c)
		if !view.Knows(c) {
			continue
		}
		all := []string{}
		for _, m := range tx.Collection(c).FindAll() {
			all = append(all, show(m.Key(), m.Value()))
		}
		slices.Sort(all)
		(*phase)[c] = all
	}
}

func show(name, value string) string { return fmt.Sprintf("%q = %q", name, value) }

// dumps holds what was taken down, by the request's id.
var dumps sync.Map

// seen is what the engine had of one request. A phase that it did not reach is nil.
type seen struct {
	phase1, phase2 map[variables.RuleVariable][]string
	body           []byte
	blocked        bool
	unread         bool // the stage has refused the body, not the engine
}

// policy is a set of operator's rules, with the dump behind each phase's first.
type policy struct {
	builder *view.Builder
	stage   *waf.Stage
	chooses bool // its rules choose a body parser
}

// mediaKinds are the kinds of the media types that tests use where the kind does not
// follow from the parser.
var mediaKinds = map[string]view.Kind{
	"text/plain": view.Text, "application/x-www-form-urlencoded": view.Form, "multipart/form-data; boundary=b": view.Multipart,
	"application/json": view.JSON, "application/x-ndjson": view.NDJSON, "text/xml": view.XML,
}

func newPolicy(rules string, o view.Options) *policy {
	stage, err := waf.New(waf.Config{Include: []waf.Include{{Name: "dump", Text: rules + `
SecAction "id:1,phase:1,pass,nolog,` + dumpAction + `:1"
SecAction "id:2,phase:2,pass,nolog,` + dumpAction + `:2"
`}}})
	if err != nil {
		panic(err)
	}
	return &policy{builder: view.New(o), stage: stage}
}

var plainPolicy = sync.OnceValue(func() *policy { return newPolicy("", view.Options{Arguments: 1000, JSONDepth: 1024}) })

// engine runs a request through the engine.
func (p *policy) engine(tb testing.TB, r *filter.Request) *seen {
	tb.Helper()
	s := &seen{}
	dumps.Store(r.ID(), s)
	defer dumps.Delete(r.ID())
	d, err := p.stage.Check(r)
	if err != nil {
		tb.Fatalf("the engine: %v", err)
	}
	s.blocked = d.Verdict == filter.Block
	s.unread = d.Reason == filter.ReasonOversize
	return s
}

// one is the only value of a variable.
func (s *seen) one(c variables.RuleVariable) string {
	var value string
	if _, err := fmt.Sscanf(s.phase1[c][0], `"" = %q`, &value); err != nil {
		return ""
	}
	return value
}

// outcome is what came of the comparison of one request.
type outcome struct{ head, body view.Reason }

// compare holds the View of a request against the engine. The body of the request
// is given apart, since a body can be read once.
func (p *policy) compare(tb testing.TB, hr *http.Request, body []byte) outcome {
	tb.Helper()
	r := filter.NewRequest(hr, time.Unix(1700000000, 0))
	defer r.Release()
	r.Client = r.Peer
	return p.compareRequest(tb, r, body)
}

func (p *policy) compareRequest(tb testing.TB, r *filter.Request, body []byte) outcome {
	tb.Helper()
	hr := r.HTTP
	got := p.engine(tb, r)
	v := view.Get()
	defer v.Release()

	kind := view.None
	if got.phase1 != nil {
		kind = p.kindOf(got.phase1[variables.ReqbodyProcessor][0], hr)
	}
	out := outcome{head: p.builder.Head(v, r, kind)}
	if got.phase1 == nil {
		if got.blocked && out.head == view.Known && v.Single(variables.URIParseError) != "1" {
			tb.Errorf("%s %q: the engine refuses what is known", hr.Method, hr.RequestURI)
		}
		return out
	}
	if out.head != view.Known {
		return out
	}
	if v.Phase() != 1 {
		tb.Errorf("phase %d", v.Phase())
	}
	p.equal(tb, v, got.phase1)
	if tb.Failed() {
		tb.Logf("%s %q %q", hr.Method, hr.RequestURI, hr.Header)
		return out
	}

	if got.phase2 == nil && (body == nil || got.unread) {
		return out
	}
	in, processor := p.bodyOf(got, body, kind, strings.Contains(hr.Header.Get("Content-Type"), "ndjson"))
	out.body = p.builder.Body(v, in, processor)
	if out.body == view.Known && len(in.Data) > 0 || got.phase2 != nil && out.body == view.Known {
		if got.phase2 == nil {
			tb.Errorf("%s %q: the engine refuses a body that is known: %q", hr.Method, hr.Header, body)
		} else {
			p.equal(tb, v, got.phase2)
		}
	}
	if in.Kind == view.Multipart && processor == "MULTIPART" {
		p.compareDelimiters(tb, v, r, in, out.body)
	}
	if in.Kind == view.XML && processor == "XML" && !in.Whole && !in.Cut && len(in.Data) > 0 {
		p.compareWhole(tb, v, r, got, body)
	}
	if tb.Failed() {
		tb.Logf("%s %q: %q", hr.Method, hr.Header, got.body)
	}
	return out
}

// compareDelimiters holds that a body has the same values where its delimiters are
// known. v holds them without.
func (p *policy) compareDelimiters(tb testing.TB, v *view.View, r *filter.Request, in view.Body, want view.Reason) {
	tb.Helper()
	_, all, err := mime.ParseMediaType(r.HTTP.Header.Get("Content-Type"))
	in.Boundary = all["boundary"]
	if err != nil || in.Boundary == "" {
		return
	}
	delimiter := []byte("--" + in.Boundary)
	for at := 0; ; at += len(delimiter) {
		i := bytes.Index(in.Data[at:], delimiter)
		if i < 0 {
			break
		}
		at += i
		if in.Count == view.MaxDelimiters {
			return
		}
		in.Delimiters[in.Count] = at
		in.Count++
	}
	w := view.Get()
	defer w.Release()
	if known := p.builder.Head(w, r, view.Multipart); known != view.Known {
		tb.Fatalf("the head is %v the second time", known)
	}
	if got := p.builder.Body(w, in, "MULTIPART"); got != want {
		tb.Errorf("%v with the delimiters, %v without", got, want)
		return
	}
	if want != view.Known {
		return
	}
	for c := range variables.RuleVariable(128) {
		if !view.Knows(c) || c == variables.UniqueID || c == variables.RequestHeaders { // net/http has the header in a map
			continue
		}
		if view.IsList(c) && !slices.Equal(w.List(c), v.List(c)) || !view.IsList(c) && w.Single(c) != v.Single(c) {
			tb.Errorf("%s: %q with the delimiters, %q without", c.Name(), w.List(c), v.List(c))
		}
	}
}

// compareWhole is the same for an XML document that nobody has prepared.
func (p *policy) compareWhole(tb testing.TB, v *view.View, r *filter.Request, got *seen, body []byte) {
	tb.Helper()
	if p.builder.Head(v, r, view.XML) != view.Known {
		tb.Fatal("the head is not known the second time")
	}
	whole := bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if p.builder.Body(v, view.Body{Kind: view.XML, Data: whole, Whole: true}, "XML") != view.Known {
		return
	}
	if got.phase2 == nil {
		tb.Errorf("the engine refuses a document that is known: %q", body)
		return
	}
	p.equal(tb, v, got.phase2)
}

// kindOf returns the kind of a body after the parser that the engine has for it at
// the end of phase 1, and whether there is one.
func (p *policy) kindOf(parser string, hr *http.Request) view.Kind {
	if hr.Body == nil || hr.Body == http.NoBody || hr.Method == http.MethodConnect {
		return view.None
	}
	if p.chooses {
		return mediaKinds[hr.Header.Get("Content-Type")]
	}
	for kind, name := range map[view.Kind]string{view.Text: "RAW", view.Form: "URLENCODED", view.Multipart: "MULTIPART", view.JSON: "JSON", view.XML: "XML"} {
		if strings.HasSuffix(parser, fmt.Sprintf("%q", name)) {
			return kind
		}
	}
	return view.None
}

// bodyOf returns the body as the stage has handed it over.
func (p *policy) bodyOf(got *seen, body []byte, kind view.Kind, ndjson bool) (view.Body, string) {
	processor := got.one(variables.ReqbodyProcessor)
	in := view.Body{Kind: kind, Data: got.body}
	if got.phase2 == nil {
		// Refused: the client's own bytes are as good as what was made of them.
		in.Data, in.Whole = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), kind == view.XML
		if bytes.Contains(body, []byte(`"query"`)) || ndjson {
			in.Data = nil // they are not: an array is made of them
		}
		return in, processor
	}
	after := got.phase2[variables.ReqbodyProcessor][0]
	if processor == "RAW" && strings.HasSuffix(after, `"JSON"`) {
		in.Kind = view.JSON
	}
	in.Cut = strings.HasSuffix(got.phase2[variables.InboundDataError][0], `"1"`)
	return in, processor
}

// equal compares every variable that is known.
func (p *policy) equal(tb testing.TB, v *view.View, want map[variables.RuleVariable][]string) {
	tb.Helper()
	for c, want := range want {
		got := []string{}
		if view.IsList(c) {
			for _, pair := range v.List(c) {
				got = append(got, show(pair.Name, pair.Value))
			}
			slices.Sort(got)
		} else {
			got = append(got, show("", v.Single(c)))
		}
		if c == variables.ReqbodyProcessor && v.Phase() == 1 && (p.chooses || v.Single(c) == "") {
			continue // a rule before the dump may have chosen one for no body
		}
		if !slices.Equal(got, want) {
			tb.Errorf("phase %d, %s:\n got %s\nwant %s", v.Phase(), c.Name(), strings.Join(got, ", "), strings.Join(want, ", "))
		}
	}
}

// parse makes of the text of a request what net/http's server hands to a handler.
func parse(tb testing.TB, raw string) (hr *http.Request, body []byte) {
	tb.Helper()
	hr, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		tb.Fatalf("%q: %v", raw, err)
	}
	return withBody(hr)
}

// withBody reads the body of a request and puts it back.
func withBody(hr *http.Request) (*http.Request, []byte) {
	hr.RemoteAddr = "198.51.100.7:40000"
	hr = hr.WithContext(context.WithValue(hr.Context(), http.LocalAddrContextKey,
		net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:443"))))
	if hr.Body == nil || hr.Body == http.NoBody {
		return hr, nil
	}
	body, err := io.ReadAll(hr.Body)
	if err != nil {
		hr.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), broken{}))
		return hr, nil
	}
	hr.Body = io.NopCloser(bytes.NewReader(body))
	return hr, body
}

// broken is a body that ends too early.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

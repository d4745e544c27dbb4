package proof

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf/seclang"
	"github.com/moatwaf/moat/rules/waf/view"
)

// ownKeys is an action for tests that gives every value a key of its own, as the
// payload stage does, so that the engine's memory of transformed values is right.
const ownKeys = "prooftestkeys"

func init() {
	plugins.RegisterAction(ownKeys, func() plugintypes.Action { return keys{} })
}

type keys struct{}

func (keys) Init(plugintypes.RuleMetadata, string) error { return nil }
func (keys) Type() plugintypes.ActionType                { return plugintypes.ActionTypeNondisruptive }
func (keys) Evaluate(_ plugintypes.RuleMetadata, tx plugintypes.TransactionState) {
	v := tx.Variables()
	for _, m := range []collection.Map{
		v.ArgsGet(), v.ArgsPost(), v.RequestHeaders(), v.RequestCookies(), v.MultipartPartHeaders(), v.MultipartName(),
		v.MultipartFilename(), v.Files(), v.FilesNames(), v.RequestXML(),
	} {
		all := m.FindAll()
		for _, d := range all {
			m.Remove(d.Key())
		}
		for _, d := range all {
			key := strings.Clone(d.Key())
			if key == "" {
				key = strings.Clone("\x00")[:0]
			}
			m.Add(key, d.Value())
		}
	}
}

// base are the directives before the rules under test.
const base = `SecRuleEngine On
SecRequestBodyAccess On
SecArgumentsLimit 1000
SecRequestBodyJsonDepthLimit 1024
SecAction "id:190000,phase:1,pass,nolog,noauditlog,` + ownKeys + `"
SecAction "id:190001,phase:2,pass,nolog,noauditlog,` + ownKeys + `"
`

// parser has the rules about what the engine cannot read.
const parser = `SecRule REQBODY_ERROR "!@eq 0" "id:200002,phase:2,t:none,log,deny,status:400,msg:'body'"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" "id:200003,phase:2,t:none,log,deny,status:400,msg:'multipart'"
SecRule URI_PARSE_ERROR "@eq 1" "id:200009,phase:1,t:none,log,deny,status:400,msg:'uri'"
`

// coreRuleSet returns the directives of the CRS at a paranoia level.
func coreRuleSet(level int) []seclang.File {
	setup := parser + `SecDefaultAction "phase:1,log,noauditlog,pass"
SecDefaultAction "phase:2,log,noauditlog,pass"
SecAction "id:900990,phase:1,pass,t:none,nolog,setvar:tx.crs_setup_version=4250,setvar:tx.blocking_paranoia_level=` + strconv.Itoa(level) +
		`,setvar:tx.detection_paranoia_level=` + strconv.Itoa(level) + `,setvar:'tx.allowed_methods=GET HEAD POST PUT PATCH DELETE OPTIONS'"
`
	return append([]seclang.File{{Name: "setup", Text: setup}}, crsFiles()...)
}

func crsFiles() []seclang.File {
	var files []seclang.File
	names, err := fs.Glob(coreruleset.FS, "@owasp_crs/*.conf")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(coreruleset.FS, name)
		if err != nil {
			panic(err)
		}
		files = append(files, seclang.File{Name: name, Text: string(data)})
	}
	return files
}

// engine is plain Coraza and the proof for it.
type engine struct {
	waf   coraza.WAF
	proof *Proof
	views *view.Builder
}

func load(tb testing.TB, files []seclang.File) *engine {
	tb.Helper()
	e, err := tryLoad(files)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(e.close)
	return e
}

func (e *engine) close() { _ = e.waf.(io.Closer).Close() }

func tryLoad(files []seclang.File) (*engine, error) {
	files = slices.Concat([]seclang.File{{Name: "base", Text: base}}, files)
	conf := coraza.NewWAFConfig().WithRootFS(coreruleset.FS)
	for _, f := range files {
		if strings.HasPrefix(f.Name, "@") {
			conf = conf.WithDirectivesFromFile(f.Name)
		} else {
			conf = conf.WithDirectives(f.Text)
		}
	}
	waf, err := coraza.NewWAF(conf)
	if err != nil {
		return nil, err
	}
	program, err := seclang.Parse(files)
	if err != nil {
		return nil, err
	}
	p := New(program, waf, Options{
		Actions:    []string{ownKeys},
		Unreported: []int{949110, 949111},
		ReadFile:   func(name string) ([]byte, error) { return fs.ReadFile(coreruleset.FS, name) },
	})
	return &engine{waf, p, view.New(view.Options{Arguments: 1000, JSONDepth: 1024})}, nil
}

// message is a request with its body.
type message struct {
	r    *filter.Request
	body []byte
	kind view.Kind
}

// now is the time of every request.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// parse reads a request as net/http's server does; nil if that refuses it.
func parse(raw string) *message {
	hr, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		return nil
	}
	return fromHTTP(hr)
}

func fromHTTP(hr *http.Request) *message {
	hr.RemoteAddr = "198.51.100.9:40000"
	var body []byte
	if hr.Body != nil {
		body, _ = io.ReadAll(hr.Body)
	}
	m := &message{r: filter.NewRequest(hr, now), body: body}
	m.r.Client = netip.MustParseAddr("198.51.100.9")
	m.r.Peer = m.r.Client
	switch ct := strings.ToLower(hr.Header.Get("Content-Type")); {
	case len(body) == 0:
	case strings.HasPrefix(ct, "application/json"):
		m.kind = view.JSON
	case strings.HasPrefix(ct, "application/x-www-form-urlencoded"):
		m.kind = view.Form
	case strings.HasPrefix(ct, "multipart/form-data"):
		m.kind = view.Multipart
	case strings.HasPrefix(ct, "text/xml"), strings.HasPrefix(ct, "application/xml"):
		m.kind = view.XML
	}
	if m.kind == view.None {
		m.body = nil
	}
	return m
}

var processors = [...]string{view.Form: "URLENCODED", view.Multipart: "MULTIPART", view.JSON: "JSON", view.NDJSON: "JSON", view.XML: "XML"}

// finding is what plain Coraza has to say about a request: the rules that it
// reports or refuses with, empty for none. It is what moat's payload stage makes of
// a transaction.
func (e *engine) finding(tb testing.TB, m *message) string {
	tb.Helper()
	tx := e.waf.NewTransactionWithID(m.r.ID())
	defer func() { _ = tx.Close() }()
	h := m.r.HTTP
	tx.ProcessConnection("198.51.100.9", 40000, "", 0)
	tx.ProcessURI(h.RequestURI, h.Method, h.Proto)
	tx.SetServerName(m.r.Host)
	if h.Host != "" || h.ProtoMajor == 1 && h.ProtoMinor == 1 {
		tx.AddRequestHeader("Host", h.Host)
	}
	for key, values := range h.Header {
		for _, v := range values {
			tx.AddRequestHeader(strings.Clone(key), v)
		}
	}
	if len(h.TransferEncoding) > 0 && len(h.Header["Transfer-Encoding"]) == 0 {
		tx.AddRequestHeader("Transfer-Encoding", strings.Join(h.TransferEncoding, ", "))
	}
	if h.ContentLength > 0 && len(h.Header["Content-Length"]) == 0 {
		tx.AddRequestHeader("Content-Length", strconv.FormatInt(h.ContentLength, 10))
	}
	v := tx.(plugintypes.TransactionState).Variables()
	if name := processors[min(int(m.kind), len(processors)-1)]; name != "" {
		v.RequestBodyProcessor().(interface{ Set(string) }).Set(name)
	}
	if it := tx.ProcessRequestHeaders(); it == nil && !tx.IsRuleEngineOff() {
		if tx.IsRequestBodyAccessible() && len(m.body) > 0 {
			if _, _, err := tx.WriteRequestBody(m.body); err != nil {
				tb.Fatal(err)
			}
		}
		if _, err := tx.ProcessRequestBody(); err != nil {
			tb.Fatal(err)
		}
	}
	return report(tx)
}

func report(tx types.Transaction) string {
	var b strings.Builder
	if it := tx.Interruption(); it != nil {
		fmt.Fprintf(&b, "%s by %d;", it.Action, it.RuleID)
	}
	for _, m := range tx.MatchedRules() {
		if id := m.Rule().ID(); m.Message() == "" || id == 949110 || id == 949111 {
			continue
		}
		if l, ok := m.(interface{ Log() bool }); ok && !l.Log() {
			continue
		}
		fmt.Fprintf(&b, " %d", m.Rule().ID())
	}
	return b.String()
}

// prove asks the proof. known is false if there is no View of the request.
func (e *engine) prove(m *message) (res Result, known bool) {
	v := view.Get()
	defer v.Release()
	if e.views.Head(v, m.r, m.kind) != view.Known {
		return Result{}, false
	}
	r := e.proof.Begin()
	defer r.End()
	if res = r.Headers(v); !res.Clean {
		return res, true
	}
	in := view.Body{Kind: m.kind, Data: m.body}
	processor := res.Effects.Processor
	if processor == "" {
		processor = v.Single(processorVariable)
	}
	if res.Effects.NoBody || len(m.body) == 0 {
		in.Data = nil
	} else if processor == "" && res.Effects.ForceBodyVariable {
		processor = "URLENCODED"
	}
	if e.views.Body(v, in, processor) != view.Known {
		return Result{}, false
	}
	return r.Body(v), true
}

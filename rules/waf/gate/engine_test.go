package gate

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"

	"github.com/moatwaf/moat/rules/waf/seclang"
)

// ownKeys is an action for tests that gives every value a key of its own, as the
// payload stage does, so that the engine's memory of transformed values is right.
const ownKeys = "gatetestkeys"

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

// Numbers of the gate's rules in tests.
const gate1, gate2 = 190002, 190003

// parser chooses the body parser as the payload stage does.
const parser = `SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQBODY_ERROR "!@eq 0" "id:200002,phase:2,t:none,log,deny,status:400,msg:'body'"
`

// coreRuleSet returns the directives of the CRS at a paranoia level.
func coreRuleSet(level int) []seclang.File {
	setup := parser + `SecDefaultAction "phase:1,log,auditlog,pass"
SecDefaultAction "phase:2,log,auditlog,pass"
SecAction "id:900990,phase:1,pass,t:none,nolog,setvar:tx.crs_setup_version=4250,setvar:tx.blocking_paranoia_level=` + strconv.Itoa(level) +
		`,setvar:tx.detection_paranoia_level=` + strconv.Itoa(level) + `,setvar:tx.crs_validate_utf8_encoding=1,setvar:tx.arg_name_length=100,` +
		`setvar:tx.arg_length=400,setvar:tx.total_arg_length=64000,setvar:tx.max_num_args=255,setvar:tx.max_file_size=64100,setvar:tx.combined_file_sizes=65535"
`
	files := []seclang.File{{Name: "setup", Text: setup}}
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

// load compiles files without and with a gate.
func load(tb testing.TB, files []seclang.File) (plain, gated coraza.WAF, g *Gate) {
	tb.Helper()
	compile := func(files []seclang.File) coraza.WAF {
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
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = waf.(io.Closer).Close() })
		return waf
	}
	plain = compile(slices.Concat([]seclang.File{{Name: "base", Text: base}}, files))

	slot := NewSlot()
	defer slot.Loaded()
	files = slices.Concat([]seclang.File{{Name: "base", Text: base}, {Name: "gate", Text: slot.Directives(gate1, gate2)}}, files)
	gated = compile(files)
	program, err := seclang.Parse(files)
	if err != nil {
		tb.Fatal(err)
	}
	g = New(program, gated, Options{
		Actions:  []string{ownKeys},
		ReadFile: func(name string) ([]byte, error) { return fs.ReadFile(coreruleset.FS, name) },
	})
	slot.Set(g)
	return plain, gated, g
}

// request is what a transaction is fed with.
type request struct {
	method, uri, proto string
	header             [][2]string
	body               string
}

// fromHTTP reads a request whole.
func fromHTTP(hr *http.Request) *request {
	r := &request{method: hr.Method, uri: hr.RequestURI, proto: hr.Proto}
	r.header = append(r.header, [2]string{"Host", hr.Host})
	for name, values := range hr.Header {
		for _, v := range values {
			r.header = append(r.header, [2]string{name, v})
		}
	}
	slices.SortFunc(r.header, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	if hr.ContentLength > 0 {
		r.header = append(r.header, [2]string{"Content-Length", strconv.FormatInt(hr.ContentLength, 10)})
	}
	if hr.Body != nil {
		data, _ := io.ReadAll(hr.Body) // what could be read is the body
		r.body = string(data)
	}
	return r
}

// evaluate runs both request phases.
func (r *request) evaluate(tb testing.TB, waf coraza.WAF) types.Transaction {
	tx := waf.NewTransactionWithID("id")
	tx.ProcessConnection("198.51.100.9", 40000, "192.0.2.1", 80)
	tx.ProcessURI(r.uri, r.method, r.proto)
	tx.SetServerName("localhost")
	for _, h := range r.header {
		tx.AddRequestHeader(strings.Clone(h[0]), h[1])
	}
	if it := tx.ProcessRequestHeaders(); it != nil {
		return tx
	}
	if r.body != "" {
		if it, _, err := tx.WriteRequestBody([]byte(r.body)); err != nil || it != nil {
			return tx
		}
	}
	if _, err := tx.ProcessRequestBody(); err != nil {
		tb.Fatal(err)
	}
	return tx
}

// wavers reports whether the engine's own parser gives the rules other values from
// one time to the next. Their details cannot be compared then, only the verdict.
func (r *request) wavers() bool {
	seen := map[string]string{}
	for pair := range strings.SplitSeq(r.body, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if n, err := url.QueryUnescape(name); err == nil {
			name = n
		}
		if other, ok := seen[strings.ToLower(name)]; ok && other != name {
			return true
		}
		seen[strings.ToLower(name)] = name
	}
	return false
}

// signature is everything that the rules have found and left, or, for a request
// that wavers, the interruption, the rules in order and the scores. The order of
// values within one rule is random in the engine, and so are captures.
func (r *request) signature(tb testing.TB, waf coraza.WAF) string {
	short := r.wavers()
	tx := r.evaluate(tb, waf)
	defer func() { _ = tx.Close() }()
	var b strings.Builder
	if it := tx.Interruption(); it != nil {
		fmt.Fprintf(&b, "%s %d by %d\n", it.Action, it.Status, it.RuleID)
	}
	for _, m := range tx.MatchedRules() {
		if id := m.Rule().ID(); id == gate1 || id == gate2 {
			continue
		}
		fmt.Fprintf(&b, "%d", m.Rule().ID())
		var data []string
		for _, d := range m.MatchedDatas() {
			if short {
				break
			}
			data = append(data, fmt.Sprintf(" %s:%s=%.60q", d.Variable().Name(), d.Key(), d.Value()))
		}
		slices.Sort(data)
		b.WriteString(strings.Join(slices.Compact(data), ""))
		b.WriteByte('\n')
	}
	var vars []string
	for _, d := range tx.(plugintypes.TransactionState).Variables().TX().FindAll() {
		if _, err := strconv.Atoi(d.Key()); err != nil && (!short || strings.Contains(d.Key(), "score")) {
			vars = append(vars, fmt.Sprintf("%s=%q ", d.Key(), d.Value()))
		}
	}
	slices.Sort(vars)
	return b.String() + strings.Join(vars, "")
}

// The order of values in the engine's collections is random, and so are an index
// that a rule counts and the name of the value that matched last. Plain Coraza then
// has several answers to one request.
const (
	// gatedTries is how many answers of the gated engine are held against plain's.
	gatedTries = 30
	// plainTries is how many answers plain Coraza may give until it has given each
	// that the gated engine has.
	plainTries = 3000
)

// compare fails if the gate changes what the rules find: if the gated engine gives
// an answer, whole, that plain Coraza never gives.
func (r *request) compare(tb testing.TB, plain, gated coraza.WAF) bool {
	tb.Helper()
	want, got := r.signature(tb, plain), r.signature(tb, gated)
	if want == got {
		return true
	}
	unseen := map[string]bool{got: true}
	for range gatedTries {
		unseen[r.signature(tb, gated)] = true
	}
	delete(unseen, want)
	for n := 0; n < plainTries && len(unseen) > 0; n++ {
		delete(unseen, r.signature(tb, plain))
	}
	for g := range unseen {
		tb.Errorf("%s %s %s\n%q\nbody %.300q\nplain:\n%s\ngated:\n%s", r.method, r.uri, r.proto, r.header, r.body, want, g)
		return false
	}
	return true
}

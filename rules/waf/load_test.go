package waf

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules"
)

var update = flag.Bool("update", false, "write the .want files anew")

// TestBad loads each file of testdata/bad, whose name is its fault, and compares
// the faults with those in the file beside it.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".conf"), func(t *testing.T) {
			s, err := New(Config{Include: []Include{{Name: file, Pos: rules.Position{File: "moat.yaml", Line: 7, Column: 3}}, {Name: CRS}}})
			if err == nil {
				_ = s.Close()
				t.Fatal("the file loads")
			}
			var errs rules.Errors
			if !errors.As(err, &errs) {
				t.Fatalf("%T, want rules.Errors", err)
			}
			got := strings.ReplaceAll(errs.Error(), "testdata/bad/", "") + "\n"
			want := strings.TrimSuffix(file, ".conf") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			data, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(data) {
				t.Errorf("got\n%swant\n%s", got, data)
			}
		})
	}
}

func TestBadConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Config
		want string
	}{
		{"paranoia", Config{Paranoia: 5}, "waf.paranoia"},
		{"threshold", Config{Threshold: -1}, "waf.threshold"},
		{"body limit", Config{BodyLimit: 1 << 40}, "waf.body_limit"},
		{"oversize", Config{Oversize: 9}, "waf.oversize"},
		{"method", Config{Methods: []string{"GET HEAD"}}, "waf.methods"},
		{"a method that leaves its quotes", Config{Methods: []string{"GET'"}}, "waf.methods"},
		{"media type", Config{ContentTypes: []string{"json"}}, "waf.content_types"},
		{"media type with parameter", Config{ContentTypes: []string{"text/plain; charset=utf-8"}}, "waf.content_types"},
		{"the CRS twice", Config{Include: []Include{{Name: CRS}, {Name: CRS}}}, "twice"},
		{"a missing file", Config{Include: []Include{{Name: "no/such.conf"}}}, "no/such.conf: no such file"},
		{"a directory", Config{Include: []Include{{Name: "testdata"}}}, "is a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(tt.c)
			if err == nil {
				_ = s.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want it to contain %q", err, tt.want)
			}
		})
	}
}

func TestGood(t *testing.T) {
	s := mustNew(t, Config{Include: []Include{
		{Name: "testdata/good/*-RULES-*.conf"}, {Name: CRS}, {Name: "testdata/good/exclusions.conf"},
	}})
	for _, tt := range []struct {
		name    string
		target  string
		rule    string // empty for a request that passes
		status  int
		body    string
		media   string
		headers []string
	}{
		{name: "a data file", target: "/?note=So+EVIL", rule: "1", status: 422},
		{name: "a chain, both links", target: "/", body: "mode=OFF", rule: "2", status: 403},
		{name: "a chain, one link", target: "/?mode=off"},
		{name: "a data set", target: "/?colour=dark+green", rule: "3", status: 403},
		{name: "a redirect becomes 403", target: "/?go=away", rule: "7", status: 403},
		{name: "a drop becomes 403", target: "/?go=down", rule: "8", status: 403},
		{name: "a nested file", target: "/?nested=deep", rule: "9", status: 403},
		{name: "a target taken out before the CRS", target: "/sql?q=1%27+UNION+SELECT+password+FROM+users--"},
		{name: "the same elsewhere", target: "/?q=1%27+UNION+SELECT+password+FROM+users--", rule: "949110", status: 403},
		{name: "a target taken out after the CRS", target: "/?statement=1%27+UNION+SELECT+password+FROM+users--"},
		{name: "rules removed after the CRS", target: "/?q=%3Cscript%3E"},
		{name: "the body switched off", target: "/raw", body: "mode=off&note=evil"},
		{name: "the engine switched off", target: "/off?q=1%27+UNION+SELECT+password+FROM+users--"},
		{name: "another parser", target: "/hook", body: `{"note":"evil"}`, rule: "1", status: 422},
		{name: "another parser for what nobody reads", target: "/hook", body: `{"note":"evil"}`, media: "application/octet-stream", rule: "1", status: 422},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newHTTP("GET", tt.target, "")
			if tt.body != "" {
				if tt.media == "" {
					tt.media = "application/x-www-form-urlencoded"
				}
				r = newHTTP("POST", tt.target, tt.body, "Content-Type: "+tt.media)
			}
			d := check(t, s, r)
			if d.Rule != tt.rule || d.StatusCode() != tt.status {
				t.Errorf("rule %q, status %d, %v, want rule %q, status %d", d.Rule, d.StatusCode(), d.Payload, tt.rule, tt.status)
			}
		})
	}
	want := []string{"REQUEST-900-EXCLUSION-RULES-BEFORE-CRS.conf", "RESPONSE-999-EXCLUSION-RULES-AFTER-CRS.conf",
		"exclusions.conf", "nested.conf", "words.data"}
	var got []string
	for _, f := range s.Files() {
		got = append(got, filepath.Base(f))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("Files() = %v, want %v", got, want)
	}
}

func TestSetupFile(t *testing.T) {
	// Wherever it stands in the list.
	s := mustNew(t, Config{Include: []Include{{Name: CRS}, {Name: "testdata/good/crs-setup.conf"}}})
	attack := "/?q=1%27+UNION+SELECT+password+FROM+users--"
	if d := check(t, s, newHTTP("GET", attack, "")); d.Verdict != filter.Continue {
		t.Errorf("a score under the file's threshold is refused: %v", d.Payload)
	}
	if d := check(t, readyStage(t), newHTTP("GET", attack, "")); d.Verdict != filter.Block {
		t.Error("the same is not refused without the file")
	}
}

// TestParanoiaAndThreshold holds that both reach the rules.
func TestParanoiaAndThreshold(t *testing.T) {
	level2 := mustNew(t, Config{Paranoia: 2})
	high := mustNew(t, Config{Threshold: 1000})
	low := mustNew(t, Config{Threshold: 2})

	odd := newHTTP("GET", "/?a=%2541x", "") // rule 920230, level 2
	if d := check(t, readyStage(t), odd); d.Verdict != filter.Continue {
		t.Errorf("level 1: %v", d.Payload)
	}
	numeric := func() filter.Decision { // rule 920350: a warning
		r := newHTTP("GET", "/", "")
		r.Host = "192.0.2.1"
		return check(t, low, r)
	}
	if d := numeric(); d.Verdict != filter.Block || d.Payload.Score != 3 || d.Payload.Threshold != 2 {
		t.Errorf("threshold 2: %v %v", d.Verdict, d.Payload)
	}
	attack := "/?q=1%27+UNION+SELECT+password+FROM+users--"
	if d := check(t, high, newHTTP("GET", attack, "")); d.Verdict != filter.Continue {
		t.Errorf("threshold 1000: %v", d.Payload)
	}
	if d := check(t, level2, newHTTP("GET", attack, "")); d.Payload == nil || d.Payload.Score <= check(t, readyStage(t), newHTTP("GET", attack, "")).Payload.Score {
		t.Errorf("level 2 finds no more than level 1: %v", d.Payload)
	}
}

// TestEdits holds that no part of an old rule file survives its edit while another
// policy still uses it: the engine remembers by path and by name.
func TestEdits(t *testing.T) {
	files := func(word string) Config {
		return Config{
			FS: fstest.MapFS{
				"etc/rules.conf": {Data: []byte("SecRule ARGS \"@pmFromFile words.data\" \"id:1,phase:2,deny,msg:'m'\"\n" +
					"SecDataset set `\n" + word + "set\n`\nSecRule ARGS \"@pmFromDataset set\" \"id:2,phase:2,deny,msg:'m'\"\n")},
				"etc/words.data": {Data: []byte(word + "file\n")},
			},
			Include: []Include{{Name: "/etc/rules.conf"}},
		}
	}
	before := mustNew(t, files("old"))
	after := mustNew(t, files("new"))
	for _, tt := range []struct {
		s    *Stage
		word string
		rule string
	}{
		{before, "oldfile", "1"}, {before, "oldset", "2"}, {before, "newfile", ""}, {before, "newset", ""},
		{after, "newfile", "1"}, {after, "newset", "2"}, {after, "oldfile", ""}, {after, "oldset", ""},
	} {
		if d := check(t, tt.s, newHTTP("GET", "/?q="+tt.word, "")); d.Rule != tt.rule {
			t.Errorf("%s: rule %q, want %q", tt.word, d.Rule, tt.rule)
		}
	}
}

// TestShared holds that stages of the same content share one engine until the
// last is closed.
func TestShared(t *testing.T) {
	c := inline("SecRule ARGS \"@streq shared\" \"id:77,phase:2,deny,msg:'m'\"\n")
	a, b := mustNew(t, c), mustNew(t, c)
	if a.loaded != b.loaded {
		t.Error("two stages of one content have two engines")
	}
	c.BodyLimit = 4096
	if other := mustNew(t, c); other.loaded == a.loaded {
		t.Error("stages of different limits share an engine")
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if d := check(t, b, newHTTP("GET", "/?q=shared", "")); d.Rule != "77" {
		t.Error("closing one stage, twice, breaks the other")
	}
	_ = b.Close()
	engines.mu.Lock()
	_, there := engines.m[a.loaded.key]
	engines.mu.Unlock()
	if there {
		t.Error("the engine outlives its last stage")
	}
}

// TestMatchedVar holds that a rule judges what it matched itself.
func TestMatchedVar(t *testing.T) {
	s := mustNew(t, inline(`
SecRule ARGS:a "@rx ." "id:1,phase:2,t:none,pass,nolog,chain"
    SecRule MATCHED_VAR "@streq nothing" "t:none,t:lowercase"
SecRule ARGS:b "@rx ." "id:2,phase:2,t:none,deny,msg:'m',chain"
    SecRule MATCHED_VAR "@streq second" "t:none,t:lowercase"
`))
	if d := check(t, s, newHTTP("GET", "/?a=FIRST&b=SECOND", "")); d.Rule != "2" {
		t.Errorf("rule %q, want 2", d.Rule)
	}
}

// TestText loads directives that are no file: the faults carry their name, and
// stages with the same words share one engine.
func TestText(t *testing.T) {
	with := func(text string) (*Stage, error) {
		s, err := New(Config{Include: []Include{{Name: "exclude", Text: text}, {Name: CRS}}})
		if s != nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	}
	a, err := with("SecRuleRemoveById 942100\n")
	if err != nil {
		t.Fatal(err)
	}
	b, err := with("SecRuleRemoveById 942100\n")
	if err != nil {
		t.Fatal(err)
	}
	if a.loaded != b.loaded {
		t.Error("the same words make two engines")
	}
	if c, err := with("SecRuleRemoveById 942130\n"); err != nil || c.loaded == a.loaded {
		t.Errorf("other words make the same engine, or none: %v", err)
	}
	if files := a.Files(); len(files) != 0 {
		t.Errorf("files %q, and nothing was read", files)
	}
	if _, err := with("SecRuleRemoveById 942100\nSecRuleRemoveById 942999\n"); err == nil || !strings.HasPrefix(err.Error(), "exclude:2") {
		t.Errorf("fault %v, want one at exclude:2", err)
	}
}

package rules

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the .want files of testdata anew")

// document is a small policy that has every kind of field.
type document struct {
	common

	Lists map[string]Located[source] `yaml:"lists" doc:"Lists of addresses."`
	Rules []Located[rule]            `yaml:"rules" doc:"The first that matches decides."`
	Waf   *waf                       `yaml:"waf"`
	Extra *Node                      `yaml:"extra"`

	Later func() `yaml:"-"`
}

type common struct {
	Version Located[int] `yaml:"version,required" min:"1" max:"1" doc:"Version of the language."`
	Realm   string       `yaml:"realm" doc:"Name of what is protected."`
}

type rule struct {
	ID     string            `yaml:"id,required"`
	Match  *match            `yaml:"match"`
	Action string            `yaml:"action,required" enum:"allow|block"`
	Mode   Located[string]   `yaml:"mode" enum:"enforce|detect"`
	Status uint16            `yaml:"status" min:"400" max:"599"`
	Tags   map[string]string `yaml:"tags"`
}

type match struct {
	Country []Located[string] `yaml:"country,single"`
	Method  []string          `yaml:"method,single" enum:"GET|POST|PUT"`
	ASN     []uint32          `yaml:"asn,single"`
	Not     *match            `yaml:"not"`
}

type waf struct {
	Mode     string        `yaml:"mode" enum:"block|detect|off"`
	Paranoia int8          `yaml:"paranoia" min:"1" max:"4"`
	Limit    Size          `yaml:"limit" min:"1KiB"`
	Every    time.Duration `yaml:"every" min:"1m"`
	Share    float64       `yaml:"share" min:"0" max:"1"`
	On       bool          `yaml:"on"`
	Token    string        `yaml:"token,secret"`
	Pin      int           `yaml:"pin,secret"`
	Big      uint64        `yaml:"big"`
}

// source is a value of three forms: a name, a list, or a mapping.
type source struct {
	name   string
	inline []Located[string]
	file   struct {
		File Located[string] `yaml:"file,required"`
	}
}

func (s *source) UnmarshalRules(n *Node) Errors {
	switch {
	case n.Kind() == Mapping:
		return n.Decode(&s.file)
	case n.Kind() == List:
		return n.Decode(&s.inline)
	case n.IsString():
		return n.Decode(&s.name)
	}
	return n.Expected("a list, the name of a list or {file: ...}", "")
}

func (source) JSONSchema() map[string]any {
	return map[string]any{"anyOf": []any{
		map[string]any{"type": "string"},
		TypeSchema[[]Located[string]](),
		TypeSchema[struct {
			File Located[string] `yaml:"file,required"`
		}](),
	}}
}

func decodeFile(t *testing.T, path string) (document, Errors) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d document
	errs := Decode(filepath.Base(path), data, &d)
	return d, errs
}

func yamlFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata/%s: %v", dir, err)
	}
	return files
}

func TestGood(t *testing.T) {
	for _, path := range yamlFiles(t, "good") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if _, errs := decodeFile(t, path); errs != nil {
				t.Errorf("refused:\n%v", errs)
			}
		})
	}
}

// TestBad holds the faults of each file against the .want file beside it, which
// go test -update writes.
func TestBad(t *testing.T) {
	for _, path := range yamlFiles(t, "bad") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			_, errs := decodeFile(t, path)
			if errs.Err() == nil {
				t.Fatal("not refused")
			}
			got := errs.Error() + "\n"
			wantFile := strings.TrimSuffix(path, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(wantFile, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wantFile)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

func TestDecodeFills(t *testing.T) {
	d, errs := decodeFile(t, "testdata/good/everything.yaml")
	if errs != nil {
		t.Fatal(errs)
	}
	at := func(line, col int) Position { return Position{"everything.yaml", line, col} }
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"version", d.Version, Located[int]{1, at(1, 10), "version"}},
		{"realm", d.Realm, "NO"},
		{"name form", d.Lists["office"].Value.name, "home"},
		{"list form", d.Lists["home"].Value.inline, []Located[string]{
			{"192.0.2.0/24", at(4, 10), "lists.home[0]"}, {"2001:db8::/32", at(4, 24), "lists.home[1]"}}},
		{"mapping form", d.Lists["my feed"].Value.file.File, Located[string]{"feed.txt", at(5, 20), `lists["my feed"].file`}},
		{"list place", d.Lists["my feed"].Pos, at(5, 13)},
		{"rule place", d.Rules[1].Pos, at(12, 5)},
		{"rule path", d.Rules[1].Path, "rules[1]"},
		{"single", d.Rules[0].Value.Match.Country, []Located[string]{{"NO", at(8, 22), "rules[0].match.country"}}},
		{"list", d.Rules[1].Value.Match.Method, []string{"GET", "POST"}},
		{"recursion", d.Rules[1].Value.Match.Not.ASN, []uint32{64496, 4294967295}},
		{"left out pointer", d.Rules[1].Value.Match.Not.Not, (*match)(nil)},
		{"left out located", d.Rules[0].Value.Mode.Set(), false},
		{"written located", d.Rules[1].Value.Mode.Set(), true},
		{"map", d.Rules[1].Value.Tags, map[string]string{"since": "2024-01-31", "on": "yes", "time": "12:30"}},
		{"alias", d.Rules[2].Value.Match.Country[0], Located[string]{"NO", at(20, 49), "rules[2].match.country"}},
		{"waf", *d.Waf, waf{Mode: "off", Paranoia: 4, Limit: 1 << 20, Every: 36 * time.Hour, Share: 0.5, On: true,
			Token: "x", Pin: 12, Big: 18446744073709551615}},
		{"node", d.Extra.Get("b").Items()[1].String(), "2"},
		{"node path", d.Extra.Get("b").Items()[1].Path(), "extra.b[1]"},
		{"node place", d.Extra.Get("b").Items()[1].Pos(), at(32, 9)},
		{"no such key", d.Extra.Get("c"), (*Node)(nil)},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.what, c.got, c.want)
		}
	}
}

func TestDefaultsStay(t *testing.T) {
	d := document{common: common{Realm: "default"}, Waf: &waf{}}
	if errs := Decode("p", []byte("version: 1\n"), &d); errs != nil {
		t.Fatal(errs)
	}
	if d.Realm != "default" || d.Waf == nil {
		t.Errorf("a key that was not written changed its field: %+v", d)
	}
}

// TestText has the faults that would not survive in a file under version control.
func TestText(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)
	bomb := "version: 1\nextra:\n  - &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("  - &a%d [%s*a%d]\n", i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "p:1:1: the document is empty"},
		{"comment only", "# nothing\n", "p:1:1: the document is empty"},
		{"dashes only", "---\n", "p:1:1: the document is empty"},
		{"not UTF-8", "version: 1\nrealm: \xff\n", "p:2:8: byte 0xff is not UTF-8 (save the file as UTF-8)"},
		{"UTF-16", "\xff\xfev\x00", "p:1:1: byte 0xff is not UTF-8 (save the file as UTF-8)"},
		{"NUL", "version: 1\x00\n", "p:1:11: a NUL byte (save the file as UTF-8 text)"},
		{"control character", "realm: a\x07b\n", "p:1:9: the control character U+0007 (remove it, or write it as an escape in double quotes)"},
		{"carriage return", "version: 1\rrealm: a\n", "p:1:11: a carriage return that ends no line (end lines with a line feed)"},
		{"line separator", "realm: é\u2028a\n", "p:1:9: the line separator U+2028 (end lines with a line feed)"},
		{"too large", "#" + strings.Repeat("x", MaxDocument), "p:1:1: the document has 4194305 bytes, more than the 4194304 that are read (put long lists into files of their own)"},
		{"too deep", "version: 1\nextra: " + deep + "\n", "p:2:71: extra" + strings.Repeat("[0]", MaxDepth-1) + ": lists and mappings lie more than 64 deep in each other"},
		{"alias bomb", bomb, "more than 262144 values"},
		{"alias of itself", "version: 1\nextra: &a [*a]\n", "p:2:12: extra[0]: the alias *a stands inside its own anchor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d document
			errs := Decode("p", []byte(c.text), &d)
			if len(errs) != 1 || !strings.Contains(errs.Error(), c.want) {
				t.Errorf("got:\n%v\nwant:\n%s", errs, c.want)
			}
		})
	}
}

func TestByteOrderMarkAndCRLF(t *testing.T) {
	var d document
	if errs := Decode("p", []byte("\ufeffversion: 1\r\nrealm: a\r\n"), &d); errs != nil {
		t.Fatal(errs)
	}
	if d.Version.Pos != (Position{"p", 1, 10}) || d.Realm != "a" {
		t.Errorf("got %+v, realm %q", d.Version.Pos, d.Realm)
	}
}

func TestManyFaultsAreCounted(t *testing.T) {
	text := "version: 1\n" + strings.Repeat("rules: []\n", 201)
	errs := Decode("p", []byte(text), new(document))
	if len(errs) != MaxFaults+1 {
		t.Fatalf("%d faults, want %d and the count", len(errs), MaxFaults)
	}
	if got, want := errs[MaxFaults].Error(), "p:102:1: 100 more faults behind this place"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestNoSecrets asserts that no message repeats the value of a secret field.
func TestNoSecrets(t *testing.T) {
	for _, text := range []string{
		"waf: {token: 424242}", "waf: {token: true}", "waf: {token: [hunter2]}",
		"waf: {token: {a: hunter2}}", "waf: {pin: hunter2}", "waf: {pin: 99999999999999424242}",
		"waf: {pin: \"424242\"}", "waf: {pin: 0x424242}",
	} {
		errs := Decode("p", []byte("version: 1\n"+text), new(document))
		if len(errs) != 1 {
			t.Errorf("%s: want one fault, got %v", text, errs)
		}
		if s := errs.Error(); strings.Contains(s, "hunter2") || strings.Contains(s, "4242") {
			t.Errorf("%s: the message tells the value: %s", text, s)
		}
	}
}

func TestProgramFaultsPanic(t *testing.T) {
	for name, into := range map[string]any{
		"no pointer":  document{},
		"nil pointer": (*document)(nil),
		"no struct":   new(int),
		"no tag":      new(struct{ A int }),
		"unknown option": new(struct {
			A int `yaml:"a,omitempty"`
		}),
		"same key": new(struct {
			A int `yaml:"a"`
			B int `yaml:"a"`
		}),
		"type": new(struct {
			A any `yaml:"a"`
		}),
		"map key": new(struct {
			A map[int]int `yaml:"a"`
		}),
		"bound": new(struct {
			A int `yaml:"a" min:"x"`
		}),
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			text := "a: 1"
			if name == "map key" {
				text = "a: {b: 1}"
			}
			_ = Decode("p", []byte(text), into)
		})
	}
}

func TestErrorsUnwrap(t *testing.T) {
	err := Decode("p", []byte("version: 2"), new(document)).Err()
	var one *Error
	if !errors.As(err, &one) || one.Path != "version" {
		t.Errorf("got %v", err)
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"block", "allow", "country", "path"}
	for _, c := range []struct{ name, want string }{
		{"blok", `did you mean "block"?`},
		{"contry", `did you mean "country"?`},
		{"Country", `did you mean "country"?`},
		{"ocuntry", `did you mean "country"?`},
		{"x", "known: allow, block, country, path"},
		{"something", "known: allow, block, country, path"},
		{"", "known: allow, block, country, path"},
	} {
		if got := Suggest(c.name, known); got != c.want {
			t.Errorf("Suggest(%q) = %q, want %q", c.name, got, c.want)
		}
	}
	if got := Suggest("x", nil); got != "" {
		t.Errorf("Suggest without names = %q", got)
	}
	if !slices.IsSortedFunc(known, func(a, b string) int { return 0 }) || known[0] != "block" {
		t.Error("Suggest changed its argument")
	}
}

func FuzzDecode(f *testing.F) {
	for _, dir := range []string{"good", "bad"} {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range files {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte("a: &a [*a]\nb: *a\n? [x]\n: y\n<<: {}\n"))
	f.Add([]byte("\ufeff%YAML 1.1\n---\n!!binary x\n...\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 {
			return // the search for the place of a syntax error reads the text many times
		}
		lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
		for _, err := range Decode("p", data, new(document)) {
			pos := err.Pos
			if pos.File != "p" || pos.Line < 1 || pos.Line > len(lines) || pos.Column < 1 ||
				pos.Column > utf8.RuneCountInString(lines[pos.Line-1])+1 {
				t.Errorf("a place outside of the text: %v", err)
			}
			if err.Msg == "" || !utf8.ValidString(err.Error()) || strings.Contains(err.Error(), "\n") {
				t.Errorf("no message of one line: %q", err.Error())
			}
		}
	})
}

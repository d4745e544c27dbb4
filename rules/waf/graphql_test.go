package waf

import (
	"slices"
	"strings"
	"testing"
)

func TestGraphQLValues(t *testing.T) {
	for _, tt := range []struct {
		name, doc string
		values    []string // nil for what is no document
	}{
		{"shorthand", `{ a }`, []string{}},
		{"named", `query Q { a }`, []string{}},
		{"variables", `query Q($a: [Int!]! = [1, 2] @d, $b: S = {x: "y"}) @d(a: $b) { a(b: $a) }`, []string{"y"}},
		{"mutation and subscription", `mutation { a } subscription S { b }`, []string{}},
		{"fragments", `{ ...F ... on T { a } ... @include(if: true) { b } } fragment F on T @d { c }`, []string{}},
		{"alias", `{ x: a(b: -1.5e3, c: null, d: [], e: {}, f: ENUM) { c } }`, []string{}},
		{"strings", `{ a(b: "x \"y\" \\ \u0041\u{42} \ud83d\ude00", c: "") }`, []string{`x "y" \ AB 😀`, ""}},
		{"block string", `{ a(b: """one \""" two""") }`, []string{`one """ two`}},
		{"comments", "# first\n{ a # second\n} #third", []string{" first", " second", "third"}},
		{"byte order mark and commas", "\ufeff,,{ a, b,, }", []string{}},

		{"nothing", ``, nil},
		{"comment only", `# x`, nil},
		{"empty selection", `{ }`, nil},
		{"open selection", `{ a`, nil},
		{"text behind it", `{ a } union select`, nil},
		{"text before it", `1 { a }`, nil},
		{"call", `{ a(select password) }`, nil},
		{"quote", `{ a' }`, nil},
		{"open string", `{ a(b: "x) }`, nil},
		{"line break in a string", "{ a(b: \"x\n\") }", nil},
		{"unknown escape", `{ a(b: "\x41") }`, nil},
		{"half a surrogate pair", `{ a(b: "\ud83d") }`, nil},
		{"bad code point", `{ a(b: "\u{110000}") }`, nil},
		{"open block string", `{ a(b: """x"") }`, nil},
		{"number and name", `{ a(b: 1x) }`, nil},
		{"leading zero", `{ a(b: 01) }`, nil},
		{"schema", `type T { a: Int }`, nil},
		{"pipe", `{ a | b }`, nil},
		{"template", `{{7*7}}`, nil},
		{"substitution", `${jndi:ldap://x}`, nil},
		{"markup", `{ a } <script>`, nil},
		{"NUL", "{ a }\x00", nil},
		{"too deep", strings.Repeat("{a", 300) + strings.Repeat("}", 300), nil},
		{"a list too deep", "{a(b:" + strings.Repeat("[", 100_000), nil},
		{"a type too deep", "query(" + "$a:" + strings.Repeat("[", 100_000), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := graphQLValues(tt.doc)
			if ok != (tt.values != nil) || ok && !slices.Equal(got, tt.values) {
				t.Errorf("%q, %v, want %q", got, ok, tt.values)
			}
		})
	}
}

func TestShowGraphQL(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{"a":1}`, `{"a":1}`},
		{`{"query":"{ a }"}`, `{"query":[]}`},
		{`{"query":"{ a(b: \"x\") }","v":{"query":"{ a }"}}`, `{"query":["x"],"v":{"query":"{ a }"}}`},
		{`{"query":"tea pots"}`, `{"query":"tea pots"}`},
		{`{"query":7}`, `{"query":7}`},
		{`[{"query":"{ a }"},1,"query",{"b":2}]`, `[{"query":[]},1,"query",{"b":2}]`},
		{`"query"`, `"query"`},
		{`{"query":"{ a }"`, `{"query":"{ a }"`},
		{`{"query":"{ a }"} x`, `{"query":"{ a }"} x`},
		{`{"query":"{ a }"}{"b":1}`, `{"query":"{ a }"}{"b":1}`},
		{`{"query":"{ a }",}`, `{"query":"{ a }",}`},
		{`[{"query":"{ a }"}`, `[{"query":"{ a }"}`},
	} {
		if got := string(showGraphQL([]byte(tt.in))); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.in, got, tt.want)
		}
	}
}

// FuzzGraphQL holds that what is left out of a document that parses has no
// character with which another language begins.
func FuzzGraphQL(f *testing.F) {
	f.Add(`query Q($a: [Int!]! = [1]) @d { x: a(b: "c", d: """e""") { ...F } } # g`)
	f.Add(`{ a(b: "\u0041") }`)
	f.Add(`{ a } fragment F on T { b }`)
	f.Fuzz(func(t *testing.T, doc string) {
		if _, ok := graphQLValues(doc); !ok {
			return
		}
		// The document without strings and comments, found in another way.
		var b strings.Builder
		for i := 0; i < len(doc); i++ {
			switch {
			case strings.HasPrefix(doc[i:], `"""`):
				i += 3
				for !strings.HasPrefix(doc[i:], `"""`) {
					if strings.HasPrefix(doc[i:], `\"""`) {
						i += 3
					}
					i++
				}
				i += 2
			case doc[i] == '"':
				for i++; doc[i] != '"'; i++ {
					if doc[i] == '\\' {
						i++
					}
				}
			case doc[i] == '#':
				for i < len(doc) && doc[i] != '\n' && doc[i] != '\r' {
					i++
				}
			default:
				b.WriteByte(doc[i])
			}
		}
		rest := strings.ReplaceAll(b.String(), "\ufeff", "")
		if i := strings.IndexFunc(rest, func(c rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789+-.!$():=@[]{}, \t\r\n", c)
		}); i >= 0 {
			t.Errorf("%q leaves %q uninspected", doc, rest[i:])
		}
	})
}

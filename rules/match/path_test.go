package match

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/moatwaf/moat/rules"
)

func newPathSet(patterns ...string) *pathSet {
	s := &pathSet{exact: map[string]struct{}{}}
	for _, p := range patterns {
		s.add(p)
	}
	return s
}

func TestPathPattern(t *testing.T) {
	tests := []struct {
		pattern string
		yes, no string // paths, separated by blanks
	}{
		{"/", "/", "/a *"},
		{"/login", "/login", "/login/ /Login /login/x /"},
		{"/login/", "/login/", "/login"},
		{"/*", "/ /a /a/b/", "*"},
		{"/**", "/ /a /a/b/", "*"},
		{"/admin/*", "/admin /admin/ /admin/a /admin/a/b/", "/administrator /Admin /x/admin /"},
		{"/admin/**", "/admin /admin/ /admin/a /admin/a/b/", "/administrator /"},
		{"/img/*.png", "/img/a.png /img/.png", "/img/a.jpg /img/x/a.png /img/a.png/"},
		{"/img/a*", "/img/a /img/abc", "/img/ /img/a/b"},
		{"/u/*/edit", "/u/1/edit /u/a%2Fb/edit", "/u/edit /u/1/2/edit /u/1/edit/"},
		{"/u/*/posts/*", "/u/1/posts /u/1/posts/ /u/1/posts/2/3", "/u/posts/2 /u/1/post"},
		{"/**/.git/*", "/.git /.git/HEAD /a/b/.git/config", "/a.git /.gitignore"},
		{"/**/*.php", "/a.php /x/y/a.php /.php", "/a.php/ /a.phps"},
		{"/a/**/b", "/a/b /a/x/b /a/x/y/b /a/b/b", "/a/b/ /a/bb /ab"},
		{"/a/**/b/**/c", "/a/b/c /a/b/x/b/c /a/c/b/c", "/a/c/b /a/c"},
		{"/*a*b*", "/ab /xaxbx /aab", "/ba /a/b"},
	}
	for _, tt := range tests {
		s := newPathSet(tt.pattern)
		for _, path := range strings.Fields(tt.yes) {
			if !s.match(path) {
				t.Errorf("%s does not match %s", tt.pattern, path)
			}
		}
		for _, path := range strings.Fields(tt.no) {
			if s.match(path) {
				t.Errorf("%s matches %s", tt.pattern, path)
			}
		}
	}
	if newPathSet("/*").match("") {
		t.Error("/* matches a request without a path")
	}
}

// goldenPattern is a pattern as a regular expression.
func goldenPattern(pattern string) *regexp.Regexp {
	if pattern == "/*" || pattern == "/**" {
		return regexp.MustCompile(`(?s)^/`)
	}
	below := false
	for _, suffix := range []string{"/**", "/*"} {
		if rest, ok := strings.CutSuffix(pattern, suffix); ok && !below {
			pattern, below = rest, true
		}
	}
	expr := ""
	for segment := range strings.SplitSeq(pattern[1:], "/") {
		if segment == "**" {
			expr += `(/[^/]*)*`
			continue
		}
		expr += "/" + strings.ReplaceAll(regexp.QuoteMeta(segment), `\*`, `[^/]*`)
	}
	if below {
		expr += `(/.*)?`
	}
	return regexp.MustCompile(`(?s)^` + expr + `$`)
}

func checkPath(t *testing.T, pattern, path string) {
	t.Helper()
	if checkPattern(rules.Located[string]{Value: pattern}) != nil || !strings.HasPrefix(path, "/") {
		return
	}
	got, want := newPathSet(pattern).match(path), goldenPattern(pattern).MatchString(path)
	if got != want {
		t.Fatalf("pattern %q, path %q: %v, the twin says %v", pattern, path, got, want)
	}
}

func TestPathPatternTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	random := func(pieces []string) string {
		s := "/"
		for range rng.IntN(9) {
			s += pieces[rng.IntN(len(pieces))]
		}
		return s
	}
	for range 40_000 {
		checkPath(t, random([]string{"/", "/", "a", "b", "ab", "*", "/**/", "/*"}), random([]string{"/", "/", "a", "b", "ab", "aa"}))
	}
}

func FuzzPathPattern(f *testing.F) {
	f.Add("/admin/*", "/admin/x")
	f.Add("/a/**/b*/c", "/a/x/y/bb/c")
	f.Add("/**/**/x", "/x")
	f.Add("/*a*b", "/aab")
	f.Add("/é/*", "/é/\xff")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if len(pattern) < 200 && len(path) < 1000 {
			checkPath(t, pattern, path)
		}
	})
}

// A pattern of many stars against a path made for it stays cheap.
func BenchmarkPathHostile(b *testing.B) {
	s := newPathSet("/**/a*a*a*a*b/**/a*a*a*a*b/c")
	path := strings.Repeat("/"+strings.Repeat("a", 60), 130)
	b.ReportAllocs()
	for b.Loop() {
		if s.match(path) {
			b.Fatal("it matches")
		}
	}
}

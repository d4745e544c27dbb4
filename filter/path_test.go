package filter

import (
	"math/rand/v2"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// target parses s as net/http does with a request target.
func target(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.ParseRequestURI(s)
	if err != nil {
		t.Fatalf("%q is no request target: %v", s, err)
	}
	return u
}

func TestReadPath(t *testing.T) {
	tests := []struct {
		name   string
		target string
		path   string   // the primary reading
		others []string // the further readings, in any order
	}{
		// One reading, nothing to do.
		{"root", "/", "/", nil},
		{"plain", "/a/b.html", "/a/b.html", nil},
		{"trailing slash is kept", "/a/", "/a/", nil},
		{"query is no part", "/a?x=/../b", "/a", nil},
		{"absolute form", "http://example.com/a", "/a", nil},
		{"absolute form without a path", "http://example.com", "/", nil},
		{"asterisk form", "*", "*", nil},
		{"dots in names", "/a/.hidden/..b/c../...", "/a/.hidden/..b/c../...", nil},
		{"encoded blank", "/a%20b", "/a b", nil},
		{"encoded letter", "/%61dmin", "/admin", nil},
		{"UTF-8", "/caf%C3%A9/%F0%9F%8D%B0", "/café/🍰", nil},
		{"Latin-1", "/caf%E9", "/caf\xe9", nil},
		{"percent sign", "/100%25", "/100%", nil},
		{"percent sign before no digits", "/100%25zz", "/100%zz", nil},

		// One reading, cleaned.
		{"dot segment", "/a/./b", "/a/b", nil},
		{"dot segment at the end", "/a/.", "/a/", nil},
		{"parent", "/a/../b", "/b", nil},
		{"parent at the end", "/a/b/..", "/a/", nil},
		{"above the root", "/../../etc/passwd", "/etc/passwd", nil},
		{"encoded dots", "/public/%2e%2e/admin", "/admin", nil},
		{"half encoded dots", "/public/.%2E/admin", "/admin", nil},
		{"doubled slash", "//admin//users", "/admin/users", nil},
		{"doubled slash is no authority", "//evil.example/a", "/evil.example/a", nil},
		{"many slashes", "/////", "/", nil},

		// Slashes merged first, or last.
		{"doubled slash before a parent", "/public//../admin", "/admin", []string{"/public/admin"}},
		{"doubled slash with a dot", "/a//./../b", "/b", []string{"/a/b"}},

		// Encoded slash.
		{"encoded slash", "/a%2fb", "/a/b", []string{"/a%2Fb"}},
		{"name with a slash", "/api/queues/%2F/jobs", "/api/queues/jobs", []string{"/api/queues/%2F/jobs"}},
		{"traversal behind an encoded slash", "/public/..%2fadmin", "/admin", []string{"/public/..%2Fadmin"}},
		{"traversal between encoded slashes", "/public/x%2f..%2f..%2fadmin", "/admin", []string{"/public/x%2F..%2F..%2Fadmin"}},

		// Backslash.
		{"backslash", `/a\b`, `/a\b`, []string{"/a/b"}},
		{"encoded backslash", "/public/..%5cadmin", `/public/..\admin`, []string{"/admin"}},
		{"backslashes at the beginning", `/\evil`, `/\evil`, []string{"/evil"}},

		// Path parameters.
		{"parameter", "/a;v=1/b", "/a;v=1/b", []string{"/a/b"}},
		{"session id", "/login;jsessionid=1", "/login;jsessionid=1", []string{"/login"}},
		{"parent with a parameter", "/public/..;/admin", "/public/..;/admin", []string{"/admin"}},
		{"encoded semicolon", "/public/..%3b/admin", "/public/..;/admin", []string{"/admin"}},
		{"empty segment with a parameter", "/;x/admin", "/;x/admin", []string{"/admin"}},
		{"dot with a parameter", "/.;/admin", "/.;/admin", []string{"/admin"}},

		// Decoded twice.
		{"dots encoded twice", "/public/%252e%252e/admin", "/public/%2e%2e/admin", []string{"/admin"}},
		{"slash encoded twice", "/a%252fb", "/a%2fb", []string{"/a/b", "/a%2Fb"}},
		{"letter encoded twice", "/%2561dmin", "/%61dmin", []string{"/admin"}},
		{"parent half encoded twice", "/a/%2e%252e/b", "/a/.%2e/b", []string{"/b"}},

		// Query and fragment in the path.
		{"encoded question mark", "/admin%3fx", "/admin?x", []string{"/admin"}},
		{"encoded number sign", "/c%23/d", "/c#/d", []string{"/c"}},
		{"number sign", "/admin#x", "/admin#x", []string{"/admin"}},

		// Several tricks at once.
		{"backslash and parameter", `/a/..;\b`, `/a/..;\b`, []string{"/a/..;/b", "/", "/b"}},
		{"encoded slash and parameter", "/a/..;%2fb", "/a/..;/b", []string{"/a/..;%2Fb", "/b", "/"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, readings, err := ReadPath(target(t, tt.target))
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.path {
				t.Errorf("path = %q, want %q", got, tt.path)
			}
			if tt.others == nil {
				if readings != nil {
					t.Errorf("readings = %q, want none", readings)
				}
				return
			}
			want := append([]string{tt.path}, tt.others...)
			if len(readings) == 0 || readings[0] != got {
				t.Errorf("readings = %q, want the primary one first", readings)
			}
			if !sameSet(readings, want) {
				t.Errorf("readings = %q, want %q", readings, want)
			}
		})
	}
}

func TestReadPathRefuses(t *testing.T) {
	tests := []struct {
		name string
		url  *url.URL
		want error
	}{
		{"no URL", nil, errPathNone},
		{"opaque target", target(t, "http:admin"), errPathOpaque},
		{"NUL", &url.URL{Path: "/a\x00b"}, errPathControl},
		{"encoded NUL", target(t, "/a%00b"), errPathControl},
		{"NUL encoded twice", target(t, "/a%2500b"), errPathControl},
		{"line break", target(t, "/a%0d%0aSet-Cookie:x"), errPathControl},
		{"line break encoded twice", target(t, "/a%250a"), errPathControl},
		{"tab", target(t, "/ad%09min"), errPathControl},
		{"delete", target(t, "/ad%7fmin"), errPathControl},
		{"control character and dot segment", target(t, "/a/../%01"), errPathControl},
		{"overlong slash", target(t, "/public/..%c0%afadmin"), errPathOverlong},
		{"overlong dot", target(t, "/public/%c0%ae%c0%ae/admin"), errPathOverlong},
		{"overlong slash in three bytes", target(t, "/a%e0%80%afb"), errPathOverlong},
		{"overlong slash in four bytes", target(t, "/a%f0%80%80%afb"), errPathOverlong},
		{"overlong slash encoded twice", target(t, "/a%25c0%25afb"), errPathOverlong},
		{"malformed escape", &url.URL{Path: "/a", RawPath: "/%zz"}, errPathEscape},
		{"cut escape", &url.URL{Path: "/a", RawPath: "/a%2"}, errPathEscape},
		{"encoded three times", target(t, "/%25252e%25252e/admin"), errPathNested},
		{"too long", &url.URL{Path: "/" + strings.Repeat("a", maxPathLen)}, errPathLong},
		{"too long when encoded", target(t, "/"+strings.Repeat("%2f", maxPathLen/2)), errPathLong},
		{"every trick at once", target(t, `/a%2f..%252f..;x\..%5c;y//..%3f/%2e%252e;z//../b%252f;\..`), errPathReadings},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, readings, err := ReadPath(tt.url)
			if err != tt.want {
				t.Errorf("ReadPath = %q, %q, %v; want the error %v", got, readings, err, tt.want)
			}
			if err != nil && (got != "" || readings != nil) {
				t.Errorf("an error came with %q, %q", got, readings)
			}
		})
	}
}

// A handler in front may set Path alone; net/url then ignores RawPath, and so
// does ReadPath.
func TestReadPathAfterRewrite(t *testing.T) {
	got, readings, err := ReadPath(&url.URL{Path: "/new", RawPath: "/old%2fpath"})
	if got != "/new" || readings != nil || err != nil {
		t.Errorf("ReadPath = %q, %q, %v", got, readings, err)
	}
	got, _, err = ReadPath(&url.URL{Path: "relative/../x"})
	if got != "/x" || err != nil {
		t.Errorf("ReadPath = %q, %v", got, err)
	}
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// goldenReadings is the plain way to the same answer: every combination of what
// servers do, each step with the library's own tools.
func goldenReadings(u *url.URL) (primary string, set map[string]bool, refused bool) {
	if u == nil || u.Opaque != "" || len(u.Path) > maxPathLen || len(u.RawPath) > maxPathLen {
		return "", nil, true
	}
	if u.Path == "" || u.Path == "*" {
		p := strings.ReplaceAll("/"+u.Path, "/*", "*")
		return p, map[string]bool{p: true}, false
	}
	sent := u.RawPath
	if sent != "" {
		decoded, err := url.PathUnescape(sent)
		if err != nil {
			return "", nil, true
		}
		if decoded != u.Path {
			sent = ""
		}
	}
	if sent == "" {
		sent = strings.ReplaceAll(u.Path, "%", "%25")
	}
	decode := func(s string, keepSlash bool) string {
		out := ""
		for s != "" {
			if len(s) >= 3 {
				if c, err := url.PathUnescape(s[:3]); err == nil && len(c) == 1 && s[0] == '%' {
					if c == "/" && keepSlash {
						c = "%2F"
					}
					out, s = out+c, s[3:]
					continue
				}
			}
			out, s = out+s[:1], s[1:]
		}
		return out
	}
	once := decode(sent, false)
	twice := decode(once, false)
	for _, s := range []string{once, twice} {
		if strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7F }) || hasOverlong(s) {
			return "", nil, true
		}
	}
	if decode(twice, false) != twice {
		return "", nil, true
	}

	set = map[string]bool{}
	both := []bool{false, true}
	for _, keepFirst := range both {
		for _, decodeTwice := range both {
			for _, keepSecond := range both {
				text := decode(sent, keepFirst)
				if decodeTwice {
					text = decode(text, keepSecond)
				}
				for _, cut := range both {
					for _, backslash := range both {
						for _, drop := range both {
							for _, mergeLast := range both {
								set[goldenReading(text, cut, backslash, drop, mergeLast)] = true
							}
						}
					}
				}
			}
		}
	}
	return goldenReading(once, false, false, false, false), set, len(set) > maxReadings
}

func goldenReading(s string, cut, backslash, drop, mergeLast bool) string {
	if cut {
		s, _, _ = strings.Cut(s, "?")
		s, _, _ = strings.Cut(s, "#")
	}
	if backslash {
		s = strings.Join(strings.Split(s, `\`), "/")
	}
	if s == "" || s[0] != '/' {
		s = "/" + s
	}
	segments := strings.Split(s, "/")
	if drop {
		for i := range segments {
			segments[i], _, _ = strings.Cut(segments[i], ";")
		}
	}
	directory := slices.Contains([]string{"", ".", ".."}, segments[len(segments)-1])
	if !mergeLast {
		s = path.Clean(strings.Join(segments, "/"))
	} else {
		var kept []string
		for i, segment := range segments[1:] {
			switch {
			case segment == "..":
				kept = kept[:max(len(kept)-1, 0)]
			case segment == "." || segment == "" && i == len(segments)-2:
			default:
				kept = append(kept, segment)
			}
		}
		s = path.Clean("/" + strings.Join(kept, "/"))
	}
	if directory && s != "/" {
		s += "/"
	}
	return s
}

// hasOverlong reports whether s holds an overlong UTF-8 sequence, told by the
// first two bytes: no well-formed sequence has such a beginning.
func hasOverlong(s string) bool {
	for i := range len(s) - 1 {
		lead, next := s[i], s[i+1]
		if next < 0x80 || next >= 0xC0 {
			continue
		}
		switch lead {
		case 0xC0, 0xC1:
			return true
		case 0xE0:
			if !utf8.ValidString(string([]byte{lead, next, 0x80})) {
				return true
			}
		case 0xF0:
			if !utf8.ValidString(string([]byte{lead, next, 0x80, 0x80})) {
				return true
			}
		}
	}
	return false
}

// checkReadPath holds ReadPath against its twin and against what it promises.
func checkReadPath(t *testing.T, u *url.URL) {
	t.Helper()
	got, readings, err := ReadPath(u)
	want, set, refused := goldenReadings(u)
	if refused != (err != nil) {
		t.Fatalf("%+v: error %v, the twin refuses: %v", u, err, refused)
	}
	if err != nil {
		return
	}
	if got != want {
		t.Fatalf("%+v: path %q, twin %q", u, got, want)
	}
	all := readings
	if readings == nil {
		all = []string{got}
	} else if len(readings) < 2 || len(readings) > maxReadings || readings[0] != got {
		t.Fatalf("%+v: path %q with readings %q", u, got, readings)
	}
	if len(all) != len(set) {
		t.Fatalf("%+v: readings %q, twin %v", u, all, set)
	}
	for _, r := range all {
		if !set[r] {
			t.Fatalf("%+v: reading %q is not among the twin's %v", u, r, set)
		}
		if r == "*" {
			continue
		}
		if r[0] != '/' || strings.Contains(r, "//") {
			t.Fatalf("%+v: reading %q", u, r)
		}
		for segment := range strings.SplitSeq(r, "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("%+v: reading %q holds a dot segment", u, r)
			}
		}
	}
	again, _, err := ReadPath(&url.URL{Path: got})
	if err != nil || again != got {
		t.Fatalf("%+v: path %q is read again as %q, %v", u, got, again, err)
	}
}

var pathPieces = []string{
	"/", "/", "/", "//", ".", "..", "a", "admin", "%2e", "%2E", "%252e", "%2f", "%5c", "\\", ";", "%3b",
	";x=1", "%252f", "%25", "%23", "%3f", "%20", "é", "%c3%a9", "%e9", "%25c0", "%c0", "%af", "%41", "%2541",
}

func TestReadPathTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 15_000 {
		s := "/"
		for range rng.IntN(9) {
			s += pathPieces[rng.IntN(len(pathPieces))]
		}
		u, err := url.ParseRequestURI(s)
		if err != nil {
			continue
		}
		checkReadPath(t, u)
	}
}

func FuzzReadPath(f *testing.F) {
	for _, s := range []string{
		"/", "", "*", "/a/../b", "/public/..;/admin", "/a%2fb", "/%252e%252e/", `/a\..\b`, "/a//../b",
		"/a%00", "/%c0%af", "/a?b", "/a%3fb#c", "/%25252e", "http://example.com/a", "//a", "/a/%2e%252e;x//%5c..",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := url.ParseRequestURI(s); err == nil {
			checkReadPath(t, u)
		}
		checkReadPath(t, &url.URL{Path: s})
		checkReadPath(t, &url.URL{Path: s, RawPath: url.PathEscape(s)})
	})
}

func TestReadPathAllocs(t *testing.T) {
	u := target(t, "/assets/js/app.4f2c1e.js?v=12")
	if n := testing.AllocsPerRun(100, func() { _, _, _ = ReadPath(u) }); n != 0 {
		t.Errorf("a usual path takes %v allocations", n)
	}
}

func BenchmarkReadPath(b *testing.B) {
	for _, bb := range []struct{ name, target string }{
		{"usual", "/assets/js/app.4f2c1e.js?v=12"},
		{"escaped", "/caf%C3%A9/a%20b"},
		{"dots", "/a/b/../c/./d"},
		{"encoded-slash", "/api/queues/%2F/jobs"},
		{"parameter", "/login;jsessionid=0123456789abcdef"},
		{"hostile", "/" + strings.Repeat("%252e%252e;/%5c", 500)},
	} {
		u := target(b, bb.target)
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = ReadPath(u)
			}
		})
	}
}

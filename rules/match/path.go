package match

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/moatwaf/moat/rules"
)

// maxPattern bounds a path pattern, in bytes.
const maxPattern = 2048

// pathSet is the path key. Patterns are case-sensitive and are held against the
// path as filter.ReadPath reads it.
//
//	/login        this path, and no other: not /login/
//	/admin/*      /admin, /admin/ and everything below
//	/*            every path
//	/img/*.png    * stands for a part of a segment, an empty one too
//	/u/*/edit     or for a segment
//	/**/.git/*    ** stands for any number of segments, none too
//
// At the end, /** is the same as /*.
type pathSet struct {
	exact map[string]struct{}
	below []string // /admin for /admin/*
	globs []pathGlob
}

// match reports whether a pattern of the set matches path, which begins with
// "/". The path "*" of OPTIONS matches no pattern.
func (s *pathSet) match(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	if _, ok := s.exact[path]; ok {
		return true
	}
	for _, prefix := range s.below {
		if strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/') {
			return true
		}
	}
	for i := range s.globs {
		if s.globs[i].match(path) {
			return true
		}
	}
	return false
}

// pathGlob is a pattern with a star elsewhere than in the last place, cut into
// its segments.
type pathGlob []string

// anySegments is the segment that stands for any number of segments.
const anySegments = "**"

// match holds the segments against those of path. Upon a mismatch the last
// anySegments takes one segment more: an earlier one never needs to, for what
// lies between them is matched as early as it can be. The cost is the product of
// the lengths at most.
func (g pathGlob) match(path string) bool {
	i, pos, end := 0, 1, len(path)+1
	star, starPos := -1, 0
	for pos < end {
		next := end
		if slash := strings.IndexByte(path[pos:], '/'); slash >= 0 {
			next = pos + slash + 1
		}
		switch {
		case i < len(g) && g[i] == anySegments:
			star, starPos = i, pos
			i++
		case i < len(g) && matchSegment(g[i], path[pos:next-1]):
			i++
			pos = next
		case star >= 0:
			if slash := strings.IndexByte(path[starPos:], '/'); slash >= 0 {
				starPos += slash + 1
			} else {
				starPos = end
			}
			i, pos = star+1, starPos
		default:
			return false
		}
	}
	for i < len(g) && g[i] == anySegments {
		i++
	}
	return i == len(g)
}

// matchSegment reports whether pattern, in which each "*" stands for any text,
// matches all of s.
func matchSegment(pattern, s string) bool {
	p, i := 0, 0
	star, starAt := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, starAt = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			starAt++
			p, i = star+1, starAt
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func (b *builder) path(list OneOrMore[string]) {
	b.m.uses.Path = true
	set := &pathSet{exact: map[string]struct{}{}}
	for _, l := range list {
		if err := checkPattern(l); err != nil {
			b.fault(err)
			continue
		}
		set.add(l.Value)
	}
	b.m.path = set
}

// add adds a pattern that checkPattern has passed.
func (s *pathSet) add(pattern string) {
	rest, below := strings.CutSuffix(pattern, "/**")
	if !below {
		rest, below = strings.CutSuffix(pattern, "/*")
	}
	switch {
	case !strings.Contains(rest, "*") && below:
		s.below = append(s.below, rest)
	case !strings.Contains(rest, "*"):
		s.exact[pattern] = struct{}{}
	default:
		glob := pathGlob(strings.Split(rest[1:], "/"))
		if below {
			glob = append(glob, anySegments)
		}
		s.globs = append(s.globs, glob)
	}
}

// checkPattern finds the faults of a pattern, above all those by which it could
// never match.
func checkPattern(l rules.Located[string]) *rules.Error {
	p := l.Value
	switch {
	case p == "*":
		return l.Errorf("write /* for every path", "the pattern does not begin with /")
	case !strings.HasPrefix(p, "/"):
		return l.Errorf("write /"+clip(p), "the pattern %q does not begin with /", clip(p))
	case len(p) > maxPattern:
		return l.Errorf("", "the pattern is longer than %d bytes", maxPattern)
	case !utf8.ValidString(p):
		return l.Errorf("", "the pattern is no UTF-8")
	case strings.ContainsAny(p, "?#"):
		return l.Errorf("the query is no part of the path; see http.request.uri.query in expr", "the pattern %q holds a ? or #", clip(p))
	case strings.Contains(p, `\`):
		return l.Errorf("write /", "the pattern %q holds a backslash", clip(p))
	case strings.Contains(p, "//"):
		return l.Errorf("paths are matched with their slashes merged", "the pattern %q holds an empty segment and never matches", clip(p))
	}
	for i := range len(p) {
		if p[i] < 0x20 || p[i] == 0x7F {
			return l.Errorf("", "the pattern holds a control character")
		}
	}
	if decoded, err := url.PathUnescape(p); err == nil && decoded != p {
		return l.Errorf("paths are matched decoded; * takes the place of an encoded slash", "the pattern %q is percent-encoded", clip(p))
	}
	for segment := range strings.SplitSeq(p[1:], "/") {
		switch {
		case segment == "." || segment == "..":
			return l.Errorf("paths are matched without dot segments", "the pattern %q holds %q and never matches", clip(p), segment)
		case segment != anySegments && strings.Contains(segment, "**"):
			return l.Errorf("** stands for whole segments, * for a part of one", "the pattern %q holds ** beside other text", clip(p))
		}
	}
	return nil
}

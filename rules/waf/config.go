package waf

import (
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/moatwaf/moat/rules"
)

// CRS is the name of the Core Rule Set in Config.Include.
const CRS = "crs"

// Defaults of Config.
const (
	DefaultParanoia  = 1
	DefaultThreshold = 5
	DefaultBodyLimit = 1 << 20
	DefaultMemory    = 64 << 20
)

// MinMemory and MaxMemory are the bounds of Config.Memory. The rules of the CRS at
// paranoia level 4 take 24 MiB before any text is read.
const (
	MinMemory = 32 << 20
	MaxMemory = 4 << 30
)

// MaxBodyLimit is the largest Config.BodyLimit. The engine takes 1 GiB, and a body
// can grow to twelve times its size when it is prepared for inspection.
const MaxBodyLimit = 64 << 20

// Oversize is what becomes of a body that is larger than Config.BodyLimit, or
// that would cost more to inspect than a body of that size may.
type Oversize uint8

const (
	// OversizeBlock refuses the request with 413, without reading the body where
	// its announced length is enough to know.
	OversizeBlock Oversize = iota
	// OversizeInspect inspects the first BodyLimit bytes. The rest goes to the
	// upstream unseen. That the cut body does not parse to its end refuses
	// nothing; what was parsed up to the cut is judged.
	OversizeInspect
	// OversizePass judges the headers only.
	OversizePass
)

// String returns the value as the policy file spells it.
func (o Oversize) String() string {
	switch o {
	case OversizeBlock:
		return "block"
	case OversizeInspect:
		return "inspect"
	case OversizePass:
		return "pass"
	}
	return "invalid"
}

// Include is one entry of the list of rule files.
type Include struct {
	// Name is CRS, the path of a SecLang file, or a pattern of such paths (see
	// path.Match). A pattern may match nothing; a path must exist.
	Name string
	// Text holds the directives themselves, in place of a file: a host's own
	// exclusions, say. They come where RESPONSE-999-EXCLUSION-RULES-AFTER-CRS
	// does, Name is what faults call them, and they include no file.
	Text string
	// Pos is where the policy says so.
	Pos rules.Position
}

// Config is what a payload stage is made of. The zero Config is the ready
// policy: the CRS at paranoia level 1, blocking from a score of 5.
type Config struct {
	// Paranoia is the CRS paranoia level that blocks, 1 to 4; 0 takes 1.
	Paranoia int

	// Threshold is the inbound anomaly score from which the CRS refuses; 0 takes 5.
	Threshold int

	// Include is the rule files, in order; nil takes the CRS alone.
	//
	// Files that are named as the CRS names its exclusion files have their place
	// there, wherever they stand in the list: crs-setup*.conf and
	// REQUEST-900-EXCLUSION-RULES-BEFORE-CRS*.conf before the rules of the CRS,
	// RESPONSE-999-EXCLUSION-RULES-AFTER-CRS*.conf after them.
	Include []Include

	// FS is where the files are; nil takes the host's file system. A leading
	// slash of a path is dropped before FS is asked.
	FS fs.FS

	// Methods are the request methods that the CRS lets pass; nil takes
	// DefaultMethods.
	Methods []string

	// ContentTypes are the media types of request bodies that the CRS lets pass;
	// nil takes DefaultContentTypes. A star stands for any run of characters:
	// "application/*+json".
	ContentTypes []string

	// Codings are the content codings of request bodies that are decoded for
	// inspection, of those that DefaultCodings returns; nil takes all. A body in
	// another coding is refused with 415. One in several codings is refused always.
	Codings []string

	// BodyLimit is how many bytes of a body are inspected, compressed and
	// decompressed; 0 takes 1 MiB.
	BodyLimit int64

	// Oversize is what becomes of larger bodies.
	Oversize Oversize

	// Fast lets requests pass that provably match no rule without asking the engine
	// (see package proof), and takes from the others the rules that provably cannot
	// match before the engine evaluates the rest (see package gate). It changes no
	// decision.
	Fast bool

	// Memory is how many bytes the automata of the fast engine may take, 0 takes
	// DefaultMemory. What header fields, paths and names lead to that come again is
	// remembered in half as much beside it, at most. Stages with the same rules and the
	// same Memory take it once; while another set of rules replaces one, both take
	// theirs.
	Memory int64

	// Warm lets New begin, in the background, to read what ordinary requests are made
	// of, so that the fast engine knows it when they come. It costs a few seconds of
	// CPU time, once for all stages with the same rules.
	Warm bool

	// Observe, if not nil, is told how each request was judged. It is called by
	// many goroutines at once.
	Observe func(Judged)

	// Unbounded lets the engine evaluate a request whatever it costs, for measuring
	// the plain engine and for holding others against it. No policy says so.
	Unbounded bool

	// arguments is how many arguments are inspected, of the query and of the body
	// each. Rule files set it with SecArgumentsLimit.
	arguments int
}

// DefaultMethods returns the methods of the ready policy.
func DefaultMethods() []string {
	return []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
		http.MethodPatch, http.MethodDelete, http.MethodOptions,
	}
}

// DefaultContentTypes returns the media types of the ready policy: what browsers,
// API clients and feeds send today. Types that the rules cannot read are among
// them; their bodies stream past uninspected.
func DefaultContentTypes() []string {
	return []string{
		"application/x-www-form-urlencoded",
		"multipart/form-data",
		"application/json", "application/*+json", "text/json",
		"application/csp-report",
		"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines",
		"application/xml", "text/xml", "application/*+xml",
		"text/plain", "text/csv", "application/csv",
		"application/graphql",
		"application/octet-stream",
		"application/protobuf", "application/x-protobuf", "application/vnd.google.protobuf",
		"application/grpc", "application/grpc+*", "application/grpc-web", "application/grpc-web+*",
		"application/grpc-web-text", "application/connect+*", "application/proto",
	}
}

// normalize checks c and fills in the defaults. Faults have no place but the
// includes': the values come from Go or from a policy that has placed them.
func (c Config) normalize() (Config, rules.Errors) {
	var errs rules.Errors
	if c.Paranoia == 0 {
		c.Paranoia = DefaultParanoia
	}
	if c.Paranoia < 1 || c.Paranoia > 4 {
		errs.Add(rules.Position{}, "waf.paranoia", "write a level from 1 to 4", "paranoia level %d does not exist", c.Paranoia)
	}
	if c.Threshold == 0 {
		c.Threshold = DefaultThreshold
	}
	if c.Threshold < 0 {
		errs.Add(rules.Position{}, "waf.threshold", "the usual threshold is 5", "an anomaly threshold of %d refuses nothing or everything", c.Threshold)
	}
	if c.BodyLimit == 0 {
		c.BodyLimit = DefaultBodyLimit
	}
	if c.BodyLimit < 0 || c.BodyLimit > MaxBodyLimit {
		errs.Add(rules.Position{}, "waf.body_limit", "the largest limit is 64 MiB", "a body limit of %d bytes is not possible", c.BodyLimit)
	}
	if c.Memory == 0 {
		c.Memory = DefaultMemory
	}
	if c.Memory < MinMemory || c.Memory > MaxMemory {
		errs.Add(rules.Position{}, "waf.memory", "write a size from 32MiB to 4GiB", "a memory of %d bytes is not possible", c.Memory)
	}
	if c.Oversize > OversizePass {
		errs.Add(rules.Position{}, "waf.oversize", "block, inspect or pass", "unknown value %d", c.Oversize)
	}
	if c.Include == nil {
		c.Include = []Include{{Name: CRS}}
	}
	if c.Methods == nil {
		c.Methods = DefaultMethods()
	}
	c.Methods = slices.Clone(c.Methods)
	for i, m := range c.Methods {
		c.Methods[i] = strings.ToUpper(m)
		if !isToken(m) {
			errs.Add(rules.Position{}, "waf.methods", "", "%q is no HTTP method", m)
		}
	}
	if c.ContentTypes == nil {
		c.ContentTypes = DefaultContentTypes()
	}
	c.ContentTypes = slices.Clone(c.ContentTypes)
	for i, t := range c.ContentTypes {
		t = strings.ToLower(strings.TrimSpace(t))
		c.ContentTypes[i] = t
		main, sub, ok := strings.Cut(t, "/")
		if t != "*" && (!ok || !isToken(main) || !isToken(sub)) {
			errs.Add(rules.Position{}, "waf.content_types", "write type/subtype without parameters, a star for any characters", "%q is no media type", t)
		}
	}
	if c.Codings == nil {
		c.Codings = DefaultCodings()
	}
	for _, name := range c.Codings {
		if _, ok := codings[name]; !ok {
			errs.Add(rules.Position{}, "waf.codings", "write gzip, deflate, br or zstd", "%q is no content coding that can be decoded", name)
		}
	}
	return c, errs
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2 that SecLang
// can carry: the quote and the backslash-like characters of the grammar are left
// out, and the star is a wildcard here.
func isToken(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("!#&*+-.^_~", c) >= 0:
		default:
			return false
		}
	}
	return true
}

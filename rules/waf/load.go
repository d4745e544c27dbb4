package waf

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/types"

	"github.com/moatwaf/moat/rules"
)

// Bounds of what one policy may load.
const (
	maxFileSize = 32 << 20
	maxFiles    = 1000
	maxDepth    = 16
)

// New loads the rules and returns the stage. The error is a rules.Errors with
// every fault, each with file and line as far as it has one. Stages with the same
// rules share one engine; the caller closes the stage when the last request has
// left it.
func New(c Config) (*Stage, error) {
	c, errs := c.normalize()
	if len(errs) > 0 {
		return nil, errs
	}
	src := newSource(c.FS)
	plan := src.plan(&c)
	errs = src.errs
	errs = append(errs, checkDirectives(plan, src)...)
	if len(errs) > 0 {
		// The engine's own faults too: those of a part that is sound otherwise.
		errs = append(errs, compileUnits(plan, src)...)
		return nil, tidy(errs)
	}
	l, err := engines.acquire(src.digest(plan, &c), func(key digest) (*loaded, error) {
		if errs := compileUnits(plan, src); len(errs) > 0 {
			return nil, errs
		}
		return loadBudgeted(key, plan, src, &c)
	})
	if err != nil {
		if errs, ok := errors.AsType[rules.Errors](err); ok {
			return nil, tidy(errs)
		}
		return nil, rules.Errors{src.locate(plan, err)}
	}
	s := &Stage{config: c, loaded: l, engine: l.evaluator(&c), files: slices.Sorted(maps.Keys(src.contents))}
	for _, name := range c.Codings {
		s.decodes[codings[name]] = true
	}
	if c.Warm {
		s.warm()
	}
	return s, nil
}

// tidy sorts faults and leaves one for each place: the first, which is moat's own
// where the engine has a word about it too.
func tidy(errs rules.Errors) rules.Errors {
	errs.Sort()
	return slices.CompactFunc(errs, func(a, b *rules.Error) bool { return a.Pos == b.Pos && a.Pos.Line != 0 })
}

// Close gives the stage's share of the engine back. Requests under way end
// undisturbed; later ones must not come.
func (s *Stage) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return engines.release(s.loaded)
}

// segment is a run of directives that the engine reads as one file.
type segment struct {
	file       string // as the operator knows it; empty for moat's own
	text       string // for moat's own and the CRS
	crs        bool
	directives []directive
}

// source reads files, each once, so that what was checked is what is loaded.
type source struct {
	fs       fs.FS
	contents map[string][]byte
	schemas  map[string]string // argument of @validateSchema -> file
	fresh    int               // rules that have been refreshed
	errs     rules.Errors
}

func newSource(fsys fs.FS) *source {
	return &source{fs: fsys, contents: map[string][]byte{}, schemas: map[string]string{}}
}

// read returns the content of a file.
func (s *source) read(name string) ([]byte, error) {
	if b, ok := s.contents[name]; ok {
		return b, nil
	}
	if len(s.contents) >= maxFiles {
		return nil, fmt.Errorf("more than %d rule and data files", maxFiles)
	}
	b, err := s.readFile(name)
	if err != nil {
		return nil, plainPathError(err)
	}
	s.contents[name] = b
	return b, nil
}

func (s *source) readFile(name string) ([]byte, error) {
	var (
		info fs.FileInfo
		err  error
	)
	if s.fs == nil {
		info, err = os.Stat(name)
	} else {
		info, err = fs.Stat(s.fs, strings.TrimPrefix(name, "/"))
	}
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errors.New("is a directory")
	case !info.Mode().IsRegular():
		return nil, errors.New("is no regular file") // a pipe would hold up the load for good
	case info.Size() > maxFileSize:
		return nil, fmt.Errorf("larger than %d bytes", maxFileSize)
	}
	if s.fs == nil {
		return os.ReadFile(name)
	}
	return fs.ReadFile(s.fs, strings.TrimPrefix(name, "/"))
}

// glob returns the files that a pattern names, sorted.
func (s *source) glob(pattern string) ([]string, error) {
	if s.fs == nil {
		return filepath.Glob(pattern)
	}
	names, err := fs.Glob(s.fs, strings.TrimPrefix(pattern, "/"))
	if strings.HasPrefix(pattern, "/") {
		for i := range names {
			names[i] = "/" + names[i]
		}
	}
	return names, err
}

// plainPathError returns the cause of a file error without the path, which the
// fault says anyway.
func plainPathError(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// plan returns the segments in the order in which the engine reads them.
func (s *source) plan(c *Config) []segment {
	var before, ahead, after, exclusions []segment
	withCRS := false
	for _, inc := range c.Include {
		if inc.Name == CRS {
			if withCRS {
				s.errs.Add(inc.Pos, "", "", "the Core Rule Set is included twice")
			}
			withCRS = true
			continue
		}
		if inc.Text != "" {
			exclusions = append(exclusions, segment{file: inc.Name, directives: scan(inc.Name, []byte(inc.Text), &s.errs)})
			continue
		}
		for _, file := range s.resolve(inc.Name, inc.Pos, "") {
			segs := s.open(file, inc.Pos, nil)
			base := path.Base(filepath.ToSlash(file))
			switch {
			case matchesAny(base, "crs-setup*.conf", "REQUEST-900-EXCLUSION-RULES-BEFORE-CRS*.conf"):
				before = append(before, segs...)
			case matchesAny(base, "RESPONSE-999-EXCLUSION-RULES-AFTER-CRS*.conf"):
				exclusions = append(exclusions, segs...)
			case withCRS:
				after = append(after, segs...)
			default:
				ahead = append(ahead, segs...)
			}
		}
	}
	// What the operator wrote, as far as it changes the settings.
	operator := slices.Concat(ahead, before, exclusions, after)
	c.arguments = argumentsLimit(operator)
	datasets := map[string]string{}
	for _, segs := range [][]segment{ahead, before, exclusions, after} {
		renameDatasets(segs, datasets)
		refresh(segs, &s.fresh, &s.errs)
	}
	own := baseDirectives(c)
	if withCRS {
		if !definesDefaults(slices.Concat(ahead, before)) {
			own += defaultActions
		}
		own += setupDirectives(c)
	}
	plan := slices.Concat([]segment{{text: own}}, ahead, before)
	if withCRS {
		plan = append(plan, segment{crs: true, text: crsDirectives})
	}
	return slices.Concat(plan, exclusions, after)
}

// crsDirectives includes the shipped rules.
const crsDirectives = "Include @owasp_crs/*.conf\n"

func matchesAny(base string, patterns ...string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, base)
		return ok
	})
}

// definesDefaults reports whether the operator's set-up brings SecDefaultAction,
// which the engine takes once only.
func definesDefaults(segs []segment) bool {
	return slices.ContainsFunc(segs, func(s segment) bool {
		return slices.ContainsFunc(s.directives, func(d directive) bool { return d.name == "secdefaultaction" })
	})
}

// resolve returns the files that an include names. dir is that of the including
// file; empty for the policy's own list, whose paths are complete.
func (s *source) resolve(name string, pos rules.Position, dir string) []string {
	if dir != "" && !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	if !strings.ContainsAny(name, "*?[") {
		return []string{name}
	}
	names, err := s.glob(name)
	if err != nil {
		s.errs.Add(pos, "", "", "%s: %v", name, err)
		return nil
	}
	slices.Sort(names)
	return names
}

// open reads a file and those that it includes. stack holds the files that
// include it.
func (s *source) open(file string, pos rules.Position, stack []string) []segment {
	if slices.Contains(stack, file) || len(stack) >= maxDepth {
		s.errs.Add(pos, "", "", "%s is included within itself, or more than %d deep", file, maxDepth)
		return nil
	}
	data, err := s.read(file)
	if err != nil {
		s.errs.Add(pos, "", "", "%s: %v", file, err)
		return nil
	}
	if bytes.IndexByte(data, 0) >= 0 {
		s.errs.Add(rules.Position{File: file}, "", "", "the file is not text")
		return nil
	}
	var segs []segment
	current := segment{file: file}
	for _, d := range scan(file, data, &s.errs) {
		if d.name != "include" {
			current.directives = append(current.directives, d)
			continue
		}
		if len(current.directives) > 0 {
			segs = append(segs, current)
			current = segment{file: file}
		}
		if strings.HasPrefix(d.args, "@") {
			s.errs.Add(d.pos(), "", "the policy includes the Core Rule Set with the word crs", "%s is not a file", d.args)
			continue
		}
		for _, name := range s.resolve(d.args, d.pos(), filepath.Dir(file)) {
			segs = append(segs, s.open(name, d.pos(), append(slices.Clone(stack), file))...)
		}
	}
	if len(current.directives) > 0 {
		segs = append(segs, current)
	}
	return segs
}

// digest identifies what is loaded by content.
type digest [sha256.Size]byte

// digest returns the identity of a plan, of every directive and every file, and of
// the way in which it is evaluated.
func (s *source) digest(plan []segment, c *Config) digest {
	h := sha256.New()
	write := func(p string) {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	if c.Fast {
		write(fmt.Sprintf("fast, in %d bytes", c.Memory))
	}
	for i := range plan {
		write(plan[i].file)
		write(plan[i].source())
	}
	for _, name := range slices.Sorted(maps.Keys(s.contents)) {
		write(name)
		write(string(s.contents[name]))
	}
	var d digest
	h.Sum(d[:0])
	return d
}

// source returns what the engine reads of a segment.
func (s *segment) source() string {
	if s.file == "" {
		return s.text
	}
	var b strings.Builder
	for i := range s.directives {
		b.WriteString(s.directives[i].raw)
	}
	return b.String()
}

// load builds the engine of a plan. It panics never: what the engine's parser
// does with strange input is an error.
func load(key digest, plan []segment, src *source) (l *loaded, err error) {
	defer func() {
		if v := recover(); v != nil {
			l, err = nil, fmt.Errorf("the engine failed: %v", v)
		}
	}()
	// The engine remembers data files by their path for as long as any policy
	// uses them. The digest in the path keeps an edited file from being taken for
	// the old one.
	root := newEngineFS(key, src)
	l = &loaded{key: key}
	conf := experimental.WAFConfigWithRuleObserver(coraza.NewWAFConfig().WithRootFS(root), func(r types.RuleMetadata) {
		if r.ID() != 0 {
			l.rules++
		}
	})
	for i := range plan {
		if plan[i].file == "" {
			conf = conf.WithDirectives(plan[i].text)
			continue
		}
		conf = conf.WithDirectivesFromFile(root.add(&plan[i]))
	}
	if l.waf, err = coraza.NewWAF(conf); err != nil {
		return nil, err
	}
	return l, nil
}

// engineFS is the file system that the engine sees: the files of one plan under a
// prefix, and the shipped rules under their at sign.
type engineFS struct {
	prefix   string
	src      *source
	segments map[string]string
}

// newEngineFS returns the file system of a plan.
func newEngineFS(key digest, src *source) *engineFS {
	return &engineFS{prefix: "/" + hex.EncodeToString(key[:]), src: src, segments: map[string]string{}}
}

// add gives a segment a path in the directory of its file and returns it.
func (f *engineFS) add(s *segment) string {
	file := filepath.ToSlash(s.file)
	if !strings.HasPrefix(file, "/") {
		file = "/" + file
	}
	name := f.prefix + file
	for n := 2; f.segments[name] != ""; n++ {
		name = fmt.Sprintf("%s%s+%d", f.prefix, file, n)
	}
	f.segments[name] = s.source()
	return name
}

// Open implements fs.FS. The engine reads whole files only.
func (f *engineFS) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, "@") {
		return coreruleset.FS.Open(name)
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// Glob implements fs.GlobFS, for the shipped rules.
func (f *engineFS) Glob(pattern string) ([]string, error) { return fs.Glob(coreruleset.FS, pattern) }

// ReadFile implements fs.ReadFileFS.
func (f *engineFS) ReadFile(name string) ([]byte, error) {
	if text, ok := f.segments[name]; ok {
		return []byte(text), nil
	}
	if strings.HasPrefix(name, "@owasp_crs/") {
		return fs.ReadFile(coreruleset.FS, name)
	}
	if file, ok := f.src.schemas[name]; ok {
		name = file
	}
	if b, ok := f.src.contents[strings.TrimPrefix(name, f.prefix)]; ok {
		return b, nil
	}
	if b, ok := f.src.contents[strings.TrimPrefix(strings.TrimPrefix(name, f.prefix), "/")]; ok {
		return b, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

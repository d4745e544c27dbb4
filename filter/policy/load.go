package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/geo"
	"github.com/moatwaf/moat/ratelimit"
	"github.com/moatwaf/moat/ratelimit/redis"
	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/list"
)

// Summary is what a policy holds, in numbers.
type Summary struct {
	AccessRules  int `json:"access_rules"`
	Tiers        int `json:"tiers"`
	PayloadRules int `json:"payload_rules"`
	AuthMethods  int `json:"auth_methods"`
	Requirements int `json:"requirements"`
	Lists        int `json:"lists"`
	ListEntries  int `json:"list_entries"`
	Countries    int `json:"countries"`

	Fast *FastEngine `json:"fast_engine,omitempty"` // nil with waf.engine: plain
}

// Compiled is a policy that is ready to decide.
type Compiled struct {
	Policy   *Policy
	Pipeline *filter.Pipeline
	Files    []string  // every file and pattern that was read, to be watched
	ReadAt   time.Time // before the first of them was read
	Digest   string    // of the content of all of them
	Summary  Summary

	bans      *bans
	failures  *ratelimit.Failures
	lists     map[string]addrSet
	stores    map[string]*redis.List
	sets      map[setKey]*list.Set
	remotes   map[remoteKey]*remote
	keys      map[keysKey]*issuerKeys
	methods   map[methodKey]auth.Method
	databases []*geo.Database
	closers   []func()
}

// close frees what the policy holds outside of the collector's sight. Requests
// that are still under way in its pipeline are not disturbed.
func (c *Compiled) close() {
	for _, f := range c.closers {
		f()
	}
	c.closers = nil
}

// Check reads and compiles a policy and everything that it names, as a reload
// would, and returns what it holds. The error is a rules.Errors.
func Check(ctx context.Context, o Options) (Summary, error) {
	c, done, err := trial(ctx, o)
	if err != nil {
		return Summary{}, err
	}
	defer done()
	return c.Summary, nil
}

// trial loads a policy that is not put in force. The caller calls done.
func trial(ctx context.Context, o Options) (c *Compiled, done func(), err error) {
	if o.ReadFile == nil {
		o.ReadFile = readFile
	}
	if o.CacheDir == "" {
		o.CacheDir = defaultCacheDir()
	}
	s := newState(o)
	s.checking = true
	if c, err = load(ctx, o, s); err != nil {
		s.close()
		return nil, nil, err
	}
	return c, func() { c.close(); s.close() }, nil
}

// maxPolicy bounds the policy file itself, in bytes.
const maxPolicy = 4 << 20

// loader is one attempt to load a policy. It collects faults and goes on, so
// that the operator sees all of them.
type loader struct {
	ctx     context.Context
	options Options
	state   *state
	dir     string
	policy  Policy
	errs    rules.Errors
	content hash.Hash
	files   map[string]bool
	closers []func()
	summary Summary

	banned    *bans
	failures  *ratelimit.Failures
	named     map[string]addrSet
	sets      map[setKey]*list.Set
	remotes   map[remoteKey]*remote
	keys      map[keysKey]*issuerKeys
	methods   map[methodKey]auth.Method
	databases []*geo.Database

	store       *openStore // nil if the policy names none, or is only checked
	storeOpened bool
	storeURL    string
	stores      map[string]*redis.List // lists in the store

	ids      ids  // of rules and tiers
	knowsASN bool // a database has networks
}

// load reads a policy. On a fault it returns a *loadError.
func load(ctx context.Context, o Options, s *state) (*Compiled, error) {
	started := time.Now()
	l := &loader{
		ctx: ctx, options: o, state: s, dir: filepath.Dir(o.File),
		policy: defaults(), content: sha256.New(), files: map[string]bool{}, ids: ids{}, sets: map[setKey]*list.Set{}, remotes: map[remoteKey]*remote{}, keys: map[keysKey]*issuerKeys{},
		methods: map[methodKey]auth.Method{},
	}
	pipeline := l.load()
	if len(l.errs) > 0 {
		for _, f := range l.closers {
			f()
		}
		for _, e := range l.errs {
			if e.Pos.Line > 0 && e.Pos.Column == 0 {
				e.Pos.Column = 1 // of a file that is read by lines
			}
		}
		l.errs.Sort()
		return nil, &loadError{faults: l.errs, files: l.watched(), readAt: started}
	}
	return &Compiled{
		Policy:    &l.policy,
		Pipeline:  pipeline,
		Files:     l.watched(),
		ReadAt:    started,
		Digest:    hex.EncodeToString(l.content.Sum(nil)[:12]),
		Summary:   l.summary,
		bans:      l.banned,
		failures:  l.failures,
		lists:     l.named,
		stores:    l.stores,
		sets:      l.sets,
		remotes:   l.remotes,
		keys:      l.keys,
		methods:   l.methods,
		databases: l.databases,
		closers:   l.closers,
	}, nil
}

// loadError is a failed load: its faults, and the files that it tried, so that
// a mended one is noticed.
type loadError struct {
	faults rules.Errors
	files  []string
	readAt time.Time
}

// Error implements error.
func (e *loadError) Error() string { return e.faults.Error() }

// Unwrap returns the faults.
func (e *loadError) Unwrap() error { return e.faults }

func (l *loader) load() *filter.Pipeline {
	tooLarge := func() *filter.Pipeline {
		l.errs.Add(rules.Position{File: l.options.File}, "", "move long lists into files of their own", "the policy is larger than 4 MiB")
		return nil
	}
	if info, err := os.Stat(l.options.File); err == nil && info.Mode().IsRegular() && info.Size() > maxPolicy {
		l.files[l.options.File] = true
		return tooLarge()
	}
	data, err := l.read(l.options.File)
	if err != nil {
		l.errs.Add(rules.Position{File: l.options.File}, "", "", "%s", reason(err))
		return nil
	}
	if len(data) > maxPolicy {
		return tooLarge()
	}
	l.errs = append(l.errs, rules.Decode(l.options.File, data, &l.policy)...)
	l.override()
	decoded := len(l.errs) == 0
	pipeline := l.pipeline()
	if !decoded {
		l.dropEchoes()
	}
	if len(l.errs) > 0 {
		return nil
	}
	return pipeline
}

// dropEchoes removes faults that only follow from a value that could not be
// decoded: of two faults in one place the first, the decoder's, is the cause.
func (l *loader) dropEchoes() {
	listsBroken := slices.ContainsFunc(l.errs, func(e *rules.Error) bool {
		return e.Path == "lists" || strings.HasPrefix(e.Path, "lists.")
	})
	seen := map[rules.Position]bool{}
	l.errs = slices.DeleteFunc(l.errs, func(e *rules.Error) bool {
		if seen[e.Pos] || listsBroken && isDangling(e) {
			return true
		}
		seen[e.Pos] = true
		return false
	})
}

// isDangling reports whether e is about a list name that leads nowhere.
func isDangling(e *rules.Error) bool { return strings.HasPrefix(e.Msg, "unknown list") }

// path returns the place of a file that the policy names.
func (l *loader) path(name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(l.dir, name)
}

// read reads a file, notes it as one to watch, and adds it to the digest.
func (l *loader) read(path string) ([]byte, error) {
	l.files[path] = true
	data, err := l.options.ReadFile(path)
	if err != nil {
		return nil, err
	}
	l.note(path, data)
	return data, nil
}

// note adds content to the digest of the policy.
func (l *loader) note(name string, data []byte) {
	sum := sha256.Sum256(data)
	fmt.Fprintf(l.content, "%q %x\n", name, sum)
}

// file reads the file that the policy names at a place. If it cannot be read, it
// reports that and returns false.
func (l *loader) file(at rules.Located[string]) ([]byte, bool) {
	data, err := l.read(l.path(at.Value))
	if err != nil {
		l.errs = append(l.errs, at.Errorf(hintFor(err), "%s: %s", at.Value, reason(err)))
		return nil, false
	}
	return data, true
}

// reason returns an error of the file system without the path, which the
// message names already.
func reason(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}

func hintFor(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "paths are relative to the policy file"
	}
	return ""
}

// add reports faults that a part of the program found by itself. Those without a
// place get that of the value that led there.
func (l *loader) add(at rules.Position, path string, err error) {
	if err == nil {
		return
	}
	faults, ok := err.(rules.Errors)
	if joined, several := err.(interface{ Unwrap() []error }); several && !ok {
		for _, one := range joined.Unwrap() {
			l.add(at, path, one)
		}
		return
	}
	if !ok && !errors.As(err, &faults) {
		l.errs.Add(at, path, "", "%s", err.Error())
		return
	}
	for _, f := range faults {
		if f.Pos == (rules.Position{}) {
			placed := *f
			placed.Pos = at
			if placed.Path == "" {
				placed.Path = path
			}
			f = &placed
		}
		l.errs = append(l.errs, f)
	}
}

// watched returns the files to watch, in order.
func (l *loader) watched() []string {
	files := make([]string, 0, len(l.files))
	for f := range l.files {
		files = append(files, f)
	}
	slices.Sort(files)
	return files
}

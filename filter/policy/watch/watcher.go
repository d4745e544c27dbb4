package watch

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Options are the settings of a Watcher. The zero Options are the defaults.
type Options struct {
	// Quiet is how long the files must rest before a change is told; 0 takes
	// 150 ms. MaxDelay bounds the wait where they never rest; 0 takes 1 s.
	Quiet    time.Duration
	MaxDelay time.Duration

	// Poll is the interval of the stats that find what notification misses;
	// 0 takes 1 s.
	Poll time.Duration

	// MaxFileSize is the size, in bytes, up to which content is hashed; 0
	// takes 512 MiB. A larger file has changed when its size, times or inode
	// have.
	MaxFileSize int64

	// PollOnly does without notification.
	PollOnly bool

	// OnError is told what hinders notification, once for each cause; nil
	// ignores it. Polling goes on regardless. It must not call the Watcher.
	OnError func(error)
}

// Watcher calls a function after the content of a set of files has changed. Make
// it with New, give it files with SetFiles, and start it with Run. All methods
// are safe for concurrent use.
type Watcher struct {
	onChange func(changed []string)
	options  Options
	wake     chan struct{}
	looked   func() // after each look; for tests

	mu       sync.Mutex
	patterns []string
	known    map[string]fingerprint
	replaced bool            // by SetFiles: the directories are to be found anew
	told     map[string]bool // what OnError was told
}

// New returns a Watcher of no files. onChange is called from Run's goroutine,
// one call at a time, with the absolute paths of the files that changed,
// appeared or vanished, sorted. It may call SetFiles. What changes while it runs
// leads to a further call.
func New(onChange func(changed []string), options Options) *Watcher {
	if options.Quiet <= 0 {
		options.Quiet = 150 * time.Millisecond
	}
	if options.MaxDelay <= 0 {
		options.MaxDelay = time.Second
	}
	if options.Poll <= 0 {
		options.Poll = time.Second
	}
	if options.MaxFileSize <= 0 {
		options.MaxFileSize = 512 << 20
	}
	return &Watcher{
		onChange: onChange,
		options:  options,
		wake:     make(chan struct{}, 1),
		known:    map[string]fingerprint{},
		told:     map[string]bool{},
	}
}

// SetFiles replaces the watched set: files, which need not exist, directories,
// which stand for the files directly in them, and globs of path/filepath. The
// content of files that are new in the set is taken as it is now; that of the
// others as it was at the last call of onChange, so that no change gets lost.
func (w *Watcher) SetFiles(patterns []string) { w.SetFilesReadAt(patterns, time.Time{}) }

// SetFilesReadAt is SetFiles for a caller that has read the files before it knew
// their names: a file new in the set that has changed since the time read, when
// that reading began, counts as changed.
func (w *Watcher) SetFilesReadAt(patterns []string, read time.Time) {
	patterns = slices.Clone(patterns)
	w.mu.Lock()
	defer w.mu.Unlock()
	files := w.expand(patterns)
	known := make(map[string]fingerprint, len(files))
	for _, path := range files {
		f, ok := w.known[path]
		if !ok {
			f = look(path, fingerprint{}, w.options.MaxFileSize)
			if !read.IsZero() && f.changedSince(read) {
				f = fingerprint{state: unknown}
			}
		}
		known[path] = f
	}
	w.patterns, w.known, w.replaced = patterns, known, true
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Files returns the absolute paths of the files in the set, sorted.
func (w *Watcher) Files() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	files := make([]string, 0, len(w.known))
	for path := range w.known {
		files = append(files, path)
	}
	slices.Sort(files)
	return files
}

// Run watches until ctx ends, and returns its error. It is called once.
func (w *Watcher) Run(ctx context.Context) error {
	n := w.newNotifier()
	defer n.close()
	poll := time.NewTicker(w.options.Poll)
	defer poll.Stop()

	// A look is due after the files have rested, and at the latest MaxDelay
	// after the first sign of a change.
	//
	// The first look is for what happened before the notification began.
	n.follow(w.directories())
	due := time.NewTimer(w.options.Quiet)
	defer due.Stop()
	first := time.Now()
	suspect := func() {
		now := time.Now()
		if first.IsZero() {
			first = now
		}
		due.Reset(min(w.options.Quiet, max(0, w.options.MaxDelay-now.Sub(first))))
	}

	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.wake:
			suspect()
		case <-n.events():
			suspect()
		case err := <-n.errors():
			// An overflow has lost events; whatever else it is, a look does no harm.
			w.tell(fmt.Errorf("watch: %w", err))
			suspect()
		case <-poll.C:
			if first.IsZero() && w.stale() {
				suspect()
			}
		case <-due.C:
			first = time.Time{}
			changed := w.look()
			if n.follow(w.directories()) {
				suspect() // what happened before the notification began
			}
			if len(changed) > 0 {
				w.onChange(changed)
			}
			if w.looked != nil {
				w.looked()
			}
		}
	}
}

// stale reports, by stats alone, whether a look at the content is worth it.
func (w *Watcher) stale() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.replaced {
		return true
	}
	files := w.expand(w.patterns)
	if len(files) != len(w.known) {
		return true
	}
	for _, path := range files {
		f, ok := w.known[path]
		if !ok || f.stale(path) {
			return true
		}
	}
	return false
}

// look reads what may have changed and returns the paths of what has.
func (w *Watcher) look() (changed []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replaced = false
	files := w.expand(w.patterns)
	known := make(map[string]fingerprint, len(files))
	for _, path := range files {
		old := w.known[path]
		f := look(path, old, w.options.MaxFileSize)
		if !f.same(old) {
			changed = append(changed, path)
		}
		known[path] = f
	}
	for path, old := range w.known {
		if _, ok := known[path]; !ok && old.state != missing {
			changed = append(changed, path)
		}
	}
	w.known = known
	slices.Sort(changed)
	return changed
}

func (w *Watcher) expand(patterns []string) []string {
	files, tooMany := expand(patterns)
	if tooMany {
		w.tellLocked(fmt.Errorf("watch: more than %d files; the others are not watched", maxFiles))
	}
	return files
}

func (w *Watcher) directories() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	files := make([]string, 0, len(w.known))
	for path := range w.known {
		files = append(files, path)
	}
	return directories(w.patterns, files)
}

// maxTold bounds the memory of errors.
const maxTold = 1000

func (w *Watcher) tell(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tellLocked(err)
}

func (w *Watcher) tellLocked(err error) {
	text := err.Error()
	if w.told[text] || len(w.told) >= maxTold || w.options.OnError == nil {
		return
	}
	w.told[text] = true
	w.options.OnError(err)
}

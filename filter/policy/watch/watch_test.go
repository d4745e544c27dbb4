package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// live is what the design promises: a change is noticed within this time.
const live = 2 * time.Second

// rest is how long a test waits to see that nothing is told. It covers the quiet
// time and two polls of the settings that the tests use.
const rest = 250 * time.Millisecond

// modes are the two ways in which a change can be found.
var modes = map[string]Options{
	"notified": {Quiet: 50 * time.Millisecond, Poll: time.Hour},
	"polled":   {Quiet: 50 * time.Millisecond, Poll: 100 * time.Millisecond, PollOnly: true},
}

// watching runs a Watcher of the patterns until the end of the test, and returns
// it with the channel of what it tells.
func watching(t *testing.T, options Options, patterns ...string) (*Watcher, <-chan []string) {
	t.Helper()
	told := make(chan []string, 1000)
	options.OnError = func(err error) { t.Log(err) }
	w := New(func(changed []string) { told <- changed }, options)
	w.SetFiles(patterns)
	// Past the first look, only notification or polling can find a change.
	started := make(chan struct{})
	var once sync.Once
	w.looked = func() { once.Do(func() { close(started) }) }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v, want canceled", err)
		}
	})
	<-started
	return w, told
}

// expect waits for one call that names exactly the files given.
func expect(t *testing.T, told <-chan []string, files ...string) {
	t.Helper()
	start := time.Now()
	select {
	case changed := <-told:
		slices.Sort(files)
		if !slices.Equal(changed, files) {
			t.Fatalf("told of %q, want %q", changed, files)
		}
		t.Logf("after %v", time.Since(start).Round(time.Millisecond))
	case <-time.After(live):
		t.Fatalf("nothing told within %v, want %q", live, files)
	}
}

func expectNothing(t *testing.T, told <-chan []string) {
	t.Helper()
	select {
	case changed := <-told:
		t.Fatalf("told of %q, want nothing", changed)
	case <-time.After(rest):
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tempDir returns a directory whose own path holds no symbolic link.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}

func TestChangesAreTold(t *testing.T) {
	type scene struct {
		name    string
		before  func(t *testing.T, dir string)
		pattern string
		change  func(t *testing.T, dir string)
		want    []string // below dir; none: nothing is told
	}
	policy := func(t *testing.T, dir string) { write(t, filepath.Join(dir, "policy.yaml"), "version: 1\n") }
	scenes := []scene{
		{"written in place", policy, "policy.yaml", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "policy.yaml"), "version: 1\nrules: []\n")
		}, []string{"policy.yaml"}},

		{"same size in place", policy, "policy.yaml", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "policy.yaml"), "version: 2\n")
		}, []string{"policy.yaml"}},

		{"editor renames a new file over it", policy, "policy.yaml", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, ".policy.yaml.new"), "version: 2\n")
			must(t, os.Rename(filepath.Join(dir, ".policy.yaml.new"), filepath.Join(dir, "policy.yaml")))
		}, []string{"policy.yaml"}},

		{"vim moves the old file away and writes a new one", policy, "policy.yaml", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "4913"), "")
			must(t, os.Remove(filepath.Join(dir, "4913")))
			must(t, os.Rename(filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "policy.yaml~")))
			write(t, filepath.Join(dir, "policy.yaml"), "version: 2\n")
			must(t, os.Remove(filepath.Join(dir, "policy.yaml~")))
		}, []string{"policy.yaml"}},

		{"appended", policy, "policy.yaml", func(t *testing.T, dir string) {
			f, err := os.OpenFile(filepath.Join(dir, "policy.yaml"), os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteString("# more\n")
			must(t, err)
			must(t, f.Close())
		}, []string{"policy.yaml"}},

		{"modification time set back after a change", policy, "policy.yaml", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "policy.yaml")
			info, err := os.Stat(path)
			must(t, err)
			write(t, path, "version: 2\n")
			must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
		}, []string{"policy.yaml"}},

		{"created", func(*testing.T, string) {}, "policy.yaml", policy, []string{"policy.yaml"}},

		{"created with its directory", func(*testing.T, string) {}, "lists/drop.netset", func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "lists"), 0o700))
			write(t, filepath.Join(dir, "lists", "drop.netset"), "192.0.2.1\n")
		}, []string{"lists/drop.netset"}},

		{"deleted", policy, "policy.yaml", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "policy.yaml")))
		}, []string{"policy.yaml"}},

		{"directory moved away and another in its place", func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o700))
			write(t, filepath.Join(dir, "etc", "policy.yaml"), "version: 1\n")
			must(t, os.Mkdir(filepath.Join(dir, "new"), 0o700))
			write(t, filepath.Join(dir, "new", "policy.yaml"), "version: 2\n")
		}, "etc/policy.yaml", func(t *testing.T, dir string) {
			must(t, os.Rename(filepath.Join(dir, "etc"), filepath.Join(dir, "old")))
			must(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "etc")))
		}, []string{"etc/policy.yaml"}},

		{"Kubernetes swaps the link ..data", configMap, "policy.yaml", func(t *testing.T, dir string) {
			swapConfigMap(t, dir, "..2025_02", "version: 2\n")
		}, []string{"policy.yaml"}},

		{"Kubernetes swaps the link with the same content", configMap, "policy.yaml", func(t *testing.T, dir string) {
			swapConfigMap(t, dir, "..2025_02", "version: 1\n")
		}, nil},

		{"a link far up the path is swapped", func(t *testing.T, dir string) {
			for _, release := range []string{"5", "6"} {
				must(t, os.MkdirAll(filepath.Join(dir, "releases", release), 0o700))
				write(t, filepath.Join(dir, "releases", release, "policy.yaml"), "version: "+release+"\n")
			}
			must(t, os.Symlink("releases/5", filepath.Join(dir, "current")))
		}, "current/policy.yaml", func(t *testing.T, dir string) {
			must(t, os.Symlink("releases/6", filepath.Join(dir, "next")))
			must(t, os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "current")))
		}, []string{"current/policy.yaml"}},

		{"the target of a link elsewhere is written", func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "git"), 0o700))
			must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o700))
			policy(t, filepath.Join(dir, "git"))
			must(t, os.Symlink(filepath.Join(dir, "git", "policy.yaml"), filepath.Join(dir, "etc", "policy.yaml")))
		}, "etc/policy.yaml", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "git", "policy.yaml"), "version: 2\n")
		}, []string{"etc/policy.yaml"}},

		{"a file appears for a glob", policy, "*.conf", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "local.conf"), "SecRuleEngine On\n")
		}, []string{"local.conf"}},

		{"a file vanishes from a glob", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "a.conf"), "a")
			write(t, filepath.Join(dir, "b.conf"), "b")
		}, "*.conf", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "a.conf")))
		}, []string{"a.conf"}},

		{"a directory's files", func(t *testing.T, dir string) {
			must(t, os.MkdirAll(filepath.Join(dir, "lists", "below"), 0o700))
			write(t, filepath.Join(dir, "lists", "a"), "a")
			write(t, filepath.Join(dir, "lists", "c"), "c")
		}, "lists", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "lists", "a"), "A")
			write(t, filepath.Join(dir, "lists", "b"), "b")
			must(t, os.Remove(filepath.Join(dir, "lists", "c")))
			write(t, filepath.Join(dir, "lists", ".b.swp"), "editor")
			write(t, filepath.Join(dir, "lists", "b~"), "editor")
			write(t, filepath.Join(dir, "lists", "below", "d"), "not watched")
		}, []string{"lists/a", "lists/b", "lists/c"}},

		{"written again as it was", policy, "policy.yaml", policy, nil},

		{"touched", policy, "policy.yaml", func(t *testing.T, dir string) {
			must(t, os.Chtimes(filepath.Join(dir, "policy.yaml"), time.Now(), time.Now().Add(time.Hour)))
		}, nil},

		{"mode changed", policy, "policy.yaml", func(t *testing.T, dir string) {
			must(t, os.Chmod(filepath.Join(dir, "policy.yaml"), 0o644))
		}, nil},

		{"changed and changed back at once", policy, "policy.yaml", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "policy.yaml"), "version: 2\n")
			policy(t, dir)
		}, nil},

		{"another file in the directory", policy, "policy.yaml", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "other.yaml"), "x")
		}, nil},
	}
	for mode, options := range modes {
		for _, s := range scenes {
			t.Run(mode+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				dir := tempDir(t)
				s.before(t, dir)
				_, told := watching(t, options, filepath.Join(dir, s.pattern))
				s.change(t, dir)
				if s.want != nil {
					var files []string
					for _, name := range s.want {
						files = append(files, filepath.Join(dir, name))
					}
					expect(t, told, files...)
				}
				expectNothing(t, told)
			})
		}
	}
}

// configMap lays out a volume as the kubelet does.
func configMap(t *testing.T, dir string) {
	swapConfigMap(t, dir, "..2025_01", "version: 1\n")
	must(t, os.Symlink("..data/policy.yaml", filepath.Join(dir, "policy.yaml")))
}

func swapConfigMap(t *testing.T, dir, version, content string) {
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
	write(t, filepath.Join(dir, version, "policy.yaml"), content)
	must(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if old != "" {
		must(t, os.RemoveAll(filepath.Join(dir, old)))
	}
}

func TestBurstOfWritesIsOneCall(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	path := filepath.Join(dir, "drop.netset")
	_, told := watching(t, Options{Poll: time.Hour, Quiet: 200 * time.Millisecond, MaxDelay: time.Minute}, path)
	f, err := os.Create(path)
	must(t, err)
	for i := range 50 {
		_, err := fmt.Fprintf(f, "192.0.2.%d\n", i)
		must(t, err)
		time.Sleep(2 * time.Millisecond) // the burst is the scenario
	}
	must(t, f.Close())
	expect(t, told, path)
	expectNothing(t, told)
}

func TestWritesWithoutEndAreToldWithinTheDelay(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	path := filepath.Join(dir, "drop.netset")
	_, told := watching(t, Options{Poll: time.Hour, Quiet: time.Second, MaxDelay: 300 * time.Millisecond}, path)
	for i := 0; ; i++ {
		write(t, path, fmt.Sprint(i))
		select {
		case <-told:
			return
		case <-time.After(10 * time.Millisecond):
		}
		if i > 200 {
			t.Fatal("nothing told within two seconds of writing")
		}
	}
}

func TestDefaultsAreLiveInTwoSeconds(t *testing.T) {
	for name, options := range map[string]Options{"notified": {}, "polled": {PollOnly: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(tempDir(t), "policy.yaml")
			write(t, path, "version: 1\n")
			_, told := watching(t, options, path)
			for i := range 3 {
				write(t, path, fmt.Sprintf("version: %d\n", i+2))
				expect(t, told, path)
			}
		})
	}
}

func TestSetIsReplacedDuringTheCall(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	main, list := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "drop.netset")
	write(t, main, "lists: []")
	write(t, list, "192.0.2.1")
	told := make(chan []string, 10)
	var w *Watcher
	w = New(func(changed []string) {
		if slices.Contains(changed, main) {
			w.SetFiles([]string{main, list})
		}
		told <- changed
	}, modes["notified"])
	w.SetFiles([]string{main})
	go func() { _ = w.Run(t.Context()) }()
	expectNothing(t, told)

	write(t, list, "192.0.2.2") // not in the set yet
	expectNothing(t, told)
	write(t, main, "lists: [drop]")
	expect(t, told, main)
	expectNothing(t, told)
	if got := w.Files(); !slices.Equal(got, []string{list, main}) {
		t.Errorf("files %q", got)
	}
	write(t, list, "192.0.2.3")
	expect(t, told, list)
}

func TestChangeDuringTheCallIsToldAfterIt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(tempDir(t), "policy.yaml")
	write(t, path, "1")
	told := make(chan []string)
	w := New(func(changed []string) { told <- changed }, modes["polled"])
	w.SetFiles([]string{path})
	go func() { _ = w.Run(t.Context()) }()
	write(t, path, "2")
	expect(t, told, path) // the call has ended or is about to
	write(t, path, "3")
	expect(t, told, path)
	expectNothing(t, told)
}

func TestFileReadBeforeItWasWatched(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	old, fresh := filepath.Join(dir, "old"), filepath.Join(dir, "fresh")
	write(t, old, "1")
	write(t, fresh, "1")
	long := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(old, long, long))
	w, told := watching(t, modes["notified"])
	w.SetFilesReadAt([]string{old, fresh}, time.Now().Add(time.Minute))
	expectNothing(t, told)
	w.SetFilesReadAt(nil, time.Time{})
	w.SetFilesReadAt([]string{fresh}, time.Now().Add(-time.Minute))
	expect(t, told, fresh)
	w.SetFilesReadAt([]string{fresh}, time.Now().Add(-time.Minute))
	expectNothing(t, told) // known already
}

func TestLargeAndOddFiles(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	large, pipe := filepath.Join(dir, "large.mmdb"), filepath.Join(dir, "pipe")
	write(t, large, strings.Repeat("x", 100))
	must(t, mkfifo(pipe))
	options := modes["notified"]
	options.MaxFileSize = 10
	_, told := watching(t, options, large, pipe) // reading the pipe would hang
	expectNothing(t, told)
	write(t, large, strings.Repeat("y", 100))
	expect(t, told, large)
}

func TestUnreadableFileIsAState(t *testing.T) {
	loop := filepath.Join(tempDir(t), "loop")
	must(t, os.Symlink("loop", loop))
	f := look(loop, fingerprint{}, 10)
	if f.state != unreadable || !f.same(look(loop, f, 10)) || !f.stale(loop) {
		t.Errorf("%+v, want unreadable and to be looked at again", f)
	}
	if dirs := directories([]string{loop}, []string{loop}); !slices.Equal(dirs, []string{filepath.Dir(loop)}) {
		t.Errorf("directories %q", dirs)
	}
}

func TestPatternsAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("creates many files")
	}
	t.Parallel()
	dir := tempDir(t)
	for i := range maxFiles + 1 {
		write(t, filepath.Join(dir, fmt.Sprint(i)), "")
	}
	files, tooMany := expand([]string{dir})
	if len(files) != maxFiles || !tooMany {
		t.Errorf("%d files, %v", len(files), tooMany)
	}
	var told []error
	w := New(nil, Options{OnError: func(err error) { told = append(told, err) }})
	w.SetFiles([]string{dir})
	w.SetFiles([]string{dir})
	if len(told) != 1 {
		t.Errorf("told %v, want one error", told)
	}
}

func TestFileNamedLikeAGlob(t *testing.T) {
	dir := tempDir(t)
	path := filepath.Join(dir, "[a]*")
	write(t, path, "")
	write(t, filepath.Join(dir, "a1"), "")
	if files, _ := expand([]string{path}); !slices.Equal(files, []string{path}) {
		t.Errorf("%q, want the file itself", files)
	}
	bad := filepath.Join(dir, "[")
	if files, _ := expand([]string{bad}); !slices.Equal(files, []string{bad}) {
		t.Errorf("%q, want the broken glob as a missing file", files)
	}
}

// BenchmarkPoll is what an idle watcher costs a second.
func BenchmarkPoll(b *testing.B) {
	dir := b.TempDir()
	var files []string
	for i := range 50 {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
			b.Fatal(err)
		}
		files = append(files, path)
	}
	w := New(nil, Options{})
	w.SetFiles(files)
	w.replaced = false
	b.ReportAllocs()
	for b.Loop() {
		w.stale()
	}
}

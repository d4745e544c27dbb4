package list

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moatwaf/moat/rules"
)

// feed is a server of one list, whose answer a test may change.
type feed struct {
	*httptest.Server
	answer   atomic.Pointer[http.HandlerFunc]
	requests atomic.Int32
	errs     []error
}

func newFeed(t *testing.T, answer http.HandlerFunc) *feed {
	t.Helper()
	f := &feed{}
	f.answer.Store(&answer)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		(*f.answer.Load())(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *feed) source(t *testing.T) Source {
	return Source{URL: f.URL + "/drop.txt?key=hunter2", CacheDir: filepath.Join(t.TempDir(), "lists"), Every: MinEvery,
		OnError: func(err error) { f.errs = append(f.errs, err) }}
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func zipped(s string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, s)
	_ = z.Close()
	return b.Bytes()
}

func holds(t *testing.T, s *Set, addr string) {
	t.Helper()
	if !s.Contains(netip.MustParseAddr(addr)) {
		t.Errorf("the list does not hold %s", addr)
	}
}

// age makes the copy on disk older.
func age(t *testing.T, s *Source, by time.Duration) {
	t.Helper()
	c, err := s.readCache()
	if err != nil || c == nil {
		t.Fatalf("no copy on disk: %v", err)
	}
	c.fetched = c.fetched.Add(-by)
	if err := s.writeCache(c, nil); err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	entries := []rules.Located[string]{{Value: "192.0.2.1"}}
	for name, c := range map[string]struct {
		source Source
		good   bool
	}{
		"entries":           {Source{Entries: entries}, true},
		"no entries":        {Source{}, true},
		"file":              {Source{File: "a"}, true},
		"https":             {Source{URL: "https://lists.example/a"}, true},
		"http":              {Source{URL: "http://lists.example/a"}, true},
		"file and url":      {Source{File: "a", URL: "https://lists.example/a"}, false},
		"entries and file":  {Source{Entries: entries, File: "a"}, false},
		"entries and url":   {Source{Entries: entries, URL: "https://lists.example/a"}, false},
		"scheme":            {Source{URL: "ftp://lists.example/a"}, false},
		"local file":        {Source{URL: "file:///etc/passwd"}, false},
		"no host":           {Source{URL: "https:///a"}, false},
		"no url":            {Source{URL: "https://a b/\x7f"}, false},
		"asked too often":   {Source{URL: "https://lists.example/a", Every: time.Second}, false},
		"negative interval": {Source{URL: "https://lists.example/a", Every: -time.Hour}, false},
		"negative bound":    {Source{URL: "https://lists.example/a", MaxBytes: -1}, false},
	} {
		if err := c.source.Check(); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if !c.good {
			if _, err := c.source.Load(t.Context()); err == nil {
				t.Errorf("%s: loaded all the same", name)
			}
		}
	}
}

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, path := range []string{write("a.netset", []byte("192.0.2.1\n")), write("a.netset.gz", zipped("192.0.2.1\n"))} {
		s, err := (&Source{File: path}).Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		holds(t, s, "192.0.2.1")
	}
	for name, c := range map[string]struct{ file, want string }{
		"missing":   {filepath.Join(dir, "none"), "none: no such file or directory"},
		"folder":    {dir, ": not a regular file"},
		"device":    {os.DevNull, "/dev/null: not a regular file"},
		"too large": {write("large", []byte("192.0.2.1\n192.0.2.2\n")), "large: larger than 19B"},
		"bomb":      {write("bomb.gz", zipped(strings.Repeat("#", 1<<20))), "bomb.gz: larger than 19B"},
		"truncated": {write("cut.gz", zipped("192.0.2.1\n")[:20]), "cut.gz: unexpected EOF"},
		"faulty":    {write("bad", []byte("192.0.2.1\nx\n")), `bad:2:1: "x" is not an address`},
	} {
		s, err := (&Source{File: c.file, MaxBytes: 19}).Load(t.Context())
		if err == nil || s != nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	s, err := (&Source{Entries: []rules.Located[string]{{Value: "192.0.2.9"}}}).Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	holds(t, s, "192.0.2.9")
}

// TestValidators asserts that the server is asked for changes only, across
// restarts, with what it gave.
func TestValidators(t *testing.T) {
	f := newFeed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"1"` && r.Header.Get("If-Modified-Since") == "Mon, 02 Jan 2006 15:04:05 GMT" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		_, _ = io.WriteString(w, "192.0.2.1\n")
	})
	s := f.source(t)
	for i, want := range []int32{1, 1, 2, 2} { // asked; fresh; asked, 304; fresh again
		set, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		holds(t, set, "192.0.2.1")
		if got := f.requests.Load(); got != want {
			t.Errorf("load %d: %d requests, want %d", i, got, want)
		}
		if i == 1 {
			age(t, &s, 2*MinEvery)
		}
	}
	if len(f.errs) > 0 {
		t.Errorf("told of %v", f.errs)
	}
}

// TestBadAnswer asserts for every sort of bad answer that it is refused when
// there is no copy, and leaves the copy in force and on disk when there is one.
func TestBadAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"status":       {status(http.StatusServiceUnavailable), "/drop.txt: the server answered 503"},
		"not modified": {status(http.StatusNotModified), "the server answered 304"},
		"no content":   {status(http.StatusNoContent), "the server answered 204"},
		"partial":      {status(http.StatusPartialContent), "the server answered 206"},
		"empty":        {text(" \n"), "/drop.txt: the answer is empty"},
		"error page":   {text("<html>sorry</html>\n"), `/drop.txt:1:1: "<html>sorry<` /* to the slash */},
		"faulty line":  {text("192.0.2.1\n192.0.2.0/33\n"), `/drop.txt:2:11: "33" is not a prefix length`},
		"too large":    {text(strings.Repeat("#", 2000)), "/drop.txt: larger than 1KiB"},
		"bomb":         {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(zipped(strings.Repeat("#", 1<<20))) }, "larger than 1KiB"},
		"cut off":      {cutOff([]byte("192.0.2.1\n"), nil), "/drop.txt: the answer was cut off"},
		"cut off gzip": {cutOff(zipped("192.0.2.1\n"), http.Header{"Content-Encoding": {"gzip"}}), "the answer was cut off"},
		"false gzip": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("192.0.2.1\n192.0.2.2\n"))
		}, "gzip"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/drop.txt?key=hunter2", http.StatusFound)
		}, "/drop.txt: more than 5 redirects"},
		"other scheme": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}, "neither https nor http"},
		"too slow":      {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline exceeded"},
		"gap in counts": {text(`{"cidr":"192.0.2.0/24"}` + "\n" + `{"type":"metadata","records":7}`), "the metadata counts 7 records"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, c.answer)
			s := f.source(t)
			s.MaxBytes = 1 << 10
			slow := time.Duration(0)
			if name == "too slow" {
				slow = 100 * time.Millisecond
			}
			s.Timeout = slow
			set, err := s.Load(t.Context())
			if set != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("without a copy: %v, want %s", err, c.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the key: %v", err)
			}

			good := text("198.51.100.0/24\n")
			f.answer.Store(&good)
			s.Timeout = 0
			if _, err := s.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			age(t, &s, time.Hour)
			f.answer.Store(&c.answer)
			s.Timeout = slow
			for range 2 {
				set, err = s.Load(t.Context())
				if name == "not modified" {
					break // which is a good answer now
				}
				if err != nil || len(f.errs) == 0 {
					t.Fatalf("with a copy: %v, told %v", err, f.errs)
				}
				holds(t, set, "198.51.100.7")
			}
		})
	}
}

// cutOff announces the length of data and ends the connection before.
func cutOff(data []byte, header http.Header) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range header {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:len(data)-1])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestServerDownAtStart(t *testing.T) {
	f := newFeed(t, text("192.0.2.1\n"))
	s := f.source(t)
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	age(t, &s, 24*time.Hour)
	f.Close()
	set, err := s.Load(t.Context())
	if err != nil || len(f.errs) != 1 {
		t.Fatalf("%v, told %v", err, f.errs)
	}
	holds(t, set, "192.0.2.1")
	var loadErr *LoadError
	if !errors.As(f.errs[0], &loadErr) || strings.Contains(f.errs[0].Error(), "hunter2") {
		t.Errorf("told %v", f.errs[0])
	}

	s.CacheDir = t.TempDir()
	if _, err := s.Load(t.Context()); err == nil {
		t.Error("loaded from nowhere")
	}
}

func TestOffline(t *testing.T) {
	f := newFeed(t, text("192.0.2.1\n"))
	s := f.source(t)
	s.Offline = true
	if _, err := s.Load(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "/drop.txt: there is no copy on disk") {
		t.Errorf("got %v", err)
	}
	s.Offline = false
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	age(t, &s, 1000*time.Hour)
	s.Offline = true
	if _, err := s.Load(t.Context()); err != nil || f.requests.Load() != 1 {
		t.Errorf("%v after %d requests", err, f.requests.Load())
	}
}

func TestGzip(t *testing.T) {
	f := newFeed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/encoded" {
			w.Header().Set("Content-Encoding", "gzip")
		}
		_, _ = w.Write(zipped("192.0.2.1\n"))
	})
	for _, path := range []string{"/encoded", "/list.gz"} {
		set, err := (&Source{URL: f.URL + path}).Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		holds(t, set, "192.0.2.1")
	}
}

func TestRedirects(t *testing.T) {
	plain := newFeed(t, text("192.0.2.1\n"))
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/down":
			http.Redirect(w, r, plain.URL, http.StatusFound)
		case "/same":
			http.Redirect(w, r, "/list", http.StatusMovedPermanently)
		default:
			_, _ = io.WriteString(w, "192.0.2.1\n")
		}
	}))
	defer secure.Close()
	load := func(path string) error {
		_, err := (&Source{URL: secure.URL + path, Transport: secure.Client().Transport}).Load(t.Context())
		return err
	}
	if err := load("/same"); err != nil {
		t.Error(err)
	}
	if err := load("/down"); !errors.Is(err, errDowngrade) || plain.requests.Load() != 0 {
		t.Errorf("https to http: %v, %d requests", err, plain.requests.Load())
	}
	up := newFeed(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, secure.URL+"/list", http.StatusFound)
	})
	if _, err := (&Source{URL: up.URL, Transport: secure.Client().Transport}).Load(t.Context()); err != nil {
		t.Errorf("http to https: %v", err)
	}
}

// TestDamagedCopy asserts that a copy that is not what was downloaded is told of,
// never used, and replaced.
func TestDamagedCopy(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"copy changed":       func(dir string) error { return overwrite(dir, "*.list", "0.0.0.0/0\n") },
		"copy gone":          func(dir string) error { return overwrite(dir, "*.list", "") },
		"metadata cut off":   func(dir string) error { return overwrite(dir, "*.json", `{"sha256":"`) },
		"metadata of others": func(dir string) error { return overwrite(dir, "*.json", `{"sha256":"../../x"}`) },
		"metadata too large": func(dir string) error { return overwrite(dir, "*.json", strings.Repeat(" ", maxMetadata+1)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, text("192.0.2.1\n"))
			s := f.source(t)
			if _, err := s.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := damage(s.CacheDir); err != nil {
				t.Fatal(err)
			}
			set, err := s.Load(t.Context())
			if err != nil || len(f.errs) != 1 || f.requests.Load() != 2 {
				t.Fatalf("%v, told %v, %d requests", err, f.errs, f.requests.Load())
			}
			if set.Contains(netip.MustParseAddr("203.0.113.1")) {
				t.Error("the damaged copy was used")
			}
			s.Offline = true
			if _, err := s.Load(t.Context()); err != nil {
				t.Errorf("the copy was not replaced: %v", err)
			}
		})
	}
}

// overwrite changes the only file of a pattern, or removes it.
func overwrite(dir, pattern, content string) error {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("%d files %s, %v", len(files), pattern, err)
	}
	if content == "" {
		return os.Remove(files[0])
	}
	return os.WriteFile(files[0], []byte(content), 0o600)
}

func TestCacheFolder(t *testing.T) {
	f := newFeed(t, text("192.0.2.1\n"))
	s := f.source(t)
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := text("192.0.2.2\n")
	f.answer.Store(&next)
	age(t, &s, time.Hour)
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(s.CacheDir)
	if err != nil || len(files) != 2 {
		t.Errorf("want one copy and its metadata, got %v, %v", files, err)
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", file.Name(), info.Mode(), err)
		}
		data, err := os.ReadFile(filepath.Join(s.CacheDir, file.Name()))
		if err != nil || bytes.Contains(data, []byte("hunter2")) {
			t.Errorf("%s: %v, or it tells the key of the url", file.Name(), err)
		}
	}

	// A folder that cannot be written costs the copy, not the list.
	s.CacheDir = filepath.Join(os.DevNull, "lists")
	f.errs = nil
	if _, err := s.Load(t.Context()); err != nil || len(f.errs) == 0 {
		t.Errorf("%v, told %v", err, f.errs)
	}
}

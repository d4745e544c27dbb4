package list

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/moatwaf/moat/rules"
)

// Defaults and bounds of a Source.
const (
	DefaultEvery    = time.Hour
	MinEvery        = time.Minute
	DefaultTimeout  = time.Minute
	DefaultMaxBytes = 64 << 20
)

// Source says where a list comes from: Entries, File or URL, one of them. It is
// not changed by its methods, which are safe for concurrent use.
type Source struct {
	// Entries are written in the policy. They are the source if File and URL
	// are empty.
	Entries []rules.Located[string]
	// File is the path of a file, which may be compressed with gzip.
	File string
	// URL is where the list is published, by https or http.
	URL string

	// Format is the notation of a file and of what a URL answers.
	Format Format
	// MaxBytes is the largest list that is read, uncompressed; 0 is
	// DefaultMaxBytes.
	MaxBytes int64

	// Every is the interval of refreshes of a URL; 0 is DefaultEvery. A copy on
	// disk that is younger is taken without a question to the server.
	Every time.Duration
	// Timeout is how long one download may take; 0 is DefaultTimeout.
	Timeout time.Duration
	// CacheDir is the folder for the last good copy of what a URL answered,
	// made if it is missing; empty keeps none.
	CacheDir string
	// Offline takes the copy on disk whatever its age, and asks no server.
	Offline bool
	// Transport carries the requests; nil is one like http.DefaultTransport.
	Transport http.RoundTripper
	// OnError is told of faults that do not stop the list from being used: a
	// server that does not answer while there is a good copy, a copy that
	// cannot be written. It may be nil, and must not block.
	OnError func(error)
}

// LoadError is a list that could not be read. Faulty lines are rules.Errors
// instead.
type LoadError struct {
	// Source is the file, or the URL without user, password and query, which
	// may be secret.
	Source string
	Err    error
}

// Error returns the source and the cause.
func (e *LoadError) Error() string { return e.Source + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *LoadError) Unwrap() error { return e.Err }

// Check reports what is wrong with the source itself, without reading anything.
func (s *Source) Check() error {
	switch {
	case s.File != "" && (s.URL != "" || s.Entries != nil), s.URL != "" && s.Entries != nil:
		return errors.New("a list has entries, a file or a url, one of them")
	case s.Every != 0 && s.Every < MinEvery:
		return fmt.Errorf("a list is asked for every %v at most, not every %v", MinEvery, s.Every)
	case s.MaxBytes < 0 || s.Timeout < 0:
		return errors.New("a negative bound")
	case s.URL == "":
		return nil
	}
	u, err := url.Parse(s.URL)
	switch {
	case err != nil:
		return errors.New("the url of a list cannot be read") // the error repeats the URL
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return errors.New("the url of a list begins with https:// or http:// and names a host")
	}
	return nil
}

// Load reads the list. The error is rules.Errors if the list has faulty lines,
// else a *LoadError, or what Check returns.
//
// Of a URL it returns, in this order: the copy on disk if it is younger than
// Every, the answer of the server, the copy on disk if there is no good answer.
// In the last case it tells OnError why. Where there is a copy on disk the server
// has a few seconds to answer, else the whole Timeout.
func (s *Source) Load(ctx context.Context) (*Set, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	switch {
	case s.URL != "":
		c, err := s.loadURL(ctx)
		if err != nil {
			return nil, err
		}
		return c.set, nil
	case s.File != "":
		return s.loadFile()
	}
	set, errs := ParseEntries(s.Entries)
	return set, errs.Err()
}

func (s *Source) loadFile() (*Set, error) {
	data, err := readFile(s.File, s.maxBytes())
	if err != nil {
		return nil, &LoadError{s.File, err}
	}
	set, errs := Parse(s.File, data, s.Format)
	return set, errs.Err()
}

// loadURL returns the best copy at hand.
func (s *Source) loadURL(ctx context.Context) (*snapshot, error) {
	old, err := s.readCache()
	if err != nil {
		s.report(err)
	}
	if old != nil && (s.Offline || old.fresh(s.every())) {
		return old, nil
	}
	if s.Offline {
		return nil, &LoadError{s.displayURL(), errors.New("there is no copy on disk")}
	}
	asking := ctx
	if old != nil {
		// A program that starts, or a reload, does not wait long for a server
		// that hangs while there is something to go on with.
		var cancel context.CancelFunc
		asking, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	now, err := s.fetch(asking, old)
	if err == nil {
		return now, nil
	}
	if old == nil {
		return nil, err
	}
	s.report(err)
	return old, nil
}

// patience is how long Load waits for a server where there is a copy on disk.
var patience = 5 * time.Second

func (s *Source) report(err error) {
	if s.OnError != nil {
		s.OnError(err)
	}
}

func (s *Source) every() time.Duration {
	if s.Every == 0 {
		return DefaultEvery
	}
	return s.Every
}

func (s *Source) maxBytes() int64 {
	if s.MaxBytes == 0 {
		return DefaultMaxBytes
	}
	return s.MaxBytes
}

// displayURL returns the URL without the parts that may be secret.
func (s *Source) displayURL() string {
	u, err := url.Parse(s.URL)
	if err != nil {
		return "url"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// readFile reads a regular file, through gzip if it is compressed.
func readFile(path string, limit int64) ([]byte, error) {
	// A pipe would block before it can be told from a file.
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	return readAll(f, limit)
}

// withoutPath returns the cause of an error of package os, which repeats the path.
func withoutPath(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// readAll reads limit bytes at most, uncompressed, and fails if there are more.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	buffered := bufio.NewReader(r)
	r = buffered
	if magic, err := buffered.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		unzipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, err
		}
		r = unzipped
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("larger than %v", rules.Size(limit))
	}
	return data, nil
}

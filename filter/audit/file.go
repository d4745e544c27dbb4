package audit

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// file is an append-only file that can be reopened under its path.
type file struct {
	path       string
	generation atomic.Uint64

	mu sync.Mutex
	f  *os.File
}

func openFile(path string) (*file, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	return &file{path: path, f: f}, nil
}

// open appends: several writers share a file, and a file that is cut to nothing
// by a rotation goes on at its beginning. A named pipe that nobody reads is an
// error, where it would otherwise hold up the program.
func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o600)
}

// Write implements io.Writer.
func (f *file) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Write(p)
}

func (f *file) reopen() error {
	next, err := open(f.path)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	f.mu.Lock()
	old := f.f
	f.f = next
	f.generation.Add(1)
	f.mu.Unlock()
	if err := old.Close(); err != nil {
		return fmt.Errorf("audit: closing the old file: %w", err)
	}
	return nil
}

// Close implements io.Closer.
func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Close()
}

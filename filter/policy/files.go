package policy

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxFile bounds what is read of a file that a policy names, in bytes. Lists of
// some ten million prefixes and the largest geo databases fit.
const maxFile = 1 << 30

// readFile reads a whole regular file, bounded.
func readFile(name string) ([]byte, error) { return readAtMost(name, maxFile) }

// readAtMost reads a whole regular file of at most limit bytes.
//
// A named pipe or a device in the place of a file must not hold up a reload, and
// with it every later one and the end of the program.
func readAtMost(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := readable(info); err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	if info.Size() > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errTooLarge}
	}
	b := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	if _, err := b.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit { // it grows while it is read
		return nil, &fs.PathError{Op: "read", Path: name, Err: errTooLarge}
	}
	return b.Bytes(), nil
}

var (
	errDirectory  = errors.New("is a directory")
	errNotRegular = errors.New("is no regular file")
	errTooLarge   = errors.New("the file is larger than 1 GiB")
)

// readable reports what is wrong with a file that is to be read whole.
func readable(info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return errDirectory
	case !info.Mode().IsRegular():
		return errNotRegular
	}
	return nil
}

// unreadable returns the first file that a pattern names and that is there, but is
// nothing to be read whole. The payload stage opens its files by itself.
func unreadable(pattern string) (name string, err error) {
	names, globErr := filepath.Glob(pattern)
	if globErr != nil || len(names) == 0 {
		names = []string{pattern}
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			if err := readable(info); err != nil {
				return name, err
			}
		}
	}
	return "", nil
}

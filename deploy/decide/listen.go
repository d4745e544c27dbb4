package decide

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// ListenUnix listens on a socket file of the mode. A file that a process left
// behind is replaced; one that somebody listens on is not, and is an error, like a
// file that is no socket. The file is there, with its mode, only when questions are
// taken.
//
// release removes the file, unless another process has replaced it. It is called
// before the listener is closed, so that nobody finds a socket that does not answer.
func ListenUnix(path string, mode fs.FileMode) (l net.Listener, release func(), err error) {
	if err := vacant(path); err != nil {
		return nil, nil, err
	}
	// The socket gets its mode under a name that nobody knows.
	hidden := path + "." + rand.Text()[:8]
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot listen on %s: %w", path, cause(err))
	}
	u.SetUnlinkOnClose(false)
	fail := func(err error) (net.Listener, func(), error) {
		return nil, nil, fmt.Errorf("cannot listen on %s: %w", path, errors.Join(err, u.Close(), os.Remove(hidden)))
	}
	if err := os.Chmod(hidden, mode); err != nil {
		return fail(err)
	}
	own, err := os.Lstat(hidden)
	if err != nil {
		return fail(err)
	}
	if err := os.Rename(hidden, path); err != nil {
		return fail(err)
	}
	return u, func() {
		if now, err := os.Lstat(path); err == nil && os.SameFile(own, now) {
			_ = os.Remove(path) // whoever finds it is refused, and a new process replaces it
		}
	}, nil
}

// vacant reports what stands in the way of a socket file at path.
func vacant(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot listen on %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("cannot listen on %s: there is a file that is no socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("cannot listen on %s: another process does", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot listen on %s: nobody knows whether another process does: %w", path, cause(err))
	}
	return nil
}

// cause returns the error of the system under one of package net.
func cause(err error) error {
	var failed *net.OpError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

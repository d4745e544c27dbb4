package watch

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// identity is what a stat says of a file. While it stays equal the content is
// not read again.
type identity struct {
	size     int64
	modified int64 // nanoseconds
	changed  int64 // nanoseconds; of the inode, where the system tells
	device   uint64
	inode    uint64
	mode     fs.FileMode
}

// newest returns the later of the two times.
func (id identity) newest() time.Time { return time.Unix(0, max(id.modified, id.changed)) }

// fingerprint is the content of one file at one time.
type fingerprint struct {
	state state
	sum   [sha256.Size]byte // of a hashed file

	id identity
	// young says that the file had just changed when it was read: a further
	// change within the same tick of the file system's clock would not show
	// in the identity.
	young bool
}

type state uint8

const (
	missing state = iota
	unreadable
	hashed
	statOnly // too large to hash, or no regular file
	unknown  // may have changed unseen: equals nothing
)

// same reports whether the content is the same.
func (f fingerprint) same(g fingerprint) bool {
	switch {
	case f.state != g.state:
		return false
	case f.state == hashed:
		return f.sum == g.sum
	case f.state == statOnly:
		return f.id == g.id
	}
	return f.state != unknown
}

// clockSlack is how far the clock of a file system may lie behind.
const clockSlack = 20 * time.Millisecond

// changedSince reports whether the file exists and was changed at t or later.
func (f fingerprint) changedSince(t time.Time) bool {
	return f.state != missing && f.state != unreadable && !f.id.newest().Before(t.Add(-clockSlack))
}

// youth is how old a file must be for its identity to be trusted: well over the
// tick of the clocks of local file systems (4 ms on Linux) and the whole second
// of old network ones.
const youth = 1500 * time.Millisecond

// stale reports, by a stat alone, whether the file may hold something else than f.
func (f fingerprint) stale(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return f.state != missing || !errors.Is(err, fs.ErrNotExist)
	}
	return f.state != hashed && f.state != statOnly || f.id != identify(info) || f.young
}

// look returns the fingerprint of the file at path. It takes over the sum of old
// while the identity is the same. Files over limit bytes, and what is no regular
// file, are told apart by their stat.
func look(path string, old fingerprint, limit int64) fingerprint {
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fingerprint{state: missing}
		}
		return fingerprint{state: unreadable}
	}
	id := identify(info)
	if old.state == hashed && !old.young && old.id == id {
		return old
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return fingerprint{state: statOnly, id: id}
	}
	// The age is taken before the reading: a file that changes meanwhile is
	// young, or has another identity at the next look.
	f := fingerprint{state: hashed, id: id, young: time.Since(id.newest()) < youth}
	file, err := os.Open(path)
	if err != nil {
		return fingerprint{state: unreadable}
	}
	defer func() { _ = file.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(file, limit)); err != nil {
		return fingerprint{state: unreadable}
	}
	h.Sum(f.sum[:0])
	return f
}

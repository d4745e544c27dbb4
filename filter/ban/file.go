package ban

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// file is the bans on disk: a line for each change, appended, and now and then
// written anew without what is over.
//
//	crc32c of the rest, 8 hex digits, a space, a Change as JSON, a newline
//
// A change is in force at once and on disk a little later: a goroutine takes what
// has gathered, appends it and calls fsync, again and again. What a call of Sync
// waited for survives a loss of power; else the changes of the last moments may
// not. A line that was written in part, or was damaged, is left out when the file
// is read, and the file is then written anew. It is replaced by rename, so that at
// any moment there is a whole one.
type file struct {
	path string
	log  func(msg string, args ...any)

	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex
	synced  sync.Cond
	pending []Change
	seq     uint64 // changes that were handed in
	durable uint64 // changes that are on disk
	rewrite bool   // pending does not tell all: write everything
	closed  bool
	failed  error // of the last attempt

	// Of the goroutine:
	f     *os.File
	lock  io.Closer
	lines int
}

const (
	maxPending = 4096
	// maxLine bounds a line of the file, in bytes.
	maxLine = 4096
	// maxFileSize bounds what is read of a file.
	maxFileSize = 1 << 30
	// retryAfter is the time after which a file that could not be written is
	// tried again.
	retryAfter = 2 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendLine(b []byte, c Change) []byte {
	text, err := json.Marshal(c)
	if err != nil {
		panic("ban: a change that is no JSON: " + err.Error()) // it holds plain values only
	}
	b = fmt.Appendf(b, "%08x ", crc32.Checksum(text, castagnoli))
	b = append(b, text...)
	return append(b, '\n')
}

// readChanges calls f for every whole line and returns how many there were, and how
// many were damaged.
func readChanges(r io.Reader, f func(Change)) (good, bad int, err error) {
	lines := bufio.NewReaderSize(io.LimitReader(r, maxFileSize), maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			bad++
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = lines.ReadSlice('\n')
			}
		case err == nil:
			if c, ok := parseLine(line[:len(line)-1]); ok {
				good++
				f(c)
			} else {
				bad++
			}
		case len(line) > 0:
			bad++ // torn
		}
		if errors.Is(err, io.EOF) {
			return good, bad, nil
		}
		if err != nil {
			return good, bad, err
		}
	}
}

func parseLine(line []byte) (c Change, ok bool) {
	sum, text, found := bytes.Cut(line, []byte{' '})
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !found || err != nil || uint64(crc32.Checksum(text, castagnoli)) != want {
		return c, false
	}
	if json.Unmarshal(text, &c) != nil {
		return c, false
	}
	p, err := canonical(c.Prefix)
	c.Prefix = p
	return c, err == nil
}

// Persist reads the bans of a file and keeps them in it from now on. It is made when
// there is the first change to write. A file of the same path that is in use already
// stays so; another one is given up. The error says why the file cannot be read or
// locked; the bans are then kept in memory alone.
func (t *Table) Persist(path string) error {
	path = filepath.Clean(path)
	t.mu.Lock()
	old := t.file
	t.mu.Unlock()
	if old != nil && old.path == path {
		return nil
	}
	if old != nil {
		t.mu.Lock()
		t.file = nil
		t.mu.Unlock()
		old.close()
	}
	f := &file{path: path, log: t.log.Error, wake: make(chan struct{}, 1), done: make(chan struct{})}
	f.synced.L = &f.mu
	bad, err := f.open(t)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.file = f
	f.rewrite = bad > 0 || len(t.entries) > 0 && f.f == nil
	t.mu.Unlock()
	if bad > 0 {
		t.log.Warn("damaged lines of the ban file are left out", "file", path, "lines", bad)
	}
	go f.run(t)
	f.poke()
	return nil
}

// open reads the file into the table, if there is one.
func (f *file) open(t *Table) (bad int, err error) {
	if _, err := os.Stat(f.path); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if f.lock, err = lockFile(f.path + ".lock"); err != nil {
		return 0, err
	}
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return 0, errors.Join(err, f.lock.Close())
	}
	now := t.now()
	t.mu.Lock()
	good, bad, err := readChanges(file, func(c Change) {
		e := t.entries[c.Prefix]
		switch {
		case c.Lift:
			if e != nil {
				t.remove(e)
			}
		case c.Forget.After(now) || c.Until.After(now):
			t.put(c.Ban)
		}
	})
	t.mu.Unlock()
	if err != nil {
		return 0, errors.Join(err, file.Close(), f.lock.Close())
	}
	f.f, f.lines = file, good+bad
	return bad, nil
}

// write hands a change to the file; t.mu is held.
func (t *Table) write(c Change) {
	f := t.file
	if f == nil {
		return
	}
	f.mu.Lock()
	f.seq++
	switch {
	case f.rewrite:
	case len(f.pending) >= maxPending:
		// The disk is slow. Nothing is lost: all of the table is written.
		f.rewrite, f.pending = true, nil
	default:
		f.pending = append(f.pending, c)
	}
	f.mu.Unlock()
	f.poke()
}

func (f *file) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run writes until the file is closed.
func (f *file) run(t *Table) {
	defer close(f.done)
	for {
		<-f.wake
		err := f.flush(t)
		f.mu.Lock()
		if err != nil && f.failed == nil {
			f.log("bans cannot be written, they are kept in memory", "file", f.path, "error", err)
		}
		f.failed = err
		if err != nil {
			f.rewrite, f.pending = true, nil
			if !f.closed {
				time.AfterFunc(retryAfter, f.poke)
			}
		}
		more := len(f.pending) > 0 || f.rewrite
		closed := f.closed && (err != nil || !more)
		f.synced.Broadcast()
		f.mu.Unlock()
		if closed {
			break
		}
		if err == nil && more {
			f.poke()
		}
	}
	if f.f != nil {
		_ = f.f.Close() // everything is synced
	}
	if f.lock != nil {
		_ = f.lock.Close()
	}
}

// flush brings everything to disk that was handed in.
func (f *file) flush(t *Table) error {
	f.mu.Lock()
	pending, seq, rewrite := f.pending, f.seq, f.rewrite
	f.pending = nil
	f.mu.Unlock()
	if len(pending) == 0 && !rewrite {
		return nil
	}
	if f.lock == nil {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
			return err
		}
		lock, err := lockFile(f.path + ".lock")
		if err != nil {
			return err
		}
		f.lock = lock
	}
	// A file of which more than a half is over is written anew.
	if rewrite || f.f == nil || f.lines+len(pending) > 1000 && f.lines+len(pending) > 2*t.Stats().Bans {
		var err error
		if seq, err = f.compact(t); err != nil {
			return err
		}
	} else {
		var b []byte
		for _, c := range pending {
			b = appendLine(b, c)
		}
		if _, err := f.f.Write(b); err != nil {
			return err
		}
		if err := f.f.Sync(); err != nil {
			return err
		}
		f.lines += len(pending)
	}
	f.mu.Lock()
	f.durable = max(f.durable, seq)
	f.mu.Unlock()
	return nil
}

// compact writes the table anew.
func (f *file) compact(t *Table) (seq uint64, err error) {
	var b []byte
	lines := 0
	t.mu.Lock()
	now := t.now()
	for _, e := range t.order {
		if e.Until.After(now) || e.Forget.After(now) {
			b = appendLine(b, Change{Ban: e.Ban})
			lines++
		}
	}
	f.mu.Lock()
	seq = f.seq
	f.pending, f.rewrite = nil, false
	f.mu.Unlock()
	t.mu.Unlock()

	next := f.path + ".new"
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = file.Write(b)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(next, f.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(f.path))
	}
	if err != nil {
		return 0, errors.Join(err, file.Close())
	}
	if f.f != nil {
		_ = f.f.Close() // it is no longer the file
	}
	f.f, f.lines = file, lines
	return seq, nil
}

// syncDir makes a rename durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Sync waits until all changes so far are on disk. Without a file it does nothing.
// The error is that of the last attempt to write.
func (t *Table) Sync() error {
	t.mu.Lock()
	f := t.file
	t.mu.Unlock()
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	want := f.seq
	for f.durable < want && !f.closed {
		f.synced.Wait()
		if f.failed != nil {
			return f.failed
		}
	}
	return nil
}

// Close writes what is pending and gives the file up. The bans stay in memory.
func (t *Table) Close() error {
	t.mu.Lock()
	f := t.file
	t.file = nil
	t.mu.Unlock()
	if f == nil {
		return nil
	}
	return f.close()
}

func (f *file) close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.poke()
	<-f.done
	f.mu.Lock()
	defer f.mu.Unlock()
	f.synced.Broadcast()
	return f.failed
}

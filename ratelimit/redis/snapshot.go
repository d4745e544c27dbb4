package redis

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moatwaf/moat/rules/list"
)

// maxSnapshot bounds the file of a copy, in bytes.
const maxSnapshot = list.MaxLive*(list.MaxEntry+32) + 1024

// snapshot is a copy on disk: entries with the Unix seconds of their end, 0 for
// never.
type snapshot struct {
	Version uint64           `json:"version"`
	Entries map[string]int64 `json:"entries"`
}

// save writes the copy to disk, if it has changed. A failure is told to OnSync: the
// list is good all the same.
func (l *List) save() {
	if l.options.Snapshot == "" {
		return
	}
	if l.Version() == l.saved {
		return
	}
	version, entries := l.Entries()
	l.saved = version // a disk that is full is not tried with every message
	s := snapshot{Version: version, Entries: make(map[string]int64, len(entries))}
	for _, e := range entries {
		s.Entries[e.Text] = 0
		if !e.Until.IsZero() {
			s.Entries[e.Text] = e.Until.Unix()
		}
	}
	if err := writeSnapshot(l.options.Snapshot, s); err != nil && l.options.OnSync != nil {
		l.options.OnSync(l.Len(), fmt.Errorf("the copy is not kept on disk: %w", err))
	}
}

func readSnapshot(name string) (version uint64, entries []list.Entry, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSnapshot+1))
	if err != nil {
		return 0, nil, err
	}
	if len(data) > maxSnapshot {
		return 0, nil, errors.New("larger than a copy of a list")
	}
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return 0, nil, err
	}
	if s.Version == 0 || s.Version > 1<<53 {
		return 0, nil, errors.New("not a copy of a list")
	}
	return s.Version, entriesOf(s.Entries), nil
}

// writeSnapshot puts the file in the place of another, whole or not at all.
func writeSnapshot(name string, s snapshot) (err error) {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".list-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name()) // the first error is the one to tell
		}
	}()
	if _, err := f.Write(append(data, '\n')); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

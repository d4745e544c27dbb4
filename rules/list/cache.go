package list

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// metadata is the small file beside a copy. It names the copy by its SHA-256, so
// that the exchange of this file is the exchange of both: a stop in between
// leaves the old pair.
type metadata struct {
	SHA256       string    `json:"sha256"`
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
	Fetched      time.Time `json:"fetched"`
}

// cacheMutex keeps two users of one source apart: the list of the old policy may
// be refreshed while a new policy loads it.
var cacheMutex sync.Mutex

// maxMetadata is the largest file of metadata that is read.
const maxMetadata = 16 << 10

// cacheName returns the beginning of the names of the files of this source. It
// tells nothing of the URL, which may hold a key.
func (s *Source) cacheName() string {
	sum := sha256.Sum256([]byte(s.Format.String() + " " + s.URL))
	return filepath.Join(s.CacheDir, hex.EncodeToString(sum[:16]))
}

func copyName(base, sum string) string { return base + "-" + sum[:16] + ".list" }

// readCache returns the copy on disk; nil without an error if there is none. A
// copy that is not what its metadata says is an error, and not used.
func (s *Source) readCache() (*snapshot, error) {
	if s.CacheDir == "" {
		return nil, nil
	}
	cacheMutex.Lock()
	defer cacheMutex.Unlock()
	base := s.cacheName()
	text, err := readFile(base+".json", maxMetadata)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &LoadError{base + ".json", err}
	}
	var m metadata
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, &LoadError{base + ".json", errors.New("not the metadata of a list")}
	}
	sum, err := hex.DecodeString(m.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return nil, &LoadError{base + ".json", errors.New("not the metadata of a list")}
	}
	name := copyName(base, m.SHA256)
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, &LoadError{name, withoutPath(err)}
	}
	if sha256.Sum256(data) != [sha256.Size]byte(sum) || int64(len(data)) > s.maxBytes() {
		return nil, &LoadError{name, errors.New("the copy on disk is damaged")}
	}
	set, errs := Parse(name, data, s.Format)
	if errs != nil {
		return nil, errs
	}
	return &snapshot{
		set: set, sum: [sha256.Size]byte(sum), etag: m.ETag, lastModified: m.LastModified, fetched: m.Fetched,
	}, nil
}

// keep writes a copy, or its metadata alone if data is nil and so the copy is on
// disk already. A failure is told to OnError: the list is good all the same.
func (s *Source) keep(c *snapshot, data []byte) {
	if s.CacheDir == "" {
		return
	}
	if err := s.writeCache(c, data); err != nil {
		s.report(&LoadError{s.CacheDir, fmt.Errorf("keeping a copy: %w", err)})
	}
}

func (s *Source) writeCache(c *snapshot, data []byte) error {
	cacheMutex.Lock()
	defer cacheMutex.Unlock()
	if err := os.MkdirAll(s.CacheDir, 0o700); err != nil {
		return withoutPath(err)
	}
	base := s.cacheName()
	m := metadata{SHA256: hex.EncodeToString(c.sum[:]), ETag: c.etag, LastModified: c.lastModified, Fetched: c.fetched.UTC()}
	name := copyName(base, m.SHA256)
	if data != nil {
		if err := writeFile(name, data); err != nil {
			return err
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := writeFile(base+".json", append(text, '\n')); err != nil {
		return err
	}
	// Copies that no metadata names any more.
	others, err := filepath.Glob(base + "-*.list")
	if err != nil {
		return err
	}
	for _, other := range others {
		if other != name {
			err = errors.Join(err, os.Remove(other))
		}
	}
	return err
}

// writeFile puts a file in the place of another, whole or not at all.
func writeFile(name string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".list-*")
	if err != nil {
		return withoutPath(err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name()) // the first error is the one to tell
		}
	}()
	if _, err := f.Write(data); err != nil {
		return withoutPath(err)
	}
	if err := f.Sync(); err != nil {
		return withoutPath(err)
	}
	if err := f.Close(); err != nil {
		return withoutPath(err)
	}
	return os.Rename(f.Name(), name)
}

package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"sync"
	"time"

	"github.com/moatwaf/moat/filter"
)

// How much is remembered: at most maxRemembered pairs, which is some 2 MB, for
// rememberFor each. A changed password file makes a new memory.
const (
	maxRemembered = 8192
	rememberFor   = 5 * time.Minute
)

// pairKey is the keyed hash of a user and a password.
type pairKey [sha256.Size]byte

// memory remembers credentials that were right. Only right ones get in, so nobody
// without a password can push out anybody else. It is safe for concurrent use.
//
// It is two maps, a young and an old one. A full young one becomes the old one,
// whose content is forgotten: O(1), and no clock of its own.
type memory struct {
	hashes sync.Pool // of *keyedHash

	mu         sync.RWMutex
	young, old map[pairKey]remembered
	limit      int // entries of one map
}

type remembered struct {
	who *filter.Identity
	at  time.Time
}

// keyedHash is an HMAC and room for its result.
type keyedHash struct {
	hash.Hash
	sum pairKey
}

// newMemory returns an empty memory with a random key of its own, so that what it
// holds can be compared with nothing outside it.
func newMemory() *memory {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the program instead
	return &memory{
		hashes: sync.Pool{New: func() any { return &keyedHash{Hash: hmac.New(sha256.New, secret)} }},
		young:  make(map[pairKey]remembered),
		limit:  maxRemembered / 2,
	}
}

// key returns the key of a pair. Looking it up in a map is not constant in time,
// but what it is compared with cannot be chosen without the secret.
func (m *memory) key(pair []byte) pairKey {
	h := m.hashes.Get().(*keyedHash)
	defer m.hashes.Put(h)
	h.Reset()
	h.Write(pair)
	h.Sum(h.sum[:0])
	return h.sum
}

// get returns whom the key belongs to; nil if it is not known, or not any more.
func (m *memory) get(key pairKey, now time.Time) *filter.Identity {
	m.mu.RLock()
	e, ok := m.young[key]
	if !ok {
		e, ok = m.old[key]
	}
	m.mu.RUnlock()
	// A clock that was set back makes no entry live longer.
	if age := now.Sub(e.at); !ok || age < 0 || age >= rememberFor {
		return nil
	}
	return e.who
}

// put remembers whom the key belongs to.
func (m *memory) put(key pairKey, who *filter.Identity, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.young[key]; !there && len(m.young) >= m.limit {
		m.old, m.young = m.young, make(map[pairKey]remembered, m.limit)
	}
	m.young[key] = remembered{who, now}
}

// size returns the number of entries, both maps together.
func (m *memory) size() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.young) + len(m.old)
}

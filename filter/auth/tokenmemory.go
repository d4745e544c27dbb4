package auth

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/moatwaf/moat/filter"
)

// How much is remembered of tokens, all shards together.
const (
	maxTokens     = 16 << 10 // tokens that hold
	maxTokenBytes = 32 << 20 // bytes of them and of their identities, about
	maxFailed     = 8 << 10  // tokens whose signature does not verify; a power of two
	tokenShards   = 8        // a power of two
)

// tokenMemory remembers tokens whose signature was verified. It is safe for
// concurrent use.
//
// A token that holds is found by a keyed hash and compared as a whole, so no other
// token can pass for it; it is good from the time at which it was verified until
// it expires. Only tokens that hold get in, so nobody without one can push out
// anybody else's. A full shard forgets half of what it has: O(1), no list, and no
// clock of its own.
//
// Of a token whose signature does not verify 64 bits of the keyed hash stay, in a
// table of fixed size: it is refused again without asking the key. Another token
// is refused by mistake once in 2^64 times, and nobody can look for one without
// the key of the hash.
//
// What it holds is true for one set of keys and one list of revoked tokens. A
// change of either makes a new memory.
type tokenMemory struct {
	seed   maphash.Seed
	shards [tokenShards]tokenShard
	bad    [maxFailed]atomic.Uint64
}

type tokenShard struct {
	mu         sync.RWMutex
	young, old map[uint64]rememberedToken
	bytes      int // of the young ones
	_          [64]byte
}

type rememberedToken struct {
	token       string
	who         *filter.Identity
	from, until int64 // nanoseconds since 1970
}

func newTokenMemory() *tokenMemory { return &tokenMemory{seed: maphash.MakeSeed()} }

// hash returns the key of a token; never 0.
func (m *tokenMemory) hash(token string) uint64 { return max(maphash.String(m.seed, token), 1) }

func (m *tokenMemory) shard(hash uint64) *tokenShard {
	return &m.shards[hash>>(64-bits.Len(tokenShards-1))]
}

// get returns whom the token belongs to; nil if that is not known, or not any more.
func (m *tokenMemory) get(hash uint64, token string, now time.Time) *filter.Identity {
	s := m.shard(hash)
	s.mu.RLock()
	e, ok := s.young[hash]
	if !ok {
		e, ok = s.old[hash]
	}
	s.mu.RUnlock()
	t := now.UnixNano()
	// A clock that was set back makes no token older than its verification.
	if !ok || t < e.from || t >= e.until || !sameString(e.token, token) {
		return nil
	}
	return e.who
}

// put remembers whom the token belongs to.
func (m *tokenMemory) put(hash uint64, token string, who *filter.Identity, now, until time.Time) {
	size := 2*len(token) + weigh(who.Claims)
	s := m.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= maxTokens/tokenShards/2 || s.bytes+size > maxTokenBytes/tokenShards/2 {
		s.old, s.young, s.bytes = s.young, nil, 0
	}
	if s.young == nil {
		s.young = make(map[uint64]rememberedToken)
	}
	s.bytes += size
	// The string belongs to the request; its memory would be held with it.
	s.young[hash] = rememberedToken{strings.Clone(token), who, now.UnixNano(), until.UnixNano()}
}

// fail remembers that the signature of a token does not verify.
func (m *tokenMemory) fail(hash uint64) { m.bad[hash%maxFailed].Store(hash) }

// failed reports whether the signature of a token is known not to verify.
func (m *tokenMemory) failed(hash uint64) bool { return m.bad[hash%maxFailed].Load() == hash }

// size returns the number of tokens that hold, and the bytes of the younger ones.
func (m *tokenMemory) size() (n, bytes int) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.RLock()
		n += len(s.young) + len(s.old)
		bytes += s.bytes
		s.mu.RUnlock()
	}
	return n, bytes
}

// weigh estimates the memory of a claim, in bytes: what JSON was decoded into.
func weigh(v any) int {
	const word = 16
	switch v := v.(type) {
	case string:
		return 2*word + len(v)
	case []any:
		n := 2 * word
		for _, e := range v {
			n += word + weigh(e)
		}
		return n
	case map[string]any:
		n := 8 * word
		for name, e := range v {
			n += 4*word + len(name) + weigh(e)
		}
		return n
	}
	return word
}

// sameString compares in a time that tells nothing of where a difference is. Tokens
// are long, so it takes eight bytes at a time.
func sameString(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	x, y := stringBytes(a), stringBytes(b)
	var differ uint64
	for len(x) >= 8 && len(y) >= 8 {
		differ |= binary.LittleEndian.Uint64(x) ^ binary.LittleEndian.Uint64(y)
		x, y = x[8:], y[8:]
	}
	for i := range x {
		differ |= uint64(x[i] ^ y[i])
	}
	return differ == 0
}

// stringBytes returns the bytes of a string without a copy. Nobody writes to them.
func stringBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

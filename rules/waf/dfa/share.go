package dfa

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"weak"
)

// sets are the Sets of BuildShared that somebody uses, by what they are made of.
var sets = struct {
	sync.Mutex
	m map[[sha256.Size]byte]weak.Pointer[Set]
}{m: map[[sha256.Size]byte]weak.Pointer[Set]{}}

// BuildShared is [Builder.Build], but returns the Set that was built of the same
// patterns before, with the states that it has made since, as long as anybody uses
// it. Whoever reloads rules keeps the automata of those that stay the same. With
// Options.Memory the Set counts in that one too, and states for which it has no room
// are dropped. BuildShared is safe for concurrent use; two at a time may build the
// same Set twice.
func (b *Builder) BuildShared(o Options) (*Set, error) {
	key := b.digest(o)
	sets.Lock()
	s := sets.m[key].Value()
	sets.Unlock()
	if s != nil {
		return s.counting(o)
	}
	s, err := b.Build(o)
	if err != nil {
		return nil, err
	}
	if other := publish(key, s); other != s {
		if o.Memory != nil {
			s.leave(o.Memory)
		}
		return other.counting(o)
	}
	return s, nil
}

// publish returns the Set that somebody else has put there meanwhile, or puts s there
// and returns it.
func publish(key [sha256.Size]byte, s *Set) *Set {
	p := weak.Make(s)
	sets.Lock()
	defer sets.Unlock()
	if other := sets.m[key].Value(); other != nil {
		return other
	}
	sets.m[key] = p
	runtime.AddCleanup(s, forget, key)
	return s
}

// counting returns the Set, which counts in the memory of the options then.
func (s *Set) counting(o Options) (*Set, error) {
	if o.Memory == nil {
		return s, nil
	}
	if err := s.join(o.Memory); err != nil {
		return nil, err
	}
	return s, nil
}

// forget drops the place of a Set that nobody uses any more.
func forget(key [sha256.Size]byte) {
	sets.Lock()
	defer sets.Unlock()
	if sets.m[key].Value() == nil {
		delete(sets.m, key)
	}
}

// digest identifies what a Set is made of.
func (b *Builder) digest(o Options) (d [sha256.Size]byte) {
	h := sha256.New()
	if o.Memory != nil {
		number(h, -1)
	} else {
		number(h, o.MaxBytes)
	}
	number(h, o.MaxNewStatesPerScan)
	number(h, o.MaxPatternSize)
	number(h, len(b.pats))
	for i := range b.pats {
		n := &b.pats[i]
		number(h, n.id)
		n.pat.digest(h)
	}
	h.Sum(d[:0])
	return d
}

// digest writes all that a pattern is.
func (p *Pattern) digest(h hash.Hash) {
	flags := int(p.kind) << 3
	if p.fold {
		flags |= 1
	}
	if p.lower {
		flags |= 2
	}
	if p.allowed != nil {
		flags |= 4
	}
	number(h, flags)
	word(h, p.text)
	number(h, len(p.phrases))
	for _, phrase := range p.phrases {
		word(h, phrase)
	}
	if p.allowed != nil {
		for _, ok := range p.allowed {
			if ok {
				h.Write([]byte{1})
			} else {
				h.Write([]byte{0})
			}
		}
	}
}

func number(h hash.Hash, n int) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

func word(h hash.Hash, s string) {
	number(h, len(s))
	h.Write([]byte(s))
}

// exacts are answers of Exact, because a pattern is compiled for each.
var exacts = struct {
	sync.Mutex
	m map[[sha256.Size]byte]bool
}{m: map[[sha256.Size]byte]bool{}}

// maxExacts bounds them: a megabyte.
const maxExacts = 16 << 10

// Exact reports whether a [Set] of nothing but p says exactly whether p matches. It
// is false for a pattern that does not compile.
func (p Pattern) Exact() bool {
	var key [sha256.Size]byte
	h := sha256.New()
	p.digest(h)
	h.Sum(key[:0])
	exacts.Lock()
	exact, ok := exacts.m[key]
	exacts.Unlock()
	if ok {
		return exact
	}
	var b Builder
	if err := b.Add(0, p); err == nil {
		s, err := b.Build(Options{})
		exact = err == nil && s.Exact(0)
	}
	exacts.Lock()
	defer exacts.Unlock()
	if len(exacts.m) >= maxExacts {
		clear(exacts.m)
	}
	exacts.m[key] = exact
	return exact
}

// sound are expressions that compile, as they are asked for again with each reload.
var sound = struct {
	sync.Mutex
	m map[soundKey]struct{}
}{m: map[soundKey]struct{}{}}

type soundKey struct {
	kind kind
	text string
}

// maxSoundText is the longest expression that is remembered, so that with maxSound
// there is a bound of 16 MiB.
const (
	maxSoundText = 8 << 10
	maxSound     = 2 << 10
)

// validate returns why an expression does not compile.
func (p *Pattern) validate() error {
	key := soundKey{p.kind, p.text}
	sound.Lock()
	_, ok := sound.m[key]
	sound.Unlock()
	if ok {
		return nil
	}
	if _, err := p.expression(); err != nil || len(p.text) > maxSoundText {
		return err
	}
	key.text = strings.Clone(key.text) // not the file that it is part of
	sound.Lock()
	defer sound.Unlock()
	if len(sound.m) >= maxSound {
		clear(sound.m)
	}
	sound.m[key] = struct{}{}
	return nil
}

// Counter returns a number that those who share a Set may use for themselves, such as
// for how far it has been prepared. It is 0 at first.
func (s *Set) Counter() *atomic.Int64 { return &s.counter }

package waf

import (
	"io"
	"sync"

	"github.com/corazawaf/coraza/v3"

	"github.com/moatwaf/moat/rules/waf/dfa"
	"github.com/moatwaf/moat/rules/waf/gate"
	"github.com/moatwaf/moat/rules/waf/proof"
)

// loaded is an engine with its rules. It is immutable, and shared by the stages
// that have the same rules.
type loaded struct {
	key   digest
	waf   coraza.WAF
	rules int
	gate  *gate.Gate // nil without Config.Fast
	off   string     // why the gate takes nothing away

	memory *dfa.Memory // of all automata; nil without Config.Fast
	budget *budget
	proof  *proof.Proof // nil without Config.Fast, or if the rules are not understood
	follow *proof.Proof // the same for what it finds something in; nil without it
	depth  int          // of JSON that is parsed
	warmer warmer
}

// registry holds the engines in use, by content. An engine takes tens of
// milliseconds and megabytes; twenty policies with the same rules pay once.
type registry struct {
	mu sync.Mutex
	m  map[digest]*shared
}

type shared struct {
	once   sync.Once
	loaded *loaded
	err    error
	users  int
}

var engines = registry{m: map[digest]*shared{}}

// acquire returns the engine of that content, which build makes if nobody uses
// it yet.
func (r *registry) acquire(key digest, build func(digest) (*loaded, error)) (*loaded, error) {
	r.mu.Lock()
	s := r.m[key]
	if s == nil {
		s = &shared{}
		r.m[key] = s
	}
	s.users++
	r.mu.Unlock()

	s.once.Do(func() { s.loaded, s.err = build(key) })
	if s.err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if s.users--; r.m[key] == s {
			delete(r.m, key) // the next try builds again
		}
		return nil, s.err
	}
	return s.loaded, nil
}

// release gives an engine back and frees it with its last user. What the engine
// has compiled stays valid for requests under way.
func (r *registry) release(l *loaded) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.m[l.key]
	if s == nil || s.loaded != l {
		return nil
	}
	if s.users--; s.users > 0 {
		return nil
	}
	delete(r.m, l.key)
	l.warmer.stop.Store(true)
	if l.memory != nil {
		l.memory.Close() // what others share with it counts there only from now on
	}
	if c, ok := l.waf.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

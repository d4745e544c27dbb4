package policy

import (
	"crypto/sha256"
	"sync"

	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/filter/ban"
	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/geo"
	"github.com/moatwaf/moat/ratelimit"
	"github.com/moatwaf/moat/rules/list"
)

// state is what outlives one policy: buckets of tiers, lists that come from a
// URL, and parsed files, which a reload takes over where the content is the same.
// Parts are known by their content, never by the name of a file.
type state struct {
	options Options
	clients *ClientState
	remote  remoteLists
	keys    allKeys
	watcher ban.Current // the rules of bans in force

	failures ratelimit.CurrentFailures

	mu        sync.Mutex
	methods   map[methodKey]auth.Method
	databases map[string]*geo.Database // by the digest of the file
	sets      map[setKey]*list.Set
	usesBans  bool

	checking bool // nothing is put in force: no connections
}

// setKey is the identity of a parsed list.
type setKey struct {
	sum    [sha256.Size]byte
	format list.Format
}

func newState(o Options) *state {
	s := &state{options: o, clients: o.Clients, databases: map[string]*geo.Database{}, sets: map[setKey]*list.Set{}}
	if s.clients == nil {
		s.clients = NewClientState()
	}
	s.remote.init(o)
	return s
}

func (s *state) close() {
	s.remote.close()
	s.keys.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeBans()
}

// database returns the parsed database with a digest; nil if there is none.
func (s *state) database(digest string) *geo.Database {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.databases[digest]
}

// set returns the parsed list with an identity; nil if there is none.
func (s *state) set(key setKey) *list.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sets[key]
}

// keep remembers the parts of c, which has come into force, and forgets all
// others.
func (s *state) keep(c *Compiled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.databases)
	for _, db := range c.databases {
		s.databases[db.Metadata().Digest] = db
	}
	s.sets = c.sets
	s.methods = c.methods
	s.remote.keep(c.remotes)
	s.keys.keep(c.keys)
	s.keepBans(c.bans)
	s.failures.Set(c.failures)
}

// Lists returns the lists of the policy in force and their sizes.
func (rt *Runtime) Lists() []metrics.List {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.compiled == nil {
		return nil
	}
	var all []metrics.List
	for name, set := range rt.compiled.lists {
		all = append(all, metrics.List{Name: name, Entries: set.Len()})
	}
	return all
}

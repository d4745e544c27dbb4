package policy

import (
	"errors"
	"sync"
	"time"

	"github.com/moatwaf/moat/filter/ban"
	"github.com/moatwaf/moat/ratelimit"
	"github.com/moatwaf/moat/ratelimit/redis"
	"github.com/moatwaf/moat/rules"
)

// Store is a server in which several nodes count clients and keep bans together: a
// URL, or a mapping.
type Store struct {
	URL          rules.Located[string]        `yaml:"url,required" doc:"redis://user:password@host:port/db, rediss:// for TLS; ?master_set=NAME and ?addr=host:port for Sentinels, ?addr= for a Cluster"`
	PasswordFile rules.Located[string]        `yaml:"password_file" doc:"file with the password, in place of one in the URL"`
	Budget       rules.Located[time.Duration] `yaml:"budget" min:"1ms" max:"1s" doc:"time that a request waits for the server; over it this node decides by what it knows; default 5ms"`
}

// storeMapping is Store without its decoder.
type storeMapping Store

// UnmarshalRules implements rules.Unmarshaler.
func (s *Store) UnmarshalRules(n *rules.Node) rules.Errors {
	switch n.Kind() {
	case rules.Scalar:
		return n.Decode(&s.URL)
	case rules.Mapping:
		return n.Decode((*storeMapping)(s))
	}
	return n.Expected("a URL, or a mapping with url", "")
}

// JSONSchema implements rules.Describer.
func (s *Store) JSONSchema() map[string]any {
	return map[string]any{"anyOf": []any{
		map[string]any{"type": "string"},
		rules.TypeSchema[storeMapping](),
	}}
}

// storeKey tells one store from another.
type storeKey struct {
	options redis.Options
	budget  time.Duration
}

// stores are the connections of a ClientState. A reload that names the same server
// keeps its connection, and what is known of clients.
type stores struct {
	mu   sync.Mutex
	all  map[storeKey]*openStore
	past ratelimit.SharedStats // of connections that were given up: a counter does not go back
}

// openStore is a connection and its users.
type openStore struct {
	store  *redis.Store
	shared *ratelimit.Shared
	users  int
	lists  map[string]*storeList // by their names in the server
}

// acquire returns the connection to a server and what gives it back.
func (s *stores) acquire(key storeKey, bans *ban.Table) (*openStore, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[key]
	if one == nil {
		store, err := redis.Open(key.options)
		if err != nil {
			return nil, nil, err
		}
		one = &openStore{store: store, shared: ratelimit.NewShared(store, key.budget), lists: map[string]*storeList{}}
		store.ShareBans(bans)
		if s.all == nil {
			s.all = map[storeKey]*openStore{}
		}
		s.all[key] = one
	}
	one.users++
	return one, sync.OnceFunc(func() { s.release(key) }), nil
}

func (s *stores) release(key storeKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[key]
	if one.users--; one.users > 0 {
		return
	}
	delete(s.all, key)
	one.shared.Close()
	one.store.Close()
	s.past.Add(one.shared.Stats())
	s.past.Away = false
}

// sharedStore opens the store that the policy names; nil if it names none. It does not
// wait for the server: without one, this node decides alone.
func (l *loader) sharedStore() *openStore {
	if !l.storeOpened {
		l.storeOpened = true
		l.store = l.openStore()
	}
	return l.store
}

func (l *loader) openStore() *openStore {
	spec := l.policy.Store
	if spec == nil {
		return nil
	}
	key := storeKey{options: redis.Options{URL: spec.URL.Value}, budget: spec.Budget.Value}
	if !spec.URL.Set() {
		return nil
	}
	if spec.PasswordFile.Set() {
		data, ok := l.file(spec.PasswordFile)
		if !ok {
			return nil
		}
		password, err := onePassword(data)
		if err != nil {
			l.errs = append(l.errs, spec.PasswordFile.Errorf("", "%s: %s", spec.PasswordFile.Value, err))
			return nil
		}
		key.options.Password = password
	}
	if err := key.options.Check(); err != nil {
		l.errs = append(l.errs, spec.URL.Errorf("such as redis://127.0.0.1:6379/0", "%s", err))
		return nil
	}
	if l.state.checking {
		return nil
	}
	l.storeURL = key.options.URL
	one, release, err := l.state.clients.stores.acquire(key, l.state.clients.bans)
	if err != nil {
		l.errs = append(l.errs, spec.URL.Errorf("", "%s", err))
		return nil
	}
	l.closers = append(l.closers, release)
	return one
}

// onePassword returns the one line of a file.
func onePassword(data []byte) (string, error) {
	text := string(data)
	for len(text) > 0 && (text[len(text)-1] == '\n' || text[len(text)-1] == '\r') {
		text = text[:len(text)-1]
	}
	if text == "" {
		return "", errors.New("there is no password in it")
	}
	if len(text) > 4096 {
		return "", errors.New("it is longer than a password")
	}
	for i := range len(text) {
		if text[i] < ' ' {
			return "", errors.New("there is more than one line in it")
		}
	}
	return text, nil
}

// StoreStats returns the state of the shared stores of the runtime's clients, by no
// name: a URL may hold a password.
func (rt *Runtime) StoreStats() []ratelimit.SharedStats {
	s := &rt.state.clients.stores
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []ratelimit.SharedStats
	for _, one := range s.all {
		all = append(all, one.shared.Stats())
	}
	return all
}

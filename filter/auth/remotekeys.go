package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
)

// How an issuer is asked for its keys.
const (
	keysEvery     = 15 * time.Minute // while it answers
	keysRetry     = time.Minute      // while it does not
	keysAskAgain  = 30 * time.Second // at the earliest, for a key that is not known
	keysTimeout   = 5 * time.Second
	maxKeysBytes  = 1 << 20
	maxKeyWaiters = 64 // requests that wait for an answer; further ones do not wait
)

// RemoteKeysConfig says where keys come from.
type RemoteKeysConfig struct {
	// URL is the https URL of a JWKS; http is taken for loopback addresses.
	URL string
	// Algorithms are those of TokenConfig.
	Algorithms []string
	// Cache is a file for the last good answer, which serves a start while the
	// issuer is away; empty keeps none.
	Cache string
	// Client asks; nil takes one that follows no redirect.
	Client *http.Client
	// OnRefresh is told of every answer, nil if it was good; it may be nil.
	OnRefresh func(error)
}

// RemoteKeys are the keys of an issuer, kept current. While the issuer is away the
// keys that are known go on verifying, and nobody else gets in. It is safe for
// concurrent use.
//
// A token with an unknown key id makes it ask at once, for the issuer may have a new
// key; but once in half a minute at most, however many such tokens come, and only
// some of them wait for the answer.
type RemoteKeys struct {
	config     RemoteKeysConfig
	algorithms map[string]jwa.SignatureAlgorithm
	keys       atomic.Pointer[keySet]
	asking     sync.Mutex // one question at a time: no old answer comes after a new one

	failing atomic.Bool // the last question was not answered well

	mu      sync.Mutex
	raw     []byte        // what keys was read from
	asked   time.Time     // for an unknown key
	answer  chan struct{} // closed when the question under way is answered; nil if there is none
	waiting int
}

// NewRemoteKeys asks for the keys once, or takes the last good answer from the cache.
// It returns an error if there is neither. Run keeps them current.
func NewRemoteKeys(ctx context.Context, c RemoteKeysConfig) (*RemoteKeys, error) {
	if err := checkKeysURL(c.URL); err != nil {
		return nil, err
	}
	algorithms, err := allowedAlgorithms("jwks", c.Algorithms)
	if err != nil {
		return nil, err
	}
	if c.Client == nil {
		c.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	r := &RemoteKeys{config: c, algorithms: algorithms}
	if err = r.refresh(ctx); err == nil {
		return r, nil
	}
	if c.Cache != "" {
		if data, readErr := os.ReadFile(c.Cache); readErr == nil && r.take(data) == nil {
			return r, nil
		}
	}
	return nil, err
}

// checkKeysURL refuses what would let anybody on the way put keys of their own into
// the answer.
func checkKeysURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil {
		return fmt.Errorf("%q is no URL of a key set", s)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%s: keys come by https only: whoever can change them on the way could sign", s)
}

// Run asks again and again until ctx ends.
func (r *RemoteKeys) Run(ctx context.Context) {
	for {
		wait := keysEvery
		if r.failing.Load() { // at the start, too, where the keys are of the cache
			wait = keysRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		_ = r.refresh(ctx) // reported by OnRefresh
	}
}

// refresh asks once. On an error the keys stay as they are.
func (r *RemoteKeys) refresh(ctx context.Context) error {
	r.asking.Lock()
	defer r.asking.Unlock()
	data, err := r.fetch(ctx)
	if err == nil {
		err = r.take(data)
	}
	if err == nil && r.config.Cache != "" {
		r.save(data)
	}
	r.failing.Store(err != nil)
	if r.config.OnRefresh != nil && ctx.Err() == nil {
		r.config.OnRefresh(err)
	}
	return err
}

func (r *RemoteKeys) fetch(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.config.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.config.URL, err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := r.config.Client.Do(req)
	if err != nil {
		return nil, err // it names the URL
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: answered %d", r.config.URL, res.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxKeysBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.config.URL, err)
	}
	if len(data) > maxKeysBytes {
		return nil, fmt.Errorf("%s: the key set is larger than 1 MiB", r.config.URL)
	}
	return data, nil
}

// take puts the keys of an answer in force. The same answer changes nothing, so that
// what is remembered of tokens stays.
func (r *RemoteKeys) take(data []byte) error {
	r.mu.Lock()
	same := r.raw != nil && bytes.Equal(r.raw, data)
	r.mu.Unlock()
	if same {
		return nil
	}
	keys, err := readKeys(File{Name: r.config.URL, Data: data}, r.algorithms)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw = data
	r.keys.Store(keys)
	return nil
}

// save writes the last good answer beside the others. A disk that does not take it
// is no reason to refuse anybody.
func (r *RemoteKeys) save(data []byte) {
	dir := filepath.Dir(r.config.Cache)
	if os.MkdirAll(dir, 0o700) != nil {
		return
	}
	f, err := os.CreateTemp(dir, ".jwks-*")
	if err != nil {
		return
	}
	_, err = f.Write(data)
	if errors.Join(err, f.Close()) != nil || os.Rename(f.Name(), r.config.Cache) != nil {
		_ = os.Remove(f.Name())
	}
}

// current implements keySource.
func (r *RemoteKeys) current() *keySet { return r.keys.Load() }

// afresh implements keySource.
func (r *RemoteKeys) afresh(ctx context.Context) *keySet {
	r.mu.Lock()
	if r.answer == nil {
		if now := time.Now(); !r.asked.IsZero() && now.Sub(r.asked) < keysAskAgain {
			r.mu.Unlock()
			return r.current()
		}
		r.asked = time.Now()
		answer := make(chan struct{})
		r.answer = answer
		// The question outlives the request that made it ask: others wait too.
		ctx := context.WithoutCancel(ctx)
		go func() {
			_ = r.refresh(ctx) // reported by OnRefresh
			r.mu.Lock()
			r.answer = nil
			r.mu.Unlock()
			close(answer)
		}()
	}
	answer := r.answer
	if r.waiting >= maxKeyWaiters {
		r.mu.Unlock()
		return r.current()
	}
	r.waiting++
	r.mu.Unlock()
	select {
	case <-answer:
	case <-ctx.Done():
	}
	r.mu.Lock()
	r.waiting--
	r.mu.Unlock()
	return r.current()
}

// keySource gives the keys that verify tokens.
type keySource interface {
	// current returns the keys; another pointer means other keys.
	current() *keySet
	// afresh returns the keys after asking for new ones, where that is possible
	// and was not done a moment ago.
	afresh(context.Context) *keySet
}

// fixedKeys are keys that a file holds.
type fixedKeys struct{ *keySet }

func (k fixedKeys) current() *keySet               { return k.keySet }
func (k fixedKeys) afresh(context.Context) *keySet { return k.keySet }

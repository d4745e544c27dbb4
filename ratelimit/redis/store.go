package redis

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/moatwaf/moat/ratelimit"
)

// Options say where a server is.
type Options struct {
	// URL is redis://user:password@host:port/db, or rediss:// for TLS. Further
	// addr=host:port parameters name more nodes of a Cluster, or more
	// Sentinels if master_set=NAME is given.
	URL string
	// Password takes the place of the one in URL, if it is not empty.
	Password string
}

// Times of the connection.
const (
	dialTimeout = time.Second
	ioTimeout   = 2 * time.Second
	redialEvery = 250 * time.Millisecond
)

// Store is a server. It is safe for concurrent use.
type Store struct {
	options rueidis.ClientOption
	client  atomic.Pointer[rueidis.Client]
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

var _ ratelimit.Store = (*Store)(nil)

// errNotConnected is the state before the first connection.
var errNotConnected = errors.New("redis: not connected")

// Check reports a fault of options. The error holds no part of the URL, which may
// have a password.
func (o Options) Check() error {
	_, err := o.parse()
	return err
}

func (o Options) parse() (rueidis.ClientOption, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return rueidis.ClientOption{}, errors.New("not a URL")
	}
	switch u.Scheme {
	case "redis", "rediss", "valkey", "valkeys", "unix":
	default:
		return rueidis.ClientOption{}, errors.New("the scheme is none of redis, rediss, valkey, valkeys, unix")
	}
	for name := range u.Query() {
		switch name {
		case "addr", "master_set", "db", "client_name", "protocol":
		default:
			return rueidis.ClientOption{}, fmt.Errorf("unknown parameter %.20q", name)
		}
	}
	c, err := rueidis.ParseURL(o.URL)
	if err != nil {
		return c, errors.New("the database is not a number, or the path is not one")
	}
	if o.Password != "" {
		c.Password = o.Password
	}
	c.Dialer.Timeout = dialTimeout
	c.ConnWriteTimeout = ioTimeout
	c.DisableRetry = true // whoever asks decides, and has no time for a second attempt
	c.DisableCache = true
	c.AlwaysPipelining = true
	c.ClientSetInfo = rueidis.DisableClientSetInfo
	if c.Sentinel.MasterSet != "" {
		c.Sentinel.Dialer.Timeout = dialTimeout
		c.Sentinel.TLSConfig = c.TLSConfig
	}
	return c, nil
}

// Open returns the store of a server. It connects in the background, and again
// whenever the connection is lost. Close ends it.
func Open(o Options) (*Store, error) {
	c, err := o.parse()
	if err != nil {
		return nil, err
	}
	s := &Store{options: c}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.running.Go(s.connect)
	return s, nil
}

// connect makes the client, which takes a server that answers. From then on the
// client connects by itself.
func (s *Store) connect() {
	for {
		client, err := rueidis.NewClient(s.options)
		if err == nil {
			s.client.Store(&client)
			return
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(redialEvery):
		}
	}
}

// Close ends the connection.
func (s *Store) Close() {
	s.cancel()
	s.running.Wait()
	if c := s.client.Swap(nil); c != nil {
		(*c).Close()
	}
}

func (s *Store) get() (rueidis.Client, error) {
	if c := s.client.Load(); c != nil {
		return *c, nil
	}
	return nil, errNotConnected
}

// spend is the bucket, in microseconds of the server's own clock, which all nodes
// share: the time at which it is full, and that moved on by what is spent. A number of
// a script has 53 bits, so that times of this century are exact to a quarter of a
// microsecond. A clock that was set back, or a debt, is at most one more empty bucket.
//
//	KEYS[1] bucket   ARGV: depth, cost, forced, in microseconds
//	-> granted (0 or 1), time until full, time until cost would be granted
var spend = rueidis.NewLuaScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local depth, cost, forced = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full = tonumber(redis.call('GET', KEYS[1]) or '0')
full = math.min(math.max(full, now) + forced, now + 2 * depth)
local granted, wait = 0, 0
if full + cost - now <= depth then
  full = full + cost
  granted = 1
else
  wait = full + cost - now - depth
end
if (granted == 1 and cost > 0) or forced > 0 then
  redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil((full - now) / 1000) + 1)
end
return {granted, string.format('%.0f', math.ceil(full - now)), string.format('%.0f', math.ceil(wait))}
`)

func question(s ratelimit.Spend) rueidis.LuaExec {
	return rueidis.LuaExec{
		Keys: []string{"moat:t:" + hex.EncodeToString(s.Bucket.Tier[:]) + ":" + base64.RawURLEncoding.EncodeToString(s.Bucket.Key[:])},
		Args: []string{micros(s.Depth), micros(s.Cost), micros(s.Forced)},
	}
}

// micros writes a time in microseconds.
func micros(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/1e3, 'f', -1, 64)
}

func spent(r rueidis.RedisResult) (ratelimit.Spent, error) {
	values, err := r.AsIntSlice()
	if err != nil {
		return ratelimit.Spent{}, err
	}
	if len(values) != 3 {
		return ratelimit.Spent{}, errors.New("redis: the script answers something else")
	}
	return ratelimit.Spent{
		OK:   values[0] == 1,
		Used: time.Duration(values[1]) * time.Microsecond,
		Wait: time.Duration(values[2]) * time.Microsecond,
	}, nil
}

// Spend implements ratelimit.Store, in one round trip; in two where the server has
// not seen the script since it started.
func (s *Store) Spend(ctx context.Context, q ratelimit.Spend) (ratelimit.Spent, error) {
	c, err := s.get()
	if err != nil {
		return ratelimit.Spent{}, err
	}
	e := question(q)
	return spent(spend.Exec(ctx, c, e.Keys, e.Args))
}

// SpendAll implements ratelimit.Store, in one pipeline.
func (s *Store) SpendAll(ctx context.Context, all []ratelimit.Spend) ([]ratelimit.Spent, error) {
	c, err := s.get()
	if err != nil {
		return nil, err
	}
	multi := make([]rueidis.LuaExec, len(all))
	for i, q := range all {
		multi[i] = question(q)
	}
	answers := make([]ratelimit.Spent, len(all))
	for i, r := range spend.ExecMulti(ctx, c, multi...) {
		if answers[i], err = spent(r); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/moatwaf/moat/filter/ban"
)

const (
	// bansKey is the hash of all changes that matter, by prefix, and the channel
	// on which they are told.
	bansKey = "moat:bans"
	// maxQueue bounds the changes that wait to be told. More than that are told
	// by the whole table.
	maxQueue = 1024
	// maxChange bounds a change, in bytes.
	maxChange = 4096
	// resyncEvery is how often a node compares its bans with the server's.
	resyncEvery = time.Minute
	// bansTimeout bounds one exchange.
	bansTimeout = 5 * time.Second
)

// ShareBans exchanges the bans of a table with the other nodes, until the store is
// closed. A change arrives within a round trip. A node that was cut off catches up
// when it is back: the server keeps every ban, and the lifts of bans that would
// still be in force.
func (s *Store) ShareBans(t *ban.Table) {
	queue := make(chan ban.Change, maxQueue)
	resync := make(chan struct{}, 1)
	t.SetPublish(func(c ban.Change) {
		select {
		case queue <- c:
		default:
			select {
			case resync <- struct{}{}:
			default:
			}
		}
	})
	s.running.Go(func() {
		<-s.ctx.Done()
		t.SetPublish(nil)
	})
	s.running.Go(func() { s.tellBans(t, queue, resync) })
	s.running.Go(func() { s.hearBans(t, resync) })
}

// tellBans writes changes to the server.
func (s *Store) tellBans(t *ban.Table, queue <-chan ban.Change, resync chan struct{}) {
	again := time.NewTicker(resyncEvery)
	defer again.Stop()
	retry := func() {
		select {
		case <-s.ctx.Done():
		case <-time.After(redialEvery):
		}
		select {
		case resync <- struct{}{}:
		default:
		}
	}
	for {
		select {
		case <-s.ctx.Done():
			return
		case c := <-queue:
			changes := []ban.Change{c}
			for len(queue) > 0 && len(changes) < maxQueue {
				changes = append(changes, <-queue)
			}
			s.putBans(changes)
		case <-resync:
			if s.syncBans(t) != nil {
				retry()
			}
		case <-again.C:
			_ = s.syncBans(t) // a lost connection is noticed where it is used
		}
	}
}

// putBans writes changes and tells the other nodes, in one pipeline, as soon as there
// is a server. It does not give up before: a lift that was never written would be
// undone by the next comparison.
func (s *Store) putBans(changes []ban.Change) {
	for {
		ctx, cancel := context.WithTimeout(s.ctx, bansTimeout)
		err := s.tryPutBans(ctx, changes)
		cancel()
		if err == nil {
			return
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(redialEvery):
		}
	}
}

func (s *Store) tryPutBans(ctx context.Context, changes []ban.Change) error {
	c, err := s.get()
	if err != nil {
		return err
	}
	multi := make([]rueidis.LuaExec, len(changes))
	for i, change := range changes {
		text, err := encode(change)
		if err != nil {
			return err
		}
		multi[i] = rueidis.LuaExec{Keys: []string{bansKey}, Args: []string{change.Prefix.String(), text}}
	}
	if len(multi) == 0 {
		return nil
	}
	for _, r := range putBan.ExecMulti(ctx, c, multi...) {
		err = errors.Join(err, r.Error())
	}
	return err
}

// putBan writes a change and tells it, unless the server knows better: a lift is of
// the bans that began before it, and a ban that ends earlier changes nothing. So a
// node that comes back does not undo a lift that it has not heard of.
//
//	KEYS[1] hash and channel   ARGV: field, value as encode writes it
var putBan = rueidis.NewLuaScript(`
local old, new = redis.call('HGET', KEYS[1], ARGV[1]), ARGV[2]
if old then
  local lift, oldLift = string.sub(new, 41, 41) == '1', string.sub(old, 41, 41) == '1'
  local since, oldSince = string.sub(new, 1, 19), string.sub(old, 1, 19)
  if lift and oldSince > since then return 0 end
  if not lift and oldLift and oldSince >= since then return 0 end
  if not lift and not oldLift and string.sub(old, 21, 39) >= string.sub(new, 21, 39) then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], new)
redis.call('PUBLISH', KEYS[1], new)
return 1
`)

// encode writes a change: beginning and end in nanoseconds since 1970, 19 digits
// each, 1 for a lift, and all of it as JSON.
func encode(c ban.Change) (string, error) {
	text, err := json.Marshal(c)
	return fmt.Sprintf("%019d %019d %s %s", max(c.Since.UnixNano(), 0), max(c.Until.UnixNano(), 0), map[bool]string{true: "1", false: "0"}[c.Lift], text), err
}

// decode reads what encode has written.
func decode(text string) (c ban.Change, ok bool) {
	const head = 19 + 1 + 19 + 1 + 1 + 1
	if len(text) < head || len(text) > maxChange {
		return c, false
	}
	return c, json.Unmarshal([]byte(text[head:]), &c) == nil
}

// syncBans takes over what the server knows, tells it what it does not know, and
// takes out of it what is over.
func (s *Store) syncBans(t *ban.Table) error {
	c, err := s.get()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, bansTimeout)
	defer cancel()
	all, err := c.Do(ctx, c.B().Hgetall().Key(bansKey).Build()).AsStrMap()
	if err != nil {
		return err
	}
	known := make(map[string]ban.Change, len(all))
	var over []string
	for field, text := range all {
		change, ok := decode(text)
		if !ok || !change.Until.After(time.Now()) {
			over = append(over, field)
			continue
		}
		known[field] = change
		t.Apply(change)
	}
	if len(over) > 0 {
		if err := c.Do(ctx, c.B().Hdel().Key(bansKey).Field(over...).Build()).Error(); err != nil {
			return err
		}
	}
	var missing []ban.Change
	for _, b := range t.List() {
		if k, ok := known[b.Prefix.String()]; !ok || k.Lift || k.Until.Before(b.Until) {
			missing = append(missing, ban.Change{Ban: b})
		}
	}
	for len(missing) > 0 {
		part := missing[:min(len(missing), maxQueue)]
		missing = missing[len(part):]
		if err := s.tryPutBans(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// hearBans takes over what other nodes tell. It begins each subscription with a
// comparison, so that nothing is missed between two.
func (s *Store) hearBans(t *ban.Table, resync chan<- struct{}) {
	for s.ctx.Err() == nil {
		if c, err := s.get(); err == nil {
			ctx, cancel := context.WithCancel(s.ctx)
			ctx = rueidis.WithOnSubscriptionHook(ctx, func(rueidis.PubSubSubscription) {
				select {
				case resync <- struct{}{}:
				default:
				}
			})
			_ = c.Receive(ctx, c.B().Subscribe().Channel(bansKey).Build(), func(m rueidis.PubSubMessage) {
				if change, ok := decode(m.Message); ok {
					t.Apply(change)
				}
			}) // an error is a lost connection
			cancel()
		}
		select {
		case <-s.ctx.Done():
		case <-time.After(redialEvery):
		}
	}
}

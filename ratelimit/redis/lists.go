package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/moatwaf/moat/rules/list"
)

// Bounds of lists in a server.
const (
	// MaxEdit is how many entries one edit may name.
	MaxEdit = 1000

	listPrefix = "moat:list:" // of the hash of a list, and of the channel on which changes are told
	// versionField is the field of a hash that counts its changes. No entry has
	// this form.
	versionField = "version"
	// rereadEvery is how often a node compares its version with the server's.
	rereadEvery = 15 * time.Second
	// listTimeout bounds one exchange, listPage is how many entries are read at
	// once: a whole list would hold up the tiers' questions.
	listTimeout = 5 * time.Second
	listPage    = 500
	// maxListMessage bounds what is told of one edit, in bytes.
	maxListMessage = MaxEdit*(list.MaxEntry+16) + 64
	// saveEvery is how often the copy on disk is written at most.
	saveEvery = time.Second
	// pruneAfter is how long the server keeps an entry that has ended.
	pruneAfter = time.Minute
)

// Errors of an edit.
var (
	// ErrListFull is an edit for which the list has no room.
	ErrListFull = fmt.Errorf("the list would have more than %d entries", list.MaxLive)
	// ErrListAway is an edit that the server has not confirmed: nothing, or all
	// of it, is in force.
	ErrListAway = errors.New("the store does not answer")
)

var listName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckListName reports whether name can be that of a list in a server.
func CheckListName(name string) error {
	if !listName.MatchString(name) {
		return errors.New("a name has up to 64 letters, digits, dots, hyphens and underscores")
	}
	return nil
}

// ListOptions say what is done with a list beside keeping it.
type ListOptions struct {
	// Snapshot is the file of the last known copy, from which the list begins
	// while there is no server; empty keeps none.
	Snapshot string
	// OnSync is told of the first comparison with the server, of those that
	// changed something, and of failures: the first in a row, and one each 15
	// seconds. It must not block.
	OnSync func(entries int, err error)
}

// List is a list of addresses that lives in the server. Each node has a copy, by which
// it decides. Edit changes the server's, and the change reaches every node by
// publication. A copy is compared with the server's with each new connection, and
// every 15 seconds; while the server is away it stays as it is.
//
// A server that has lost the list, or gone back to an earlier version of it, gets the
// latest copy that a node has.
type List struct {
	*list.Live
	name    string
	store   *Store
	options ListOptions
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	resync  chan struct{}
	ready   chan struct{} // closed with the first copy
	once    sync.Once
	synced  atomic.Bool // the last comparison went well
	saved   uint64      // version on disk; belongs to keep
	syncing sync.Mutex  // one comparison at a time; guards known
	known   bool        // the copy is, or was, the server's
	// changing is held while the copy changes, so that none goes back to what
	// was read before a change.
	changing sync.Mutex
}

// List keeps a copy of a list of the server until Close, or until the store is
// closed.
func (s *Store) List(name string, o ListOptions) (*List, error) {
	if err := CheckListName(name); err != nil {
		return nil, err
	}
	l := &List{Live: list.NewLive(nil), name: name, store: s, options: o, resync: make(chan struct{}, 1), ready: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(s.ctx)
	if o.Snapshot != "" {
		if version, entries, err := readSnapshot(o.Snapshot); err == nil {
			l.Replace(version, entries)
			l.saved = version
			l.once.Do(func() { close(l.ready) })
		}
	}
	l.running.Go(l.keep)
	l.running.Go(l.hear)
	return l, nil
}

// Close ends the exchange with the server. The copy stays as it is.
func (l *List) Close() {
	l.cancel()
	l.running.Wait()
	l.Live.Close()
}

// Ready is closed when there is a copy: the server's, or that of an earlier run.
func (l *List) Ready() <-chan struct{} { return l.ready }

// Synced reports whether the last comparison with the server went well.
func (l *List) Synced() bool { return l.synced.Load() }

func (l *List) key() string { return listPrefix + l.name }

// keep compares the copy with the server's, when there is a reason and every 15 s.
func (l *List) keep() {
	again := time.NewTicker(rereadEvery)
	defer again.Stop()
	told := false // of a failure
	var saved time.Time
	begun := time.Now() // the first connection takes a moment
	defer l.save()
	for {
		before := l.Version()
		err := l.sync()
		l.synced.Store(err == nil)
		if l.ctx.Err() != nil {
			return
		}
		connecting := err != nil && time.Since(begun) < dialTimeout
		if l.options.OnSync != nil && !connecting {
			first := false
			if err == nil {
				select {
				case <-l.ready:
				default:
					first = true
				}
			}
			if err != nil && !told || err == nil && (told || first || l.Version() != before) {
				l.options.OnSync(l.Len(), err)
			}
		}
		told = err != nil && !connecting
		if err == nil {
			l.once.Do(func() { close(l.ready) })
			var later <-chan time.Time // to be saved
			if wait := saveEvery - time.Since(saved); wait <= 0 {
				saved = time.Now()
				l.save()
			} else if l.options.Snapshot != "" && l.Version() != l.saved {
				later = time.After(wait)
			}
			select {
			case <-l.ctx.Done():
				return
			case <-again.C:
			case <-l.resync:
			case <-later:
			}
			continue
		}
		select {
		case <-l.ctx.Done():
			return
		case <-again.C:
			told = false
		case <-time.After(redialEvery):
		}
	}
}

func (l *List) wake() {
	select {
	case l.resync <- struct{}{}:
	default:
	}
}

// hear takes over what is published. Each subscription begins with a comparison, so
// that nothing is missed between two.
func (l *List) hear() {
	for l.ctx.Err() == nil {
		if c, err := l.store.get(); err == nil {
			ctx, cancel := context.WithCancel(l.ctx)
			ctx = rueidis.WithOnSubscriptionHook(ctx, func(rueidis.PubSubSubscription) { l.wake() })
			_ = c.Receive(ctx, c.B().Subscribe().Channel(l.key()).Build(), func(m rueidis.PubSubMessage) { l.heard(m.Message) }) // an error is a lost connection
			cancel()
			l.wake() // and a reason to look
		}
		select {
		case <-l.ctx.Done():
		case <-time.After(redialEvery):
		}
	}
}

// edit is what is told of an edit: entries with the Unix seconds of their end, 0 for
// never, and entries that go.
type edit struct {
	Add    map[string]int64 `json:"a,omitempty"`
	Remove []string         `json:"r,omitempty"`
}

// heard takes a message: a version, and the edit that led to it. Without an edit, or
// with one that does not follow on what is known, the server is asked.
func (l *List) heard(message string) {
	number, text, _ := strings.Cut(message, " ")
	version, err := strconv.ParseUint(number, 10, 53)
	var e edit
	if err != nil || len(message) > maxListMessage || text == "" || json.Unmarshal([]byte(text), &e) != nil {
		l.wake()
		return
	}
	if !l.change(version, e) || l.options.Snapshot != "" {
		l.wake() // something was missed, or is to be saved
	}
}

// change takes an edit over that led to a version.
func (l *List) change(version uint64, e edit) bool {
	l.changing.Lock()
	defer l.changing.Unlock()
	return l.Change(version, entriesOf(e.Add), e.Remove)
}

// replace takes over what was read, unless it is older than the copy. It returns the
// number of entries that are none.
func (l *List) replace(version uint64, entries []list.Entry, known bool) (refused int) {
	l.changing.Lock()
	defer l.changing.Unlock()
	if known && l.Version() > version {
		return 0
	}
	return l.Replace(version, entries)
}

func entriesOf(all map[string]int64) []list.Entry {
	entries := make([]list.Entry, 0, len(all))
	for text, until := range all {
		entries = append(entries, entryOf(text, until))
	}
	return entries
}

func entryOf(text string, until int64) list.Entry {
	e := list.Entry{Text: text}
	if until > 0 {
		e.Until = time.Unix(until, 0)
	}
	return e
}

// editList makes an edit, unless the server knows less than the node that asks for it,
// or the list would be too long.
//
//	KEYS[1] hash and channel   ARGV: version known, most entries, number of additions, the
//	edit as JSON, additions as entry and end, removals
//	-> version (-1: the server knows less, -2: too long), entries that changed
var editList = rueidis.NewLuaScript(`
local key, known, most, n = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local version = tonumber(redis.call('HGET', key, 'version') or '0')
if version < known then return {-1, 0} end
local add, remove, more = {}, {}, 0
for i = 5, 4 + 2 * n, 2 do
  local old = redis.call('HGET', key, ARGV[i])
  if not old then more = more + 1 end
  if old ~= ARGV[i + 1] then add[#add + 1] = i end
end
for i = 5 + 2 * n, #ARGV do
  if redis.call('HGET', key, ARGV[i]) then remove[#remove + 1] = ARGV[i] end
end
if #add == 0 and #remove == 0 then return {version, 0} end
if more > 0 and redis.call('HLEN', key) + more > most + 1 then return {-2, 0} end
for _, i in ipairs(add) do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
for _, entry in ipairs(remove) do redis.call('HDEL', key, entry) end
version = version + 1
redis.call('HSET', key, 'version', string.format('%.0f', version))
redis.call('PUBLISH', key, string.format('%.0f ', version) .. ARGV[4])
return {version, #add + #remove}
`)

// restoreList puts a whole list in the place of an earlier version, or of none.
//
//	KEYS[1] hash and channel   ARGV: version, entry, end, entry, end, ...
//	-> 1, or 0 if the server knows that version, or a later one
var restoreList = rueidis.NewLuaScript(`
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if version >= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'version', ARGV[1])
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
`)

// pruneList takes out entries that have ended, unless they were renewed since. It is no
// change: they are in force nowhere.
var pruneList = rueidis.NewLuaScript(`
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 1
`)

// Edit adds and removes entries, at most MaxEdit, in the server, and returns how many
// of them changed something. An entry that is there already gets the end of the new
// one. Entries are in force on this node within 50 ms, on all others within a round
// trip more. An error is ErrListFull or ErrListAway, or is about an entry.
func (l *List) Edit(ctx context.Context, add []list.Entry, remove []string) (changed int, err error) {
	if len(add)+len(remove) > MaxEdit {
		return 0, fmt.Errorf("more than %d entries at once", MaxEdit)
	}
	e := edit{Add: make(map[string]int64, len(add))}
	for _, one := range add {
		text, err := list.Canonical(one.Text)
		if err != nil {
			return 0, err
		}
		e.Add[text] = 0
		if !one.Until.IsZero() {
			e.Add[text] = max(one.Until.Unix(), 1)
		}
	}
	for _, one := range remove {
		text, err := list.Canonical(one)
		if err != nil {
			return 0, err
		}
		e.Remove = append(e.Remove, text)
	}
	if len(e.Add)+len(e.Remove) == 0 {
		return 0, nil
	}
	for range 3 {
		version, changed, err := l.tryEdit(ctx, e)
		if err != nil {
			return 0, ErrListAway
		}
		switch version {
		case -1:
			if err := l.sync(); err != nil {
				return 0, ErrListAway
			}
			continue
		case -2:
			return 0, ErrListFull
		}
		if changed > 0 {
			l.change(uint64(version), e)
		}
		l.wake() // something may have been missed
		return changed, nil
	}
	return 0, ErrListAway
}

func (l *List) tryEdit(ctx context.Context, e edit) (version int64, changed int, err error) {
	c, err := l.store.get()
	if err != nil {
		return 0, 0, err
	}
	text, err := json.Marshal(e)
	if err != nil {
		return 0, 0, err
	}
	args := []string{strconv.FormatUint(l.Version(), 10), strconv.Itoa(list.MaxLive), strconv.Itoa(len(e.Add)), string(text)}
	for entry, until := range e.Add {
		args = append(args, entry, strconv.FormatInt(until, 10))
	}
	args = append(args, e.Remove...)
	got, err := editList.Exec(ctx, c, []string{l.key()}, args).AsIntSlice()
	if err != nil {
		return 0, 0, err
	}
	if len(got) != 2 {
		return 0, 0, errors.New("redis: the script answers something else")
	}
	return got[0], int(got[1]), nil
}

// sync makes the copy and the server's agree.
func (l *List) sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	c, err := l.store.get()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(l.ctx, listTimeout)
	defer cancel()
	for range 5 {
		version, err := l.serverVersion(ctx, c)
		if err != nil {
			return err
		}
		mine := l.Version()
		switch {
		case version == mine && l.known:
			return nil
		case version == 0 && mine > 0, version < mine && l.known:
			// The list was lost, or went back. A copy of an earlier run is
			// good enough for a list that is not there at all.
			if err := l.restore(ctx, c); err != nil {
				return err
			}
			l.known = true
			continue
		}
		entries, err := l.read(ctx, c)
		if err != nil {
			return err
		}
		if after, err := l.serverVersion(ctx, c); err != nil || after != version {
			if err != nil {
				return err
			}
			continue // it changed meanwhile
		}
		refused := l.replace(version, entries, l.known)
		l.known = true
		if refused > 0 && l.options.OnSync != nil {
			l.options.OnSync(l.Len(), fmt.Errorf("%d entries in the store are none, or too many, and are left out", refused))
		}
		return nil
	}
	return errors.New("redis: the list changes faster than it can be read")
}

func (l *List) serverVersion(ctx context.Context, c rueidis.Client) (uint64, error) {
	version, err := c.Do(ctx, c.B().Hget().Key(l.key()).Field(versionField).Build()).AsUint64()
	if rueidis.IsRedisNil(err) {
		return 0, nil
	}
	return version, err
}

// read returns the entries of the server, page by page, and takes those out of it
// that ended a while ago. Fields that are no entries are left alone.
func (l *List) read(ctx context.Context, c rueidis.Client) ([]list.Entry, error) {
	var (
		entries []list.Entry
		over    []string
		now     = time.Now()
		seen    = map[string]bool{} // a page may repeat what another had
	)
	for cursor := uint64(0); ; {
		page, err := c.Do(ctx, c.B().Hscan().Key(l.key()).Cursor(cursor).Count(listPage).Build()).AsScanEntry()
		if err != nil {
			return nil, err
		}
		for i := 0; i+1 < len(page.Elements); i += 2 {
			text, value := page.Elements[i], page.Elements[i+1]
			until, err := strconv.ParseInt(value, 10, 62)
			if text == versionField || err != nil || until < 0 || len(text) > list.MaxEntry || seen[text] {
				continue
			}
			if e := entryOf(text, until); e.Until.IsZero() || e.Until.After(now) {
				seen[text] = true
				entries = append(entries, e)
			} else if now.Sub(e.Until) > pruneAfter && len(over) < 2*MaxEdit {
				over = append(over, text, value)
			}
		}
		if len(entries) > 2*list.MaxLive {
			return nil, errors.New("redis: somebody else writes into the list")
		}
		if cursor = page.Cursor; cursor == 0 {
			break
		}
	}
	if len(over) > 0 {
		if err := pruneList.Exec(ctx, c, []string{l.key()}, over).Error(); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// restore tells the server the copy of this node.
func (l *List) restore(ctx context.Context, c rueidis.Client) error {
	version, entries := l.Entries()
	args := make([]string, 0, 1+2*len(entries))
	args = append(args, strconv.FormatUint(version, 10))
	for _, e := range entries {
		until := int64(0)
		if !e.Until.IsZero() {
			until = e.Until.Unix()
		}
		args = append(args, e.Text, strconv.FormatInt(until, 10))
	}
	return restoreList.Exec(ctx, c, []string{l.key()}, args).Error()
}

package list

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a Live list.
const (
	// MaxLive is the largest number of entries.
	MaxLive = 50_000
	// MaxEntry is the longest entry, in bytes: a range of IPv6 addresses.
	MaxEntry = 2*39 + 1
	// settle is how long changes are collected before the set is built anew,
	// so that many small ones cost little.
	settle = 50 * time.Millisecond
)

// Entry is one entry of a Live list.
type Entry struct {
	// Text is an address, a prefix or a range, as Canonical returns it.
	Text string
	// Until is when the entry ends, in whole seconds; the zero Time is never.
	Until time.Time
}

// Canonical returns the one form of an entry in which a Live list keeps it: an
// address, a masked prefix or a range a-b, IPv4 never in IPv6 form. An entry that
// holds all of IPv4 or of IPv6 is an error: in a list that is edited by hand it is
// a slip.
func Canonical(text string) (string, error) {
	s, _, err := canonical(text)
	return s, err
}

func canonical(text string) (string, entrySpan, error) {
	if text == "" {
		return "", entrySpan{}, errors.New("the entry is empty")
	}
	first, last, f := parseEntry(text)
	if f != nil {
		if f.hint != "" {
			return "", entrySpan{}, fmt.Errorf("%s: %s", f.msg, f.hint)
		}
		return "", entrySpan{}, errors.New(f.msg)
	}
	span := entrySpan{first, last}
	if first == last {
		return first.String(), span, nil
	}
	for bits := range first.BitLen() + 1 {
		if p := netip.PrefixFrom(first, bits); p.Masked() == p && lastAddr(p) == last {
			if bits == 0 {
				return "", entrySpan{}, fmt.Errorf("%s holds everybody", p)
			}
			return p.String(), span, nil
		}
	}
	return first.String() + "-" + last.String(), span, nil
}

// entrySpan is the addresses of an entry, both ends included.
type entrySpan struct{ first, last netip.Addr }

type liveEntry struct {
	entrySpan
	until int64 // Unix seconds; 0 is never
}

// Live is a list that is edited while it is in use. Changes have a version, which
// whoever makes them counts up. Contains and Len take no lock.
//
// A Live list is bounded: entries beyond MaxLive are not taken in. All methods are
// safe for concurrent use. Make one with NewLive.
type Live struct {
	now func() time.Time
	set atomic.Pointer[Set]

	mu      sync.Mutex
	entries map[string]liveEntry
	version uint64
	pending *time.Timer // that builds the set anew; nil if there is none
	ending  *time.Timer // at the end of the next entry
	closed  bool
}

// NewLive returns an empty list of version 0. now is the clock by which entries end;
// nil is time.Now. Close ends its timers.
func NewLive(now func() time.Time) *Live {
	if now == nil {
		now = time.Now
	}
	l := &Live{now: now, entries: map[string]liveEntry{}}
	l.set.Store(new(Set))
	return l
}

// Contains reports whether the list holds a. It does not allocate.
func (l *Live) Contains(a netip.Addr) bool { return l.set.Load().Contains(a) }

// Len returns the number of entries in force.
func (l *Live) Len() int { return l.set.Load().Len() }

// Set returns the addresses in force, never nil.
func (l *Live) Set() *Set { return l.set.Load() }

// Version returns the version of the content.
func (l *Live) Version() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.version
}

// Replace puts a whole content in force, at once, and returns how many entries were
// not taken: those that are none, and those for which there is no room.
func (l *Live) Replace(version uint64, entries []Entry) (refused int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = make(map[string]liveEntry, min(len(entries), MaxLive))
	for _, e := range entries {
		if !l.add(e) {
			refused++
		}
	}
	l.version = version
	l.build()
	return refused
}

// Change takes entries in and out. It does so only if version is the one that follows
// that of the content, and reports whether the content is of that version now, or of a
// later one: if not, changes in between were missed. The set in force follows within
// 50 ms.
func (l *Live) Change(version uint64, add []Entry, remove []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if version <= l.version {
		return true
	}
	if version != l.version+1 {
		return false
	}
	for _, text := range remove {
		delete(l.entries, text)
	}
	for _, e := range add {
		l.add(e)
	}
	l.version = version
	if l.pending == nil && !l.closed {
		l.pending = time.AfterFunc(settle, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.build()
		})
	}
	return true
}

// add takes one entry in; l.mu is held.
func (l *Live) add(e Entry) bool {
	if len(e.Text) > MaxEntry {
		return false
	}
	text, span, err := canonical(e.Text)
	if err != nil {
		return false
	}
	if _, known := l.entries[text]; !known && len(l.entries) >= MaxLive {
		return false
	}
	one := liveEntry{entrySpan: span}
	if !e.Until.IsZero() {
		one.until = max(e.Until.Unix(), 1)
	}
	l.entries[text] = one
	return true
}

// build makes the set of the entries that have not ended; l.mu is held.
func (l *Live) build() {
	if l.pending != nil {
		l.pending.Stop()
		l.pending = nil
	}
	if l.ending != nil {
		l.ending.Stop()
		l.ending = nil
	}
	if l.closed {
		return
	}
	now := l.now()
	next := int64(0)
	var b builder
	for _, e := range l.entries {
		if e.until != 0 {
			if e.until <= now.Unix() {
				continue
			}
			if next == 0 || e.until < next {
				next = e.until
			}
		}
		b.add(e.first, e.last)
	}
	l.set.Store(b.build())
	if next != 0 {
		// Long timers run on the monotonic clock; that of the entries may be
		// set meanwhile.
		l.ending = time.AfterFunc(min(time.Unix(next, 0).Sub(now), time.Hour), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.build()
		})
	}
}

// Entries returns the version, and the entries that have not ended, in the order of
// their addresses.
func (l *Live) Entries() (uint64, []Entry) {
	l.mu.Lock()
	now := l.now().Unix()
	type one struct {
		Entry
		entrySpan
	}
	all := make([]one, 0, len(l.entries))
	for text, e := range l.entries {
		switch {
		case e.until == 0:
			all = append(all, one{Entry{Text: text}, e.entrySpan})
		case e.until > now:
			all = append(all, one{Entry{Text: text, Until: time.Unix(e.until, 0)}, e.entrySpan})
		}
	}
	version := l.version
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b one) int {
		return cmp.Or(a.first.Compare(b.first), b.last.Compare(a.last), cmp.Compare(a.Text, b.Text))
	})
	entries := make([]Entry, len(all))
	for i := range all {
		entries[i] = all[i].Entry
	}
	return version, entries
}

// Close ends the timers. The list stays as it is.
func (l *Live) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.build() // what waits
	l.closed = true
	if l.ending != nil {
		l.ending.Stop()
	}
}

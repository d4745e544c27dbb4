package ban

import (
	"container/heap"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"

	"github.com/moatwaf/moat/filter"
)

// Ban is an address, or a prefix, that is refused for a time.
type Ban struct {
	Prefix netip.Prefix `json:"prefix"`
	Since  time.Time    `json:"since"`
	Until  time.Time    `json:"until"`
	// Rule is the id of the rule that led to the ban; "manual" where an
	// operator made it.
	Rule string `json:"rule"`
	// Level counts the bans of the prefix that followed on one another, from 1.
	Level int `json:"level"`
	// Forget is the time from which the next ban is a first one again.
	Forget time.Time `json:"forget"`
}

// Manual is the rule of bans that an operator made.
const Manual = "manual"

// Bounds of a Table.
const (
	DefaultMax = 100_000    // bans
	MaxMax     = 10_000_000 // bans
	// MaxFor is the longest ban.
	MaxFor = 10 * 366 * 24 * time.Hour
)

// entry is a ban in its table. It is immutable, but for its place in the heap.
type entry struct {
	Ban
	until  int64  // Until in Unix nanoseconds
	detail string // for the log
	place  int    // in the heap; guarded by the table
}

// Change is a ban that was made or lifted. It is what the file and other nodes
// are told.
type Change struct {
	Lift bool `json:"lift,omitempty"`
	Ban
}

// Table holds the bans. As a filter.Stage it refuses the addresses in it. Readers
// take no lock. Make one with NewTable.
//
// A table is bounded: for a new ban it drops the one that ends first, of those
// that are over if there is one.
//
// All methods are safe for concurrent use.
type Table struct {
	current atomic.Pointer[bart.Table[*entry]]
	now     func() time.Time
	log     *slog.Logger

	mu       sync.Mutex
	entries  map[netip.Prefix]*entry
	order    byEnd
	max      int
	dropped  uint64
	totals   map[string]*totals // by rule
	counters counters
	publish  func(Change)
	file     *file
	lifted   map[netip.Prefix]Ban // the last ban of a prefix that was lifted, until its end
}

// maxLifted bounds the lifts that are remembered.
const maxLifted = 10_000

// NewTable returns a Table without bans. now is the clock of what happens outside
// of requests, nil for time.Now; logger takes faults of the file, nil for
// slog.Default.
func NewTable(now func() time.Time, logger *slog.Logger) *Table {
	if now == nil {
		now = time.Now
	}
	if logger == nil {
		logger = slog.Default()
	}
	t := &Table{now: now, log: logger, entries: map[netip.Prefix]*entry{}, lifted: map[netip.Prefix]Ban{}, max: DefaultMax}
	t.current.Store(new(bart.Table[*entry]))
	return t
}

var _ filter.Stage = (*Table)(nil)

// Name returns "ban".
func (t *Table) Name() string { return "ban" }

// Check refuses clients that are banned. It does not allocate and returns no error.
func (t *Table) Check(r *filter.Request) (filter.Decision, error) {
	bans := t.current.Load()
	if bans.Size() == 0 || !r.Client.IsValid() {
		return filter.Next(), nil
	}
	if e := find(bans, r.Client, r.Now.UnixNano()); e != nil {
		return filter.Decision{
			Verdict: filter.Block, Reason: filter.ReasonBan, Stage: "ban", Rule: e.Rule, Detail: e.detail,
		}, nil
	}
	return filter.Next(), nil
}

// find returns a ban in force that holds for an address; nil if there is none.
func find(bans *bart.Table[*entry], client netip.Addr, now int64) *entry {
	client = client.Unmap().WithZone("")
	e, ok := bans.Lookup(client)
	if !ok {
		return nil
	}
	if e.until > now {
		return e
	}
	// The closest ban is over; a wider one may not be.
	for _, e := range bans.Supernets(netip.PrefixFrom(client, client.BitLen())) {
		if e.until > now {
			return e
		}
	}
	return nil
}

// Add bans a prefix for a time from now, in place of an earlier ban of the same
// prefix. An error means that nothing was banned.
func (t *Table) Add(prefix netip.Prefix, d time.Duration, rule string) (Ban, error) {
	prefix, err := canonical(prefix)
	if err != nil {
		return Ban{}, err
	}
	if d <= 0 || d > MaxFor {
		return Ban{}, fmt.Errorf("ban: a ban of %s is not from 1ns to ten years", d)
	}
	now := t.now()
	b := Ban{Prefix: prefix, Since: now, Until: now.Add(d), Rule: rule, Level: 1, Forget: now.Add(d)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(b)
	t.total(b.Rule).added++
	t.tell(Change{Ban: b})
	return b, nil
}

// canonical returns the form in which a prefix is kept: masked, and of IPv4 where
// it is one of v4-in-v6.
func canonical(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() {
		return p, fmt.Errorf("ban: not a prefix")
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return p, fmt.Errorf("ban: %s holds all of IPv4", p)
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if p.Bits() == 0 {
		return p, fmt.Errorf("ban: %s holds everybody", p)
	}
	return netip.PrefixFrom(p.Addr().WithZone(""), p.Bits()).Masked(), nil
}

// offend bans a prefix as a rule says, unless it is banned already.
func (t *Table) offend(prefix netip.Prefix, r *Rule, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	level := 1
	if e := t.entries[prefix]; e != nil {
		if e.Until.After(now) {
			return
		}
		if e.Forget.After(now) {
			level = e.Level + 1
		}
	}
	d := r.duration(level)
	b := Ban{Prefix: prefix, Since: now, Until: now.Add(d), Rule: r.ID, Level: level, Forget: now.Add(d + r.Max)}
	t.put(b)
	t.total(b.Rule).added++
	t.tell(Change{Ban: b})
}

// Lift ends the bans that hold for a whole prefix, of which one address is the
// smallest, and forgets what led to them. It returns what it lifted.
func (t *Table) Lift(prefix netip.Prefix) []Ban {
	prefix, err := canonical(prefix)
	if err != nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var lifted []Ban
	now := t.now()
	for _, e := range slices.Collect(values(t.current.Load().Supernets(prefix))) {
		if e.Until.After(now) {
			lifted = append(lifted, e.Ban)
			t.total(e.Rule).lifted++
		}
		t.remove(e)
		t.noteLift(e.Ban)
		t.tell(Change{Lift: true, Ban: e.Ban})
	}
	return lifted
}

func values[K, V any](seq func(yield func(K, V) bool)) func(yield func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range seq {
			if !yield(v) {
				return
			}
		}
	}
}

// Apply takes over a change that another node has made, and writes it to the file.
// A ban that is over, or ends before the one that is here, changes nothing.
func (t *Table) Apply(c Change) {
	prefix, err := canonical(c.Prefix)
	if err != nil {
		return
	}
	c.Prefix = prefix
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[prefix]
	switch now := t.now(); {
	case c.Lift:
		// A lift is of the ban that the other node knew: one that was made
		// since stays.
		t.noteLift(c.Ban)
		if e != nil && !e.Since.After(c.Since) {
			if e.Until.After(now) {
				t.total(e.Rule).lifted++
			}
			t.remove(e)
			t.write(c)
		}
	case !t.lifted[prefix].Since.Before(c.Since):
		// News that is older than a lift: it came by a slower way.
	case !c.Until.After(now) || c.Until.Sub(now) > MaxFor || e != nil && !e.Until.Before(c.Until):
	default:
		t.put(c.Ban)
		t.total(c.Rule).added++
		t.write(c)
	}
}

// noteLift remembers that a ban was lifted; t.mu is held.
func (t *Table) noteLift(b Ban) {
	if t.lifted[b.Prefix].Since.After(b.Since) {
		return
	}
	if len(t.lifted) >= maxLifted {
		now := t.now()
		for prefix, old := range t.lifted { // any, if none is over
			if delete(t.lifted, prefix); !old.Until.After(now) || len(t.lifted) < maxLifted {
				break
			}
		}
	}
	t.lifted[b.Prefix] = b
}

// SetPublish sets what is told of every change that is made here, but not of those
// by Apply. It must not block.
func (t *Table) SetPublish(f func(Change)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.publish = f
}

// SetMax bounds the bans; 0 is DefaultMax.
func (t *Table) SetMax(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.max = min(n, MaxMax)
	if n <= 0 {
		t.max = DefaultMax
	}
	t.shrink(0)
}

// tell reports a change that was made here; t.mu is held.
func (t *Table) tell(c Change) {
	t.write(c)
	if t.publish != nil {
		t.publish(c)
	}
}

// put takes a ban in; t.mu is held.
func (t *Table) put(b Ban) {
	e := &entry{Ban: b, until: b.Until.UnixNano(), detail: "banned until " + b.Until.UTC().Format(time.RFC3339)}
	if old := t.entries[b.Prefix]; old != nil {
		heap.Remove(&t.order, old.place)
		delete(t.entries, b.Prefix)
	} else {
		t.shrink(1)
	}
	t.entries[b.Prefix] = e
	heap.Push(&t.order, e)
	t.current.Store(t.current.Load().InsertPersist(b.Prefix, e))
}

// shrink makes room for more bans; t.mu is held.
func (t *Table) shrink(more int) {
	now := t.now()
	for len(t.order) > 0 && (len(t.order)+more > t.max || t.order[0].Forget.Before(now) && t.order[0].Until.Before(now)) {
		e := t.order[0]
		if e.Until.After(now) {
			t.dropped++
		}
		t.remove(e)
	}
}

// remove takes a ban out; t.mu is held.
func (t *Table) remove(e *entry) {
	heap.Remove(&t.order, e.place)
	delete(t.entries, e.Prefix)
	t.current.Store(t.current.Load().DeletePersist(e.Prefix))
}

// List returns the bans in force, those that end last first.
func (t *Table) List() []Ban {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	bans := []Ban{}
	for _, e := range t.order {
		if e.Until.After(now) {
			bans = append(bans, e.Ban)
		}
	}
	slices.SortFunc(bans, func(a, b Ban) int {
		if c := b.Until.Compare(a.Until); c != 0 {
			return c
		}
		return a.Prefix.Addr().Compare(b.Prefix.Addr())
	})
	return bans
}

// byEnd is a heap of bans, the one that ends first on top.
type byEnd []*entry

func (h byEnd) Len() int           { return len(h) }
func (h byEnd) Less(i, j int) bool { return h[i].until < h[j].until }
func (h byEnd) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}
func (h *byEnd) Push(x any) {
	e := x.(*entry)
	e.place = len(*h)
	*h = append(*h, e)
}
func (h *byEnd) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

package view

import (
	"net/netip"
	"strconv"
	"sync"
	"unsafe"

	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/filter"
)

// Pair is a value of a keyed collection. Name is what the engine's MatchData.Key
// gives, in the case in which the client wrote it.
type Pair struct{ Name, Value string }

// View holds the values of one request. It belongs to one goroutine. The strings
// that it gives are part of the request, of its body, or of a buffer of the View
// itself: they are valid until Reset or Release, and only as long as nobody changes
// the body.
type View struct {
	request *filter.Request
	phase   int
	clean   bool // there is nothing to reset
	single  [numSingles]string
	list    [numLists][]Pair
	buf     []byte
	frames  []frame // the JSON containers that are open
	path    []byte  // the name of the last of them
	getSize int     // bytes of the arguments of the query
	media   string  // the first Content-Type

	// The server's address is the same for one request after the other, and stays.
	server                 netip.AddrPort
	serverAddr, serverPort string
}

// What a View keeps from one request to the next.
const (
	keepBuffer = 256 << 10
	keepPairs  = 2048
	keepFrames = 256
)

var views = sync.Pool{New: func() any { return new(View) }}

// Get returns an empty View. The caller gives it back with Release.
func Get() *View {
	v := views.Get().(*View)
	v.Reset()
	return v
}

// Release empties v and gives it back. Neither v nor any of its strings may be used
// afterwards.
func (v *View) Release() {
	v.Reset()
	views.Put(v)
}

// Reset empties v. It keeps no reference to a request, and no more memory than a
// usual request needs.
func (v *View) Reset() {
	if v.clean {
		return
	}
	v.clean = true
	v.request, v.phase, v.getSize, v.media = nil, 0, 0, ""
	v.single = defaults
	for i := firstList; i < numLists; i++ {
		list := &v.list[i]
		switch {
		case cap(*list) > keepPairs:
			*list = nil
		case len(*list) > 0:
			clear(*list)
			*list = (*list)[:0]
		}
	}
	if cap(v.buf) > keepBuffer {
		v.buf = nil
	}
	v.buf = v.buf[:0]
	if cap(v.frames) > keepFrames {
		v.frames = nil
	}
	v.frames = v.frames[:0]
	if cap(v.path) > keepBuffer {
		v.path = nil
	}
}

// Phase returns 1 if v holds what the rules of phase 1 see, 2 if it holds what
// those of phase 2 see, and 0 if it is empty or not known.
func (v *View) Phase() int { return v.phase }

// List returns the values of a keyed collection in no promised order; nil if it is
// empty or not a keyed collection that Knows knows. The collections of names, and
// those that join others, are not here: they follow from the pairs.
func (v *View) List(c variables.RuleVariable) []Pair {
	i := listAt[c]
	if i < firstList || len(v.list[i]) == 0 {
		return nil
	}
	return v.list[i]
}

// Single returns the value of a variable that has one; empty if it is empty or not
// such a variable that Knows knows.
func (v *View) Single(c variables.RuleVariable) string {
	i := singleAt[c]
	if i == identifier && v.request != nil {
		return v.request.ID()
	}
	return v.single[i]
}

// Knows reports whether a View holds the values of a variable, as List or as
// Single gives them.
func Knows(c variables.RuleVariable) bool { return listAt[c] != 0 || singleAt[c] != 0 }

// IsList reports whether List gives the values of a variable, and not Single.
func IsList(c variables.RuleVariable) bool { return listAt[c] != 0 }

// mark returns where the next text of the buffer begins.
func (v *View) mark() int { return len(v.buf) }

// since returns the text that was put into the buffer since a mark. It stays as it
// is when the buffer grows: what is behind it moves, it does not.
func (v *View) since(mark int) string {
	if mark == len(v.buf) {
		return ""
	}
	return unsafe.String(&v.buf[mark], len(v.buf)-mark)
}

// number returns a number as text.
func (v *View) number(n int) string { return v.longNumber(int64(n)) }

// longNumber is number for lengths that no memory holds.
func (v *View) longNumber(n int64) string {
	if 0 <= n && n < 100 {
		return strconv.FormatInt(n, 10) // without allocation
	}
	mark := v.mark()
	v.buf = strconv.AppendInt(v.buf, n, 10)
	return v.since(mark)
}

// textOf returns bytes as a string, without a copy.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

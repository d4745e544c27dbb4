package proof

import "strings"

// txState is the collection TX of one request. Names that the program mentions have
// a slot; others are few.
type txState struct {
	names   []string // of the slots
	slots   map[string]int
	vars    []txVar
	touched []int // slots that are not absent, and maybe others
	dynamic []txVar
	index   map[string]int // of dynamic, by name
}

// txVar is one variable.
type txVar struct {
	name  string // of a dynamic one, in lower case
	value string
	state varState
	// listed says that the slot is in touched.
	listed bool
	last   write
}

// varState says what is known of a variable.
type varState uint8

const (
	varAbsent varState = iota
	varSet
	// varUnknown is a variable of which only a request tells the value.
	varUnknown
	// varMixed is a variable whose value depends on the order of values, which the
	// engine does not promise.
	varMixed
	// varShuffled is one of several variables that share a known set of values:
	// which of them has which depends on that order.
	varShuffled
)

// write is how a variable was set last.
type write struct {
	link  uint32 // the evaluation of a link
	match int    // which of its matches
	plain bool   // a text without variables
	add   bool
	value string
}

// maxDynamic bounds the variables of one request.
const maxDynamic = 4096

func newTX(names []string, slots map[string]int) txState {
	return txState{names: names, slots: slots, vars: make([]txVar, len(names)), index: map[string]int{}}
}

func (t *txState) reset() {
	for _, i := range t.touched {
		t.vars[i] = txVar{}
	}
	t.touched = t.touched[:0]
	if len(t.dynamic) > 0 {
		clear(t.dynamic)
		clear(t.index)
		if cap(t.dynamic) > 256 {
			t.dynamic, t.index = nil, map[string]int{}
		}
		t.dynamic = t.dynamic[:0]
	}
}

// set gives a slot a value.
func (t *txState) set(slot int, value string, s varState) {
	v := &t.vars[slot]
	if !v.listed {
		v.listed = true
		t.touched = append(t.touched, slot)
	}
	v.value, v.state = value, s
}

// variable returns the variable of a name, which is made if there is none; nil if
// there are too many.
func (t *txState) variable(name string) *txVar {
	if slot, ok := t.slots[name]; ok {
		v := &t.vars[slot]
		if !v.listed {
			v.listed = true
			t.touched = append(t.touched, slot)
		}
		return v
	}
	if i, ok := t.index[name]; ok {
		return &t.dynamic[i]
	}
	if len(t.dynamic) == maxDynamic {
		return nil
	}
	t.index[name] = len(t.dynamic)
	t.dynamic = append(t.dynamic, txVar{name: name})
	return &t.dynamic[len(t.dynamic)-1]
}

// lower is strings.ToLower, without a copy where there is nothing to do.
func lower(s string) string { return strings.ToLower(s) }

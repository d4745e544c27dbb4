package geo

import (
	"errors"

	"github.com/oschwald/maxminddb-golang/v2"
)

// tree is the search tree of a database: nodes of two pointers each, one for
// either value of the next bit of an address. A pointer below nodes leads to a
// node, nodes itself means no data, and more is a record.
//
// The reader's own iterator does not end on a tree that shares its nodes: a few
// hundred bytes can describe 2 to the power of 100 networks, of which it passes
// over those that look like aliases of the IPv4 tree. This walk is bounded.
type tree struct {
	data     []byte
	nodes    uint64
	nodeSize uint64 // in bytes: 6, 7 or 8
	v6       bool   // addresses have 128 bits, and IPv4 is at ::/96
}

// separator is the length, in bytes, of the zeros between tree and records.
const separator = 16

var (
	errTreeSize  = errors.New("is damaged: the search tree does not fit the file")
	errRecord    = errors.New("is damaged: the search tree leads out of the records")
	errTooDeep   = errors.New("is damaged: the search tree is deeper than an address is long")
	errTooShared = errors.New("is refused: the search tree has far more networks than nodes")
)

func newTree(data []byte, m *maxminddb.Metadata) (*tree, error) {
	switch m.RecordSize {
	case 24, 28, 32:
	default:
		return nil, errors.New("is damaged: no record size of 24, 28 or 32 bits")
	}
	t := &tree{data: data, nodes: uint64(m.NodeCount), nodeSize: uint64(m.RecordSize) / 4, v6: m.IPVersion == 6}
	if t.nodes > uint64(len(data))/t.nodeSize {
		return nil, errTreeSize
	}
	return t, nil
}

// node returns the pointers of a node, which must be below nodes.
func (t *tree) node(i uint64) (left, right uint64) {
	b := t.data[i*t.nodeSize:]
	switch t.nodeSize {
	case 6:
		return u24(b), u24(b[3:6])
	case 7:
		return uint64(b[3]>>4)<<24 | u24(b), uint64(b[3]&0xf)<<24 | u24(b[4:7])
	}
	return uint64(b[0])<<24 | u24(b[1:4]), uint64(b[4])<<24 | u24(b[5:8])
}

func u24(b []byte) uint64 { return uint64(b[0])<<16 | uint64(b[1])<<8 | uint64(b[2]) }

// v4Depth is the number of bits of an IPv6 tree above the IPv4 tree.
const v4Depth = 96

// at follows the first bits of addr and returns where they lead to: a node if
// the tree has that many bits there.
func (t *tree) at(addr v6Addr, bits int) (pointer uint64) {
	for depth := range bits {
		if pointer >= t.nodes {
			break
		}
		left, right := t.node(pointer)
		if pointer = left; addr.bit(depth) {
			pointer = right
		}
	}
	return pointer
}

// bit returns a bit of the address, counted from the first.
func (a v6Addr) bit(i int) bool {
	if i < 64 {
		return a.hi>>(63-i)&1 == 1
	}
	return a.lo>>(127-i)&1 == 1
}

// with returns the address with a bit set.
func (a v6Addr) with(i int) v6Addr {
	if i < 64 {
		a.hi |= 1 << (63 - i)
	} else {
		a.lo |= 1 << (127 - i)
	}
	return a
}

// walk calls visit for every network, those without data too, in ascending order
// of addresses, with the offset of its record or with found false. Networks of
// IPv4 have their address in the lower 32 bits and a depth over 96. Aliases of
// the IPv4 tree are passed over.
func (t *tree) walk(visit func(addr v6Addr, depth int, offset uint64, found bool) error) error {
	const noNode = 1 << 63
	type step struct {
		addr    v6Addr
		depth   int
		pointer uint64
	}
	v4, first := uint64(noNode), step{}
	if t.v6 {
		v4 = t.at(v6Addr{}, v4Depth)
		if v4 == 0 && t.nodes > 0 {
			return errTooDeep // the way to IPv4 ends where it began
		}
		if v4 >= t.nodes {
			v4 = noNode // IPv4 is one network, or a part of one
		}
	} else {
		first.depth = v4Depth
	}
	// A tree has one leaf more than it has nodes. Writers that share equal
	// parts exist; they save a part of the nodes, not nearly all.
	budget := 16*t.nodes + 4096
	stack := append(make([]step, 0, 129), first)
	for len(stack) > 0 {
		s := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if budget--; budget == 0 {
			return errTooShared
		}
		switch {
		case s.pointer == v4 && (s.depth != v4Depth || s.addr != v6Addr{}):
			// An alias. The ranges are filled up behind it.
		case s.pointer < t.nodes:
			if s.depth == 128 {
				return errTooDeep
			}
			left, right := t.node(s.pointer)
			stack = append(stack, step{s.addr.with(s.depth), s.depth + 1, right}, step{s.addr, s.depth + 1, left})
		default:
			found := s.pointer > t.nodes
			if found && s.pointer < t.nodes+separator {
				return errRecord
			}
			if err := visit(s.addr, s.depth, s.pointer-t.nodes-separator, found); err != nil {
				return err
			}
		}
	}
	return nil
}

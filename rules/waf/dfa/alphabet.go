package dfa

import (
	"encoding/binary"
	"math"
	"slices"
	"unicode/utf8"
)

// alphabet maps the bytes of a text to the symbols that the program of an
// automaton tells apart.
//
// All runes that are in the same sets of the program are one symbol. The bytes
// of a character are gathered by a small automaton of their own, whose position
// is part of each state, so that characters and invalid bytes are read exactly
// as utf8.DecodeRune reads them: a byte that does not continue what came before
// makes each byte before it U+FFFD and is then read afresh.
type alphabet struct {
	symbols int
	// in tells for each symbol in which sets it is, words of 64 sets.
	in    []uint64
	words int
	// side is how the position behind each symbol is seen by conditions.
	side []side8

	first []rune // first runes of the intervals, ascending
	sym   []int32

	byteSym [256]int32 // symbol of a single byte, or ^node that it leads to
	invalid int32      // symbol of U+FFFD
	nodes   []node

	class   [256]uint8
	classes int
}

// node is a position within a character.
type node struct {
	depth int
	// kids are, for each continuation byte, the symbol that is complete with
	// it, ^node, or broken.
	kids [64]int32
}

const broken = math.MinInt32

// side8 is what conditions ask about the rune beside a position.
type side8 uint8

const (
	besideText  side8 = iota // the beginning of the text
	besideNL                 // a newline
	besideWord               // a word character, lower-cased or not
	besideLower              // a word character only when lower-cased
	besideOther
)

// newAlphabet builds the alphabet of a program: of bytes, or of runes. It tells
// apart what the conditions in uses ask for.
func newAlphabet(p *program, uses cond, bytewise bool) *alphabet {
	a := &alphabet{}
	top := rune(maxRune)
	if bytewise {
		top = 0xFF
	}
	sets := slices.Clone(p.sets)
	nl, word, lowerWord := -1, -1, -1
	if uses&(atBeginLine|atEndLine) != 0 {
		nl = len(sets)
		sets = append(sets, newline)
	}
	if uses&(wordConds|lowerWordConds) != 0 {
		word = len(sets)
		sets = append(sets, wordRunes)
	}
	if uses&lowerWordConds != 0 {
		lowerWord = len(sets)
		sets = append(sets, wordRunes.beforeLower())
	}
	a.words = (len(sets) + 63) / 64

	cuts := []rune{0}
	if !bytewise {
		cuts = append(cuts, utf8.RuneSelf)
	}
	for _, s := range sets {
		for i := 0; i < len(s); i += 2 {
			cuts = append(cuts, s[i], s[i+1]+1)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)

	index := map[string]int32{}
	row := make([]uint64, a.words)
	key := make([]byte, 8*a.words)
	// Sets are walked in step with the intervals.
	at := make([]int, len(sets))
	for _, lo := range cuts {
		if lo > top {
			break
		}
		clear(row)
		for i, s := range sets {
			for at[i] < len(s) && s[at[i]+1] < lo {
				at[i] += 2
			}
			if at[i] < len(s) && s[at[i]] <= lo {
				row[i/64] |= 1 << (i % 64)
			}
		}
		for i, w := range row {
			binary.LittleEndian.PutUint64(key[8*i:], w)
		}
		sym, ok := index[string(key)]
		if !ok {
			sym = int32(a.symbols)
			a.symbols++
			index[string(key)] = sym
			a.in = append(a.in, row...)
			has := func(i int) bool { return i >= 0 && row[i/64]&(1<<(i%64)) != 0 }
			s := besideOther
			switch {
			case has(nl):
				s = besideNL
			case has(word):
				s = besideWord
			case has(lowerWord):
				s = besideLower
			}
			a.side = append(a.side, s)
		}
		a.first = append(a.first, lo)
		a.sym = append(a.sym, sym)
	}
	if bytewise {
		for b := range 256 {
			a.byteSym[b] = a.symbol(rune(b))
		}
	} else {
		a.decoder()
	}
	a.classify()
	return a
}

// symbol returns the symbol of a rune.
func (a *alphabet) symbol(r rune) int32 { return a.sym[a.interval(r)] }

func (a *alphabet) interval(r rune) int {
	i, found := slices.BinarySearch(a.first, r)
	if !found {
		i--
	}
	return i
}

func (a *alphabet) has(sym int, set uint32) bool {
	return a.in[sym*a.words+int(set/64)]&(1<<(set%64)) != 0
}

// decoder builds the positions within characters. Positions from which all goes
// the same way are one.
func (a *alphabet) decoder() {
	a.invalid = a.symbol(utf8.RuneError)
	index := map[node]int32{}
	intern := func(n node) int32 {
		i, ok := index[n]
		if !ok {
			i = int32(len(a.nodes))
			a.nodes = append(a.nodes, n)
			index[n] = i
		}
		return ^i
	}
	type uniform struct {
		depth, left int
		sym         int32
	}
	whole := map[uniform]int32{}
	// build returns the position behind depth bytes of a character of which
	// left are missing, whose bits so far are prefix.
	var build func(prefix rune, depth, left int) int32
	build = func(prefix rune, depth, left int) int32 {
		lo := prefix << (6 * left)
		hi := lo | (1<<(6*left) - 1)
		if left == 0 {
			return a.symbol(lo)
		}
		// The narrowed second bytes of RFC 3629, section 4: no overlong forms,
		// no surrogates, nothing above U+10FFFF.
		narrow := depth == 1 && (left == 2 && (prefix == 0 || prefix == 0xD) || left == 3 && (prefix == 0 || prefix == 4))
		var u uniform
		same := !narrow && a.interval(lo) == a.interval(hi)
		if same {
			u = uniform{depth, left, a.symbol(lo)}
			if n, ok := whole[u]; ok {
				return n
			}
		}
		n := node{depth: depth}
		for c := range rune(64) {
			next := prefix<<6 | c
			n.kids[c] = broken
			if narrow {
				first := next << (6 * (left - 1))
				switch {
				case left == 2 && first < 0x800, left == 3 && first < 0x10000,
					0xD800 <= first && first <= 0xDFFF, first > maxRune:
					continue
				}
			}
			n.kids[c] = build(next, depth+1, left-1)
		}
		i := intern(n)
		if same {
			whole[u] = i
		}
		return i
	}
	for b := range 256 {
		r := rune(b)
		switch {
		case b < utf8.RuneSelf:
			a.byteSym[b] = a.symbol(r)
		case 0xC2 <= b && b <= 0xDF:
			a.byteSym[b] = build(r&0x1F, 1, 1)
		case 0xE0 <= b && b <= 0xEF:
			a.byteSym[b] = build(r&0x0F, 1, 2)
		case 0xF0 <= b && b <= 0xF4:
			a.byteSym[b] = build(r&0x07, 1, 3)
		default:
			a.byteSym[b] = a.invalid
		}
	}
}

// classify joins the bytes that do the same at every position.
func (a *alphabet) classify() {
	index := map[string]uint8{}
	var key []byte
	for b := range 256 {
		key = binary.LittleEndian.AppendUint32(key[:0], uint32(a.byteSym[b]))
		for i := range a.nodes {
			k := int32(broken)
			if b&0xC0 == 0x80 {
				k = a.nodes[i].kids[b&0x3F]
			}
			key = binary.LittleEndian.AppendUint32(key, uint32(k))
		}
		c, ok := index[string(key)]
		if !ok {
			c = uint8(a.classes)
			a.classes++
			index[string(key)] = c
		}
		a.class[b] = c
	}
}

// read appends to syms the symbols that byte b completes at a position (-1 is
// between characters) and returns the position behind it.
func (a *alphabet) read(syms []int, pos int32, b byte) ([]int, int32) {
	if pos >= 0 {
		n := &a.nodes[pos]
		k := int32(broken)
		if b&0xC0 == 0x80 {
			k = n.kids[b&0x3F]
		}
		switch {
		case k == broken:
			syms = a.flush(syms, pos)
		case k < 0:
			return syms, ^k
		default:
			return append(syms, int(k)), -1
		}
	}
	if s := a.byteSym[b]; s >= 0 {
		return append(syms, int(s)), -1
	}
	return syms, ^a.byteSym[b]
}

// flush appends the symbols of an incomplete character.
func (a *alphabet) flush(syms []int, pos int32) []int {
	if pos >= 0 {
		for range a.nodes[pos].depth {
			syms = append(syms, int(a.invalid))
		}
	}
	return syms
}

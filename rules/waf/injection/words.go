package injection

import "strings"

// Categories of tokens. The byte is the letter that stands for the category in
// a fingerprint; bytes of punctuation stand for themselves.
const (
	catNone       byte = 0
	catKeyword    byte = 'k'
	catUnion      byte = 'U'
	catGroup      byte = 'B'
	catExpression byte = 'E'
	catType       byte = 't'
	catFunction   byte = 'f'
	catWord       byte = 'n'
	catNumber     byte = '1'
	catVariable   byte = 'v'
	catString     byte = 's'
	catOperator   byte = 'o'
	catLogic      byte = '&'
	catComment    byte = 'c'
	catCollate    byte = 'A'
	catTSQL       byte = 'T'
	catUnknown    byte = '?'
	catEvil       byte = 'X'
	catBackslash  byte = '\\'
	catDot        byte = '.'
)

// maxValue is the number of bytes of a token that are kept. Longer words are
// never looked up.
const maxValue = 31

// keyword is one entry of the word table: a word, phrase or operator in
// capitals and its category, which is catNone for what only begins or ends a
// phrase. head and tail say that it may be the part of a phrase before and
// behind a blank.
type keyword struct {
	text       string
	cat        byte
	head, tail bool
	callable   bool
}

const wordSlots = 1 << 12

var (
	// keywords is the list behind wordIndex; its element 0 is no word.
	keywords = []keyword{{}}
	// wordIndex is an open hash table from a word to its place in keywords.
	wordIndex [wordSlots]uint16
	// operators2 gives the category of the operators of two bytes, by the class
	// of the first byte and the second byte.
	operators2 [opClasses][128]byte
)

// The keywords that single rules name.
var kwIn, kwNotIn, kwLike, kwNotLike, kwNot, kwUser uint16

func init() {
	for cat, list := range keywordLists {
		for word := range strings.Lines(list) {
			addKeyword(keyword{text: strings.TrimSuffix(word, "\n"), cat: cat})
		}
	}
	for i := range len(keywords) {
		phrase := keywords[i].text
		for j := range len(phrase) {
			if phrase[j] == ' ' {
				keywords[component(phrase[:j])].head = true
				keywords[component(phrase[j+1:])].tail = true
			}
		}
	}
	for _, name := range callables {
		keywords[component(name)].callable = true
	}
	kwIn, kwNotIn = component("IN"), component("NOT IN")
	kwLike, kwNotLike = component("LIKE"), component("NOT LIKE")
	kwNot, kwUser = component("NOT"), component("USER")
}

// callables are words and variables that are functions too.
var callables = [...]string{
	"USER_ID", "USER_NAME", "DATABASE", "PASSWORD", "USER", "CURRENT_USER",
	"CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP",
}

// component returns the place of w in keywords, where it puts it if need be.
func component(w string) uint16 {
	i, _ := findWord(w)
	if i == 0 {
		i = addKeyword(keyword{text: w})
	}
	return i
}

func addKeyword(k keyword) uint16 {
	if len(k.text) < 2 || len(k.text) > maxValue-2 {
		panic("injection: keyword of unexpected length")
	}
	keywords = append(keywords, k)
	slot, _ := wordHash(k.text)
	for wordIndex[slot] != 0 {
		slot = (slot + 1) % wordSlots
	}
	wordIndex[slot] = uint16(len(keywords) - 1)
	if op := opClass[k.text[0]]; op != 0 && len(k.text) == 2 {
		operators2[op][k.text[1]] = k.cat
	}
	return uint16(len(keywords) - 1)
}

// letterBit is 0 for what is no ASCII letter.
func letterBit(c byte) uint32 {
	if i := c&^0x20 - 'A'; i < 26 {
		return 1 << i
	}
	return 0
}

// wordHash treats capitals and small letters alike, and says whether every
// byte is ASCII. The word has at least two bytes.
func wordHash(w string) (slot uint32, ascii bool) {
	var a, b uint64
	n := len(w)
	switch {
	case n >= 8:
		a, b = load64(w), load64(w[n-8:])
	case n >= 4:
		a, b = uint64(load32(w)), uint64(load32(w[n-4:]))
	default:
		a = uint64(w[0]) | uint64(w[1])<<8 | uint64(w[n-1])<<16
	}
	high := a | b
	for i := 8; i < n-8; i++ {
		high |= uint64(w[i])
	}
	a &^= 0x2020202020202020
	b &^= 0x2020202020202020
	h := (a ^ b*0x9E3779B97F4A7C15 ^ uint64(n)) * 0xD6E8FEB86659FD93
	return uint32(h>>40) % wordSlots, high&0x8080808080808080 == 0
}

func load64(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func load32(s string) uint32 {
	_ = s[3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

// findWord looks up w without regard to case and returns its place in
// keywords, 0 if it is no keyword. odd says that it is spelled with a letter
// above ASCII.
//
// The library maps the word with strings.ToUpper. Two runes above ASCII have
// an ASCII capital, U+0131 (I) and U+017F (S); every other one keeps a word
// from being a keyword.
func findWord(w string) (kw uint16, odd bool) {
	if len(w) < 2 {
		return 0, false
	}
	slot, ascii := wordHash(w)
	if !ascii {
		kw = findNonASCII(w)
		return kw, kw != 0
	}
	for ; wordIndex[slot] != 0; slot = (slot + 1) % wordSlots {
		if i := wordIndex[slot]; equalFold(keywords[i].text, w) {
			return i, false
		}
	}
	return 0, false
}

// findNonASCII is findWord for what is not all ASCII.
func findNonASCII(w string) uint16 {
	var buf [maxValue + 1]byte
	n := 0
	for i := 0; i < len(w); i++ {
		c := w[i]
		if c >= 0x80 {
			switch {
			case strings.HasPrefix(w[i:], "\u0131"):
				c = 'I'
			case strings.HasPrefix(w[i:], "\u017f"):
				c = 'S'
			default:
				return 0
			}
			i++
		}
		if n == len(buf) {
			return 0
		}
		buf[n] = c
		n++
	}
	kw, _ := findWord(string(buf[:n]))
	return kw
}

// equalFold compares with an upper string, folding only ASCII letters.
func equalFold(upper, s string) bool {
	if len(upper) != len(s) {
		return false
	}
	for i := range len(upper) {
		c := s[i]
		if c-'a' < 26 {
			c -= 0x20
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}

const (
	fingerprintSlots = 1 << 14
	codeBits         = 5
)

var (
	// fingerprintCode numbers the categories that occur in fingerprints; small
	// and capital letters are one. 0 means that no fingerprint has the category.
	fingerprintCode [128]uint8
	// fingerprintSet is an open hash table of packed fingerprints.
	fingerprintSet [fingerprintSlots]uint32
)

func init() {
	codes := uint8(0)
	for f := range strings.Lines(fingerprintList) {
		packed := uint32(0)
		for _, c := range []byte(strings.TrimSuffix(f, "\n")) {
			if fingerprintCode[c] == 0 {
				codes++
				fingerprintCode[c] = codes
				if c >= 'A' && c <= 'Z' {
					fingerprintCode[c+0x20] = codes
				}
			}
			packed = packed<<codeBits | uint32(fingerprintCode[c])
		}
		slot := fingerprintHash(packed)
		for fingerprintSet[slot] != 0 {
			slot = (slot + 1) % fingerprintSlots
		}
		fingerprintSet[slot] = packed
	}
	if codes >= 1<<codeBits {
		panic("injection: too many categories in the fingerprints")
	}
}

func fingerprintHash(packed uint32) uint32 {
	return packed * 0x9E3779B1 >> 18
}

// forbidden reports whether the packed fingerprint is in the list.
func forbidden(packed uint32) bool {
	for slot := fingerprintHash(packed); fingerprintSet[slot] != 0; slot = (slot + 1) % fingerprintSlots {
		if fingerprintSet[slot] == packed {
			return true
		}
	}
	return false
}

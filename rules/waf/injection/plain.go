package injection

import "strings"

// Kinds of bytes that make a text plain.
const (
	plainHex  = 1 << iota // the letters a to f
	plainWord             // other bytes of words
	plainDigit
	plainDash
	plainSign // + . , : / and the blank
	plainNot
)

// plainLimit is the length up to which looking for plainness pays. Reading a
// longer text ends after a few of its tokens in any case.
const plainLimit = 64

var plainBytes = makePlainBytes()

func makePlainBytes() (t [256]uint8) {
	for c := range t {
		switch b := byte(c); {
		case b|0x20-'a' < 6:
			t[c] = plainHex
		case isLetter(b), b == '_', b >= 0x80 && b != 0xa0:
			t[c] = plainWord
		case isDigit(b):
			t[c] = plainDigit
		case b == '-':
			t[c] = plainDash
		case strings.IndexByte("+.,:/ ", b) >= 0:
			t[c] = plainSign
		default:
			t[c] = plainNot
		}
	}
	return t
}

// plain reports whether s is of a kind that needs no reading of tokens:
//
//   - one word, perhaps behind a number. Of two tokens only a number and UNION
//     are forbidden, and that is excused if there are no more;
//   - numbers with signs between them, as dates and telephone numbers. No
//     fingerprint has only numbers, operators, commas, colons and dots;
//   - hexadecimal digits with dashes, as UUIDs: the only keyword that is spelled
//     with the letters a to f is DEC, and no fingerprint has only words, numbers
//     and operators.
//
// Two dashes begin a comment and are never plain.
func plain(s string) bool {
	if len(s) > plainLimit {
		return false
	}
	seen, dashes, last := uint8(0), uint8(0), uint8(0)
	for i := range len(s) {
		k := plainBytes[s[i]]
		if k == plainNot {
			return false
		}
		seen |= k
		dashes |= k & last
		last = k
	}
	if dashes&plainDash != 0 {
		return false
	}
	const word = plainHex | plainWord | plainDigit
	return seen&^word == 0 || seen&(plainHex|plainWord) == 0 ||
		seen&^(plainHex|plainDigit|plainDash) == 0 && !hasDec(s)
}

// hasDec reports whether s contains DEC in any case.
func hasDec(s string) bool {
	for i := 2; i < len(s); i++ {
		if s[i]|0x20 == 'c' && s[i-1]|0x20 == 'e' && s[i-2]|0x20 == 'd' {
			return true
		}
	}
	return false
}

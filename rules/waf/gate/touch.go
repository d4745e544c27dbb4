package gate

import (
	"strings"
)

// touch says which kinds of bytes are in a text. A transformation whose trigger
// has none of them in common leaves the text as it is.
type touch uint16

const (
	touchUpper     touch = 1 << iota // A-Z
	touchLower                       // a-z
	touchHigh                        // 0x80-0xff
	touchNull                        // 0x00
	touchSpace                       // the space and the control characters that count as one
	touchPercent                     // % +
	touchAmpersand                   // &
	touchBackslash                   // \
	touchSlash                       // /
	touchDot                         // . :
	touchShell                       // " ' ^ , ; (
	touchComment                     // # - < *
)

// touches is the kinds of each byte.
var touches = func() (t [256]touch) {
	for b := range 256 {
		switch {
		case b >= 'A' && b <= 'Z':
			t[b] = touchUpper
		case b >= 'a' && b <= 'z':
			t[b] = touchLower
		case b >= 0x80:
			t[b] = touchHigh
		case b == 0:
			t[b] = touchNull
		}
	}
	add := func(chars string, k touch) {
		for i := range len(chars) {
			t[chars[i]] |= k
		}
	}
	add(" \t\n\v\f\r", touchSpace)
	add("%+", touchPercent)
	add("&", touchAmpersand)
	add(`\`, touchBackslash)
	add("/", touchSlash)
	add(".:", touchDot)
	add(`"'^,;(`, touchShell)
	add("#-<*", touchComment)
	return t
}()

// touchOf returns the kinds of bytes in s.
func touchOf(s string) touch {
	var t touch
	for i := range len(s) {
		t |= touches[s[i]]
	}
	return t
}

// trigger returns what must be in a text for a transformation to change it, and
// whether the transformation is known. TestTrigger holds this against the engine.
func trigger(name string) (t touch, ok bool) {
	t, ok = triggers[strings.ToLower(name)]
	return t, ok
}

var triggers = map[string]touch{
	"lowercase":    touchUpper | touchHigh,
	"uppercase":    touchLower | touchHigh,
	"urldecode":    touchPercent,
	"urldecodeuni": touchPercent,

	"htmlentitydecode": touchAmpersand,
	"jsdecode":         touchBackslash,
	"cssdecode":        touchBackslash,
	"escapeseqdecode":  touchBackslash,

	"removenulls":        touchNull,
	"replacenulls":       touchNull,
	"removewhitespace":   touchSpace | touchHigh,
	"compresswhitespace": touchSpace | touchHigh,
	"trim":               touchSpace | touchHigh,
	"trimleft":           touchSpace | touchHigh,
	"trimright":          touchSpace | touchHigh,

	"replacecomments":    touchComment,
	"removecomments":     touchComment | touchSlash,
	"removecommentschar": touchComment | touchSlash,
	"normalisepath":      touchSlash | touchDot,
	"normalizepath":      touchSlash | touchDot,
	"normalisepathwin":   touchSlash | touchDot | touchBackslash | touchSpace,
	"normalizepathwin":   touchSlash | touchDot | touchBackslash | touchSpace,
	"cmdline":            touchUpper | touchSpace | touchShell | touchBackslash | touchSlash,
	"utf8tounicode":      touchHigh,
}

// always are the transformations that may change any text, the empty one too.
var always = map[string]bool{
	"base64decode": true, "base64decodeext": true, "base64encode": true, "hexdecode": true, "hexencode": true,
	"length": true, "md5": true, "sha1": true, "urlencode": true,
}

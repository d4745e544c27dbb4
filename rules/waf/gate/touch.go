package gate

import (
	"strings"
)

// Touch says which kinds of bytes are in a text. A transformation whose trigger
// has none of them in common leaves the text as it is.
type Touch uint16

const (
	touchUpper     Touch = 1 << iota // A-Z
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
var touches = func() (t [256]Touch) {
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
	add := func(chars string, k Touch) {
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

// TouchOf returns the kinds of bytes in s.
func TouchOf(s string) Touch {
	var t, u Touch
	i := 0
	for ; i+1 < len(s); i += 2 {
		t |= touches[s[i]]
		u |= touches[s[i+1]]
	}
	if i < len(s) {
		t |= touches[s[i]]
	}
	return t | u
}

// Trigger returns what must be in a text for a transformation to change it, and
// whether that is known. TestTrigger holds this against the engine.
func Trigger(name string) (t Touch, ok bool) {
	t, ok = triggers[strings.ToLower(name)]
	return t, ok
}

var triggers = map[string]Touch{
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

// Known reports whether a transformation, in lower case, is one of the engine's
// that depends on nothing but the text.
func Known(name string) bool {
	_, ok := triggers[name]
	return ok || always[name]
}

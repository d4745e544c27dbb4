package gate

import (
	"strings"
)

// Touch says which kinds of bytes are in a text. A transformation whose trigger
// has none of them in common leaves the text as it is.
type Touch uint16

// The kinds of bytes.
const (
	TouchUpper     Touch = 1 << iota // A-Z
	TouchLower                       // a-z
	TouchHigh                        // 0x80-0xff
	TouchNull                        // 0x00
	TouchSpace                       // the space and the control characters that count as one
	TouchPercent                     // % +
	TouchAmpersand                   // &
	TouchBackslash                   // \
	TouchSlash                       // /
	TouchDot                         // . :
	TouchShell                       // " ' ^ , ; (
	TouchComment                     // # - < *
)

// touches is the kinds of each byte.
var touches = func() (t [256]Touch) {
	for b := range 256 {
		switch {
		case b >= 'A' && b <= 'Z':
			t[b] = TouchUpper
		case b >= 'a' && b <= 'z':
			t[b] = TouchLower
		case b >= 0x80:
			t[b] = TouchHigh
		case b == 0:
			t[b] = TouchNull
		}
	}
	add := func(chars string, k Touch) {
		for i := range len(chars) {
			t[chars[i]] |= k
		}
	}
	add(" \t\n\v\f\r", TouchSpace)
	add("%+", TouchPercent)
	add("&", TouchAmpersand)
	add(`\`, TouchBackslash)
	add("/", TouchSlash)
	add(".:", TouchDot)
	add(`"'^,;(`, TouchShell)
	add("#-<*", TouchComment)
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
	"lowercase":    TouchUpper | TouchHigh,
	"uppercase":    TouchLower | TouchHigh,
	"urldecode":    TouchPercent,
	"urldecodeuni": TouchPercent,

	"htmlentitydecode": TouchAmpersand,
	"jsdecode":         TouchBackslash,
	"cssdecode":        TouchBackslash,
	"escapeseqdecode":  TouchBackslash,

	"removenulls":        TouchNull,
	"replacenulls":       TouchNull,
	"removewhitespace":   TouchSpace | TouchHigh,
	"compresswhitespace": TouchSpace | TouchHigh,
	"trim":               TouchSpace | TouchHigh,
	"trimleft":           TouchSpace | TouchHigh,
	"trimright":          TouchSpace | TouchHigh,

	"replacecomments":    TouchComment,
	"removecomments":     TouchComment | TouchSlash,
	"removecommentschar": TouchComment | TouchSlash,
	"normalisepath":      TouchSlash | TouchDot,
	"normalizepath":      TouchSlash | TouchDot,
	"normalisepathwin":   TouchSlash | TouchDot | TouchBackslash | TouchSpace,
	"normalizepathwin":   TouchSlash | TouchDot | TouchBackslash | TouchSpace,
	"cmdline":            TouchUpper | TouchSpace | TouchShell | TouchBackslash | TouchSlash,
	"utf8tounicode":      TouchHigh,
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

// Package injection tells cheaply that a text holds neither SQL injection nor
// script.
//
// The operators @detectSQLi and @detectXSS of Coraza ask libinjection-go. The
// functions of this package read a text as that library does, byte by byte,
// with the same rules and tables, but without allocation, and without doing
// anything twice. MaySQLi and MayXSS return false only for texts for which the
// library answers no. Their true is the library's yes too, except for the rare
// texts that the package does not follow to the end.
//
// All functions may be used by any number of goroutines.
package injection

//go:generate go run ./internal/gentables

import (
	"math"
	"runtime/debug"

	"github.com/corazawaf/libinjection-go"
)

// exact is false in a binary whose libinjection-go is another one than the
// package reproduces; then the library is asked about everything.
var exact = sameLibrary(debug.ReadBuildInfo())

// MaySQLi returns false if @detectSQLi provably does not match s. True means
// that it has to be asked. Its time is linear in len(s). It allocates nothing;
// for periodic texts full of escaped quotes it borrows 8 bytes a byte from a
// pool.
func MaySQLi(s string) bool {
	if !exact {
		return true
	}
	work := unlimited
	v, _ := sqli(s, &work)
	return v != clean
}

// MaySQLiWithin is MaySQLi with a bound on its work, in nanoseconds as they are
// estimated from what it reads, not from a clock. It takes what it has needed off
// work; below zero it has not come to an end, and returns true.
func MaySQLiWithin(s string, work *int) bool {
	if !exact {
		return true
	}
	v, _ := sqli(s, work)
	return v != clean
}

// unlimited is work that no text takes.
const unlimited = math.MaxInt

// MayXSS returns false if @detectXSS provably does not match s. True means that
// it has to be asked. It allocates nothing, and its time is linear in len(s).
func MayXSS(s string) bool {
	work := unlimited
	return !exact || xss(s, &work)
}

// MayXSSWithin is to MayXSS what MaySQLiWithin is to MaySQLi.
func MayXSSWithin(s string, work *int) bool {
	return !exact || xss(s, work)
}

// SQLi returns what libinjection.IsSQLi returns: whether s holds SQL injection
// and, if it does, its fingerprint. It allocates only the fingerprint.
//
// The library itself is asked about what the package does not follow: phrases
// spelled with U+0131 or U+017F, and texts of more than 2 GiB. One kind of text is
// answered otherwise than by the library: periodic texts full of escaped quotes, if
// they are longer than 1 MiB or hold many such strings, count as injection, with
// the fingerprint that the library has for what is evil by itself. The library would
// take quadratic time for them, and nothing but an attack looks like them.
func SQLi(s string) (bool, string) {
	if exact {
		work := unlimited
		switch v, p := sqli(s, &work); v {
		case clean:
			return false, ""
		case found:
			return true, string(p.cats[:p.n])
		case endless:
			return true, string(catEvil)
		}
	}
	return libinjection.IsSQLi(s)
}

// XSS returns what libinjection.IsXSS returns: whether s holds a script. It
// allocates nothing.
func XSS(s string) bool {
	if exact {
		work := unlimited
		return xss(s, &work)
	}
	return libinjection.IsXSS(s)
}

const libraryPath = "github.com/corazawaf/libinjection-go"

// sameLibrary reports whether the binary was built with the version of
// libinjection-go that the tables come from. A program that embeds this module
// may need a newer one for other reasons. A binary without build information
// is trusted: it was built without modules, or within this one.
func sameLibrary(info *debug.BuildInfo, ok bool) bool {
	if !ok {
		return true
	}
	for _, m := range info.Deps {
		if m.Path == libraryPath {
			return m.Version == libraryVersion && m.Replace == nil
		}
	}
	return true
}

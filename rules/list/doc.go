// Package list holds sets of addresses: written in the policy, in a file, or
// published at a URL.
//
//	inline entries, file, URL -> Parse -> Set: immutable, Contains without allocation
//	Source says where a list comes from, Load reads it
//	Refresher keeps the list of a URL current, and the last good copy on disk
//
// A list with one faulty line is refused as a whole: half a block list looks like
// a working one. What was in force before then stays.
package list

//go:build !race

package list

// raceEnabled says that the race detector slows the tests down.
const raceEnabled = false

//go:build !race

package differ

const raceEnabled = false

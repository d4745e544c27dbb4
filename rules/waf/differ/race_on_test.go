//go:build race

package differ

const raceEnabled = true

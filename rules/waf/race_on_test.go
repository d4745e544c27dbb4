//go:build race

package waf

// raceSlows is by how much long tests are shortened under the race detector,
// which makes the engine ten times slower and finds its races in a part as well.
const raceSlows = 10

//go:build !race

package waf

const raceSlows = 1

package rules

import (
	"slices"
	"strings"
)

// maxKnown bounds the names that a hint lists.
const maxKnown = 30

// Suggest returns a hint for a name that is not known: did you mean "x"? if one of
// the known names is close to it, else the known names in sorted order, a bounded
// number of them. It is empty if nothing is known.
func Suggest(name string, known []string) string {
	known = slices.Clone(known)
	slices.Sort(known)
	best, bestDistance := "", len(name)/3+2
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), strings.ToLower(k), bestDistance); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	// A name of which every letter would have to change is no suggestion.
	if best != "" && bestDistance < max(len(name), len(best)) {
		return "did you mean " + quote(best) + "?"
	}
	if len(known) == 0 {
		return ""
	}
	more := ""
	if len(known) > maxKnown {
		known, more = known[:maxKnown], ", ..."
	}
	return "known: " + strings.Join(known, ", ") + more
}

// editDistance returns the number of insertions, deletions, substitutions and
// swaps of neighbours that turn a into b (optimal string alignment), or limit if
// there are that many or more. It compares bytes.
func editDistance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	before := make([]int, len(b)+1) // row i-2
	last := make([]int, len(b)+1)   // row i-1
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least >= limit {
			return limit
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}

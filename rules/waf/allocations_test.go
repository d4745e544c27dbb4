package waf

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
)

// TestAllocationsOfJSON holds that a document of 60 KB that is proved clean takes as
// many allocations as one of 4 KB.
func TestAllocationsOfJSON(t *testing.T) {
	if raceSlows > 1 {
		t.Skip("the race detector allocates")
	}
	allocations := func(s *Stage, size int) float64 {
		var body strings.Builder
		body.WriteString(`{"items":[`)
		for i := 0; body.Len() < size; i++ {
			fmt.Fprintf(&body, `{"sku":"TEA-%04d","text":"%s"},`, i, strings.Repeat("mint honey ", 12))
		}
		document := strings.TrimSuffix(body.String(), ",") + "]}"
		ask := func() {
			r := filter.NewRequest(chrome("POST", "/api", document, "application/json"), testTime)
			r.Client = r.Peer
			if d, err := s.Check(r); err != nil || d.Verdict != filter.Continue {
				t.Fatalf("%d bytes: %v, %v, want it to pass", size, d, err)
			}
			r.Release()
		}
		for range 3 {
			ask()
		}
		return testing.AllocsPerRun(50, ask)
	}
	// With one seed of the hash in some, values of the document share a place of a cache.
	var more [3]float64
	for i := range more {
		s := mustNew(t, Config{Fast: true})
		more[i] = -allocations(s, 4<<10) + allocations(s, 60<<10)
	}
	if slices.Min(more[:]) > 2 {
		t.Errorf("60 KB take %v more allocations than 4 KB with three seeds: want no more", more)
	}
}

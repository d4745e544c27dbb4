package dfa

import (
	"runtime"
	"testing"
	"time"
)

// buildShared returns a Set of patterns under the ids from first on.
func buildShared(t *testing.T, o Options, first int, pats ...Pattern) *Set {
	t.Helper()
	var b Builder
	for i, p := range pats {
		if err := b.Add(first+i, p); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.BuildShared(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBuildShared holds that equal patterns under equal ids share a Set, and that any
// difference makes another.
func TestBuildShared(t *testing.T) {
	o := Options{MaxBytes: 1 << 20}
	base := func() *Set {
		return buildShared(t, o, 0, Regexp("shared [a-z]+"), Phrases([]string{"ab", "c"}), BytesOutside([256]bool{1: true}))
	}
	s := base()
	if base() != s {
		t.Fatal("equal patterns make two Sets")
	}
	for name, other := range map[string]*Set{
		"id":         buildShared(t, o, 1, Regexp("shared [a-z]+"), Phrases([]string{"ab", "c"}), BytesOutside([256]bool{1: true})),
		"text":       buildShared(t, o, 0, Regexp("shared [a-y]+"), Phrases([]string{"ab", "c"}), BytesOutside([256]bool{1: true})),
		"kind":       buildShared(t, o, 0, Contains("shared [a-z]+"), Phrases([]string{"ab", "c"}), BytesOutside([256]bool{1: true})),
		"phrases":    buildShared(t, o, 0, Regexp("shared [a-z]+"), Phrases([]string{"a", "bc"}), BytesOutside([256]bool{1: true})),
		"bytes":      buildShared(t, o, 0, Regexp("shared [a-z]+"), Phrases([]string{"ab", "c"}), BytesOutside([256]bool{2: true})),
		"fold":       buildShared(t, o, 0, Regexp("shared [a-z]+").Fold(), Phrases([]string{"ab", "c"}), BytesOutside([256]bool{1: true})),
		"lower case": buildShared(t, o, 0, Regexp("shared [a-z]+").Lowered(), Phrases([]string{"ab", "c"}), BytesOutside([256]bool{1: true})),
		"one less":   buildShared(t, o, 0, Regexp("shared [a-z]+"), Phrases([]string{"ab", "c"})),
		"memory":     buildShared(t, Options{MaxBytes: 2 << 20}, 0, Regexp("shared [a-z]+"), Phrases([]string{"ab", "c"}), BytesOutside([256]bool{1: true})),
	} {
		if other == s {
			t.Errorf("another %s, the same Set", name)
		}
	}
	runtime.KeepAlive(s)
}

// TestSharedEnds holds that a Set that nobody uses is given back, with its place.
func TestSharedEnds(t *testing.T) {
	held := func() int {
		sets.Lock()
		defer sets.Unlock()
		return len(sets.m)
	}
	before := held()
	for i := range 50 {
		buildShared(t, Options{MaxBytes: 1 << 20}, i, Regexp("for a moment"))
	}
	for range 200 {
		runtime.GC()
		if held() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond) // cleanups run on their own goroutine
	}
	t.Errorf("%d Sets are held, %d before", held(), before)
}

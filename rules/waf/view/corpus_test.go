package view_test

import (
	"testing"

	"github.com/moatwaf/moat/rules/waf/crscorpus"
	"github.com/moatwaf/moat/rules/waf/view"
)

// TestCorpus compares the requests of the CRS's regression tests.
func TestCorpus(t *testing.T) {
	p := plainPolicy()
	heads, bodies := map[view.Reason]int{}, map[view.Reason]int{}
	for i, c := range crscorpus.All() {
		if testing.Short() && i%5 != 0 {
			continue
		}
		hr, err := c.Request()
		if err != nil {
			continue // the server answers it
		}
		hr, body := withBody(hr)
		out := p.compare(t, hr, body)
		heads[out.head]++
		if len(body) > 0 {
			bodies[out.body]++
		}
		if t.Failed() {
			t.Fatalf("%s: %q", c.ID, c.Raw)
		}
	}
	t.Logf("heads %v, bodies %v", heads, bodies)
	known, all := heads[view.Known]+bodies[view.Known], 0
	for _, n := range heads {
		all += n
	}
	for _, n := range bodies {
		all += n
	}
	if known*100 < all*97 {
		t.Errorf("only %d of %d are known", known, all)
	}
}

package moatcaddy

import (
	"slices"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter/metrics"
)

// TestSumsOfClients: counts of several policies add up, and none is changed by that.
func TestSumsOfClients(t *testing.T) {
	one := metrics.Bans{Dropped: 1, Rules: []metrics.BanRule{{Rule: "login", Active: 1, Added: 3, Lifted: 1}}}
	two := metrics.Bans{Dropped: 2, Rules: []metrics.BanRule{{Rule: "manual", Active: 2, Added: 2}, {Rule: "login", Active: 4, Added: 5, Lifted: 6}}}
	var bans metrics.Bans
	addBans(&bans, one)
	addBans(&bans, two)
	if bans.Dropped != 3 || !slices.Equal(bans.Rules, []metrics.BanRule{{Rule: "login", Active: 5, Added: 8, Lifted: 7}, {Rule: "manual", Active: 2, Added: 2}}) {
		t.Errorf("%+v", bans)
	}
	if one.Rules[0].Active != 1 {
		t.Error("what was added up has changed")
	}
	var store metrics.Store
	addStore(&store, metrics.Store{})
	part := metrics.Store{Stores: 1, Up: 1, Asked: 5, Local: 2, Seconds: metrics.Seconds{Bounds: []time.Duration{time.Millisecond}, Counts: []uint64{3, 2}, Sum: time.Second}}
	addStore(&store, part)
	addStore(&store, part)
	if store.Stores != 2 || store.Asked != 10 || store.Local != 4 || !slices.Equal(store.Seconds.Counts, []uint64{6, 4}) || part.Seconds.Counts[0] != 3 {
		t.Errorf("%+v", store)
	}
}

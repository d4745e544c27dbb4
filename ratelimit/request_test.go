package ratelimit

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

var epoch = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// request returns a GET of path by client at a time after epoch.
func request(path, client string, after time.Duration) *filter.Request {
	r := filter.NewRequest(httptest.NewRequest("GET", path, nil), epoch.Add(after))
	r.Client = netip.Addr{}
	if client != "" {
		r.Client = netip.MustParseAddr(client).Unmap()
	}
	return r
}

// place gives r a location.
func place(r *filter.Request, country string, asn uint32) *filter.Request {
	_, _ = filter.NewPipeline(filter.Config{Locator: fixed{country, asn}}).Decide(r)
	r.Location()
	return r
}

type fixed filter.Location

func (f fixed) Locate(netip.Addr) filter.Location { return filter.Location(f) }

// pathPrefix is a condition.
type pathPrefix string

func (p pathPrefix) Match(r *filter.Request) (bool, error) {
	return strings.HasPrefix(r.Path, string(p)), nil
}

// broken is a condition that cannot be evaluated.
type broken struct{ err error }

func (b broken) Match(*filter.Request) (bool, error) { return false, b.err }

func mustKey(t testing.TB, text string) Key {
	t.Helper()
	k, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustStage(t testing.TB, o Options, tiers ...Tier) *Stage {
	t.Helper()
	s, err := New(tiers, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// passes reports whether the stage lets r through.
func passes(t testing.TB, s *Stage, r *filter.Request) bool {
	t.Helper()
	d, err := s.Check(r)
	if err != nil {
		t.Fatal(err)
	}
	return !d.Refuses()
}

func perSecond(n int) Rate { return Rate{n, time.Second} }

package match

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/filtertest"
)

// TestMethodInAnyCase: an upstream that takes "post" for POST must not get past a
// rule about POST.
func TestMethodInAnyCase(t *testing.T) {
	m := &Matcher{ready: true, methods: []string{http.MethodPost}}
	for method, want := range map[string]bool{"POST": true, "post": true, "PoSt": true, "GET": false, "POS": false, "POST ": false} {
		hr := httptest.NewRequest(http.MethodGet, "/", nil)
		hr.Method = method
		r := filter.NewRequest(hr, filtertest.Epoch)
		if got, err := m.Match(r); got != want || err != nil {
			t.Errorf("%q: %v, %v; want %v", method, got, err, want)
		}
		r.Release()
	}
}

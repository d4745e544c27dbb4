package nethttp

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/moatwaf/moat/filter"
)

// TestNoTrailerTellsMissingFromHidden has an upstream that sends trailers with its
// 404, announced and not.
func TestNoTrailerTellsMissingFromHidden(t *testing.T) {
	var e filter.Engine
	e.Swap(filter.NewPipeline(filter.Config{Steps: []filter.Step{{Stage: verdictStage{}}}, Conceals: true}))
	s := httptest.NewUnstartedServer(Handler(&e, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Announced")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "not here")
		w.Header().Set("X-Announced", "upstream")
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "upstream")
	})))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()

	answer := func(path string) string {
		t.Helper()
		res, err := s.Client().Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return dump(res, string(b)) + fmt.Sprint(res.Proto, res.Trailer)
	}
	if hidden, missing := answer("/hidden"), answer("/missing"); hidden != missing {
		t.Errorf("hidden:\n%s\nmissing:\n%s", hidden, missing)
	}
}

package respond

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/moatwaf/moat/filter"
)

func TestAnswer(t *testing.T) {
	body := []byte("own words")
	for name, tt := range map[string]struct {
		method string
		answer filter.Answer
		before http.Header // of outer layers
		want   http.Header
		body   string
	}{
		"as it is": {"GET",
			filter.Answer{Status: 401, Header: http.Header{"Www-Authenticate": {"A", "B"}, "Set-Cookie": {"a", "b"}, "Content-Type": {"text/x"}, "Cache-Control": {"private"}}, Body: body},
			nil,
			http.Header{"Www-Authenticate": {"A", "B"}, "Set-Cookie": {"a", "b"}, "Content-Type": {"text/x"}, "Cache-Control": {"private"}, "Content-Length": {"9"}}, "own words"},
		"HEAD": {"HEAD", filter.Answer{Status: 403, Body: body}, nil, http.Header{"Cache-Control": {"no-store"}, "Content-Length": {"9"}, "Content-Type": nil}, ""},
		"nothing of caching": {"GET", filter.Answer{Status: 301, Header: http.Header{"Location": {"/x"}}}, nil,
			http.Header{"Location": {"/x"}, "Cache-Control": {"no-store"}, "Content-Length": {"0"}, "Content-Type": nil}, ""},
		"an expiry": {"GET", filter.Answer{Status: 404, Header: http.Header{"Expires": {"0"}}}, nil, http.Header{"Expires": {"0"}, "Content-Length": {"0"}, "Content-Type": nil}, ""},
		"outer layers": {"GET", filter.Answer{Status: 403, Header: http.Header{"Vary": {"Cookie"}, "Server": {"inner"}, "Expires": {"0"}}},
			http.Header{"Vary": {"Origin"}, "Server": {"outer"}, "Access-Control-Allow-Origin": {"https://a"}},
			http.Header{"Vary": {"Origin", "Cookie"}, "Server": {"inner"}, "Access-Control-Allow-Origin": {"https://a"}, "Expires": {"0"}, "Content-Length": {"0"}, "Content-Type": nil}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			maps.Copy(w.Header(), tt.before)
			given := tt.answer.Header.Clone()
			Answer(w, httptest.NewRequest(tt.method, "/", nil), &tt.answer)
			if w.Code != tt.answer.Status || w.Body.String() != tt.body || !maps.EqualFunc(w.Header(), tt.want, slices.Equal) {
				t.Errorf("%d %v %q, want %d %v %q", w.Code, w.Header(), w.Body, tt.answer.Status, tt.want, tt.body)
			}
			w.Header().Add("Www-Authenticate", "C")
			w.Header().Add("Vary", "X")
			if !maps.EqualFunc(tt.answer.Header, given, slices.Equal) {
				t.Error("the answer was changed")
			}
		})
	}
}

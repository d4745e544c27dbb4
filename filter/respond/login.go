package respond

import (
	"net/http"

	"github.com/moatwaf/moat/filter"
)

// Login sends a browser that wants HTML to the login of the refusal d, and reports
// whether it did. API clients are asked with 401. After a form was sent
// the browser comes with GET (303): what it sent is lost, and not sent to the login.
func Login(w http.ResponseWriter, r *http.Request, d filter.Decision) bool {
	if d.Verdict != filter.Challenge || d.Login == "" || statusOf(d) != http.StatusUnauthorized || Negotiate(r.Header["Accept"]) != HTML {
		return false
	}
	status := http.StatusSeeOther
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		status = http.StatusFound
	}
	h := w.Header()
	setHeader(h, nil)
	AddVary(h)
	h.Del("Content-Type")
	h.Set("Location", d.Login)
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
	return true
}

package auth

import (
	"net/http"
	"net/url"
	"strings"
)

// isLogin reports whether s may be a requirement's login: an http or https URL, or
// a path on this host.
func isLogin(s string) bool {
	if !isPrintable(s) || strings.ContainsAny(s, ` "<>\^`+"`") {
		return false
	}
	// Two slashes begin another host's name, not a path.
	if strings.HasPrefix(s, "/") {
		return !strings.HasPrefix(s, "//")
	}
	u, err := url.Parse(strings.ReplaceAll(s, "{uri}", "uri"))
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}

// loginFor returns where the browser behind r is sent; empty on the login's own
// path, which would send it there again and again.
func loginFor(login string, r *http.Request) string {
	path, _, _ := strings.Cut(login, "?")
	if r.URL != nil && path == r.URL.Path {
		return ""
	}
	if !strings.Contains(login, "{uri}") {
		return login
	}
	return strings.ReplaceAll(login, "{uri}", url.QueryEscape(returnTo(r)))
}

// maxReturn bounds the way back in bytes: what is longer begins anew at the root.
const maxReturn = 2 << 10

// returnTo returns the path and query of r, as a path that stays on this host: the
// login sends the browser there without looking, and "//evil.example" would be
// another host.
func returnTo(r *http.Request) string {
	if r.URL == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return "/"
	}
	uri := r.URL.EscapedPath()
	if len(uri) == 0 || uri[0] != '/' || len(uri) > 1 && (uri[1] == '/' || uri[1] == '\\') {
		return "/"
	}
	if r.URL.RawQuery != "" {
		uri += "?" + r.URL.RawQuery
	}
	if len(uri) > maxReturn {
		return "/"
	}
	return uri
}

// withoutPopUp takes Basic out of the methods that a script in a browser is asked
// for: the browser would open a window of its own over the page. It stays where it
// is the only method, for a 401 must ask for something.
func (a *Auth) withoutPopUp(q *requirement, r *http.Request) methodSet {
	methods := q.methods
	if len(r.Header["Sec-Fetch-Mode"]) == 0 {
		return methods // no browser, or an old one
	}
	rest := methods &^ a.set("basic")
	if len(a.challenges(q, rest, -1, Problem{})) == 0 {
		return methods
	}
	return rest
}

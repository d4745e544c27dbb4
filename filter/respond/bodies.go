package respond

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
)

// details are the statuses that a refusal may have, with what a person may know
// of the cause. They are the same words for every rule.
var details = map[int]string{
	http.StatusBadRequest:                  "The request could not be understood.",
	http.StatusUnauthorized:                "Valid credentials are needed for this resource.",
	http.StatusForbidden:                   "The request was refused.",
	http.StatusNotFound:                    "There is nothing at this address.",
	http.StatusNotAcceptable:               "The request was refused.",
	http.StatusConflict:                    "The request was refused.",
	http.StatusGone:                        "There is nothing at this address.",
	http.StatusRequestEntityTooLarge:       "The request is larger than this server accepts.",
	http.StatusRequestURITooLong:           "The request is larger than this server accepts.",
	http.StatusUnsupportedMediaType:        "The request has a content type that this server does not accept.",
	http.StatusTeapot:                      "The request was refused.",
	http.StatusMisdirectedRequest:          "The request was refused.",
	http.StatusUnprocessableEntity:         "The request could not be understood.",
	http.StatusTooManyRequests:             "Too many requests. Please try again later.",
	http.StatusRequestHeaderFieldsTooLarge: "The request is larger than this server accepts.",
	http.StatusUnavailableForLegalReasons:  "This resource is not available where you are, for legal reasons.",
	http.StatusInternalServerError:         "The server could not handle the request.",
	http.StatusBadGateway:                  "The server could not handle the request.",
	http.StatusServiceUnavailable:          "The server cannot handle the request at the moment.",
	http.StatusGatewayTimeout:              "The server could not handle the request.",
}

// representations are the contents of one answer, by Format.
type representations [formatCount][]byte

// problem is a problem document (RFC 9457 section 3.1). The type about:blank says
// that the status tells it all; then the title is the status phrase (section 4.2.1).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// page needs nothing that it does not bring along, follows the reader's light or
// dark scheme, and has its language, landmarks and one heading for screen readers.
const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>%[1]d %[2]s</title>
<style>
body { font: 1.125rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto 2rem; padding: 0 1.5rem }
h1 { font-size: 1.75rem; line-height: 1.2 }
</style>
</head>
<body>
<main>
<h1>%[1]d %[2]s</h1>
<p>%[3]s</p>
</main>
</body>
</html>
`

// render makes the contents of an answer.
func render(status int, detail string) representations {
	title := http.StatusText(status)
	doc, err := json.Marshal(problem{"about:blank", title, status, detail})
	if err != nil {
		panic(err) // strings and a number: cannot happen, and only at start
	}
	return representations{
		ProblemJSON: append(doc, '\n'),
		HTML:        fmt.Appendf(nil, page, status, html.EscapeString(title), html.EscapeString(detail)),
		Text:        fmt.Appendf(nil, "%d %s\n%s\n", status, title, detail),
	}
}

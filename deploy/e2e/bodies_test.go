package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// bodiesScenario sends bodies that the payload rules read, with and without an
// announced length, and wants them back as they were: no re-encoding, no
// reordering, no lost byte at a buffer's edge.
func bodiesScenario(t *testing.T, s scenario) {
	// Long by its values: a list of many would meet the limit of arguments.
	long := `{"list":[` + strings.Repeat(`"`+strings.Repeat("value ", 300)+`", `, 40) + `"end"]}`
	bodies := []struct{ name, contentType, body string }{
		{"json", "application/json", "{ \"b\" : 1.0e0,\r\n\"a\":\"\\u00e9\" , \"a\":null }\n"},
		{"json with a byte order mark", "application/json", "\ufeff{\"a\":1}"},
		{"json of 72 KB", "application/json", long},
		{"form", "application/x-www-form-urlencoded", "b=2&a=1&a=%C3%A9&empty=&=x"},
		{"multipart", "multipart/form-data; boundary=edge", "--edge\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f.txt\"\r\nContent-Type: text/plain\r\n\r\nline\r\n\r\n--edge--\r\n"},
		{"text", "text/plain; charset=utf-8", "plain\ttext\r\n"},
		{"empty", "application/json", ""},
	}
	for _, b := range bodies {
		for _, framing := range []string{"length", "chunks"} {
			t.Run(b.name+" by "+framing, func(t *testing.T) {
				var content io.Reader = strings.NewReader(b.body)
				if framing == "chunks" {
					content = io.MultiReader(content) // hides the length
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/echo", content)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", b.contentType)
				if status, got := do(t, s.client, req); status != http.StatusOK || got != b.body {
					t.Errorf("%d %.200q, want 200 %.200q", status, got, b.body)
				}
			})
		}
	}
}

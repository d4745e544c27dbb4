package waf

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/moatwaf/moat/filter"
)

// crowd are requests of all the ways through the stage.
func crowd() []func() *http.Request {
	all := known()
	add := func(method, target, body, contentType string) {
		all = append(all, func() *http.Request {
			if contentType == "" {
				return newHTTP(method, target, body)
			}
			return newHTTP(method, target, body, "Content-Type: "+contentType)
		})
	}
	for i, text := range warmTexts[:8] {
		add("POST", fmt.Sprintf("/notes/%d", i), text, "text/plain")
		add("POST", "/form", url.Values{"text": {text}, "n": {fmt.Sprint(i)}}.Encode(), formType)
	}
	add("POST", "/xml", `<order id="7"><item sku="T-1">Tea</item></order>`, "application/xml")
	add("POST", "/xml", `<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>`, "application/xml")
	add("POST", "/json", `{"a":`, "application/json")
	add("POST", "/upload", "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.php\"\r\n\r\n<?php system($_GET[0]);\r\n--b--\r\n", "multipart/form-data; boundary=b")
	add("POST", "/upload", "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\nhello\r\n--b--\r\n", "multipart/form-data; boundary=b")
	add("PROPFIND", "/", "", "")
	add("GET", "/own?cold=17&x=yes", "", "")
	add("GET", "/engine?x=yes", "", "")
	add("GET", "/?x="+strings.Repeat("%41%2527", 40), "", "")
	return all
}

// TestCrowdOnColdCaches lets sixteen goroutines ask a policy that has never been asked:
// all answers are those of plain Coraza.
func TestCrowdOnColdCaches(t *testing.T) {
	const goroutines = 16
	passes := 3
	if testing.Short() || raceSlows > 1 {
		passes = 1
	}
	// The rules of the operator are part of every automaton, so that no other test has
	// made its states. One of them is nothing that the fast engine can follow.
	c := inline(`SecRule ARGS|ARGS_NAMES|REQUEST_COOKIES|REQUEST_HEADERS|REQUEST_FILENAME|REQUEST_BODY "@rx cold-caches-[0-9]+" "id:1,phase:2,deny,msg:'cold'"
SecRule ARGS:cold "@rx ^\d+$" "id:2,phase:2,pass,capture,msg:'number',setvar:tx.n=%{tx.0}"
SecRule REQUEST_FILENAME "@streq /engine" "id:3,phase:1,pass,msg:'%{REQUEST_FILENAME}'"
`)
	c.Include = append([]Include{{Name: CRS}}, c.Include...)
	plain, judged := mustNew(t, c), mustNew(t, fast(c))
	requests := crowd()
	want := make([]string, len(requests))
	for i, request := range requests {
		want[i], _ = answerOrError(t, plain, request())
	}
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		paths = map[Path]int{}
	)
	start := make(chan struct{})
	for g := range goroutines {
		group.Go(func() {
			<-start
			for n := range passes * len(requests) {
				i := (n*7 + g*3) % len(requests)
				r := filter.NewRequest(requests[i](), testTime)
				in, err := judged.Inspect(r)
				r.Release()
				if err != nil {
					t.Errorf("request %d: %v", i, err)
					return
				}
				if got := lineOf(&in); got != want[i] && !(got == "clean" && nothing(want[i])) {
					t.Errorf("request %d is %s by %+v\nplain Coraza: %s", i, got, in.Judged, want[i])
				}
				mu.Lock()
				paths[in.Judged.Path]++
				mu.Unlock()
			}
		})
	}
	close(start)
	group.Wait()
	t.Logf("%d requests: %v", goroutines*passes*len(requests), paths)
	for _, p := range []Path{PathProved, PathFollowed, PathEngine} {
		if paths[p] == 0 {
			t.Errorf("no request was %v", p)
		}
	}
	if taken, size := judged.Memory(); taken > size {
		t.Errorf("%d bytes of %d", taken, size)
	}
}

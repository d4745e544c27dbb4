package waf

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moatwaf/moat/filter"
)

// The automata of the fast engine are built by the texts that they read. A first
// request of a new kind comes to thousands of states that are not there, and no
// request may make all of them. So an engine reads, in the background and once, what
// ordinary requests are made of.

// warmer warms one engine.
type warmer struct {
	start sync.Once
	stop  atomic.Bool // nobody uses the engine any more
	done  chan struct{}
	busy  atomic.Bool // it is at work
	asked atomic.Bool // a request has come since the last slice
}

// warmPasses is how often the texts are read, at most: a text comes to an end with
// the states that the passes before have left.
const warmPasses = 4

// The work is done in slices that take about as long as a request does. Behind each
// comes a rest in proportion to it: a short one while nobody asks, and while requests
// come one that leaves them nine tenths of a processor.
const (
	restIdle = 0.25
	restBusy = 9
	restMost = 200 * time.Millisecond
	restStep = 10 * time.Millisecond // in which it is seen that the engine is given up
)

// warmTurn lets one engine of the process work at a time.
var warmTurn sync.Mutex

// warm begins to warm the engine of s, unless it has begun. It returns at once.
func (s *Stage) warm() {
	w := &s.loaded.warmer
	w.start.Do(func() {
		done := make(chan struct{})
		w.done = done
		w.busy.Store(true)
		go func() {
			defer close(done)
			defer w.busy.Store(false)
			s.read(w, ordinary())
			if g := s.loaded.gate; g != nil {
				g.Prepare(w.pause())
			}
			if !w.stop.Load() {
				s.loaded.budget.weigh()
			}
		}()
	})
}

// noticed notes that a request has come, while that is of interest.
func (w *warmer) noticed() {
	if w.busy.Load() && !w.asked.Load() {
		w.asked.Store(true)
	}
}

// slice does a part of the work, and rests.
func (w *warmer) slice(work func()) {
	warmTurn.Lock()
	start := time.Now()
	work()
	took := time.Since(start)
	warmTurn.Unlock()
	w.rest(took)
}

// pause returns a function for work that asks it whether it is to stop: it rests when
// a slice is done.
func (w *warmer) pause() (stop func() bool) {
	const slice = 2 * time.Millisecond
	start := time.Now()
	return func() bool {
		if took := time.Since(start); took > slice {
			w.rest(took)
			start = time.Now()
		}
		return w.stop.Load()
	}
}

// rest waits as long as what has taken so long asks for. Where nothing is warmed in
// the background, it does not.
func (w *warmer) rest(took time.Duration) {
	if !w.busy.Load() {
		return
	}
	share := restIdle
	if w.asked.Swap(false) {
		share = restBusy
	}
	for left := min(time.Duration(share*float64(took)), restMost); left > 0 && !w.stop.Load(); left -= restStep {
		time.Sleep(min(left, restStep))
	}
}

// Warmed waits until the background work that New has begun is done, or ctx ends.
func (s *Stage) Warmed(ctx context.Context) error {
	done := s.loaded.warmer.done
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read judges requests for nothing but the states that they make, with the proof
// and with the engine behind it. A fault of either is one of the requests to come,
// which tell it. Engines that share their automata share the work: one that is
// loaded while another is being warmed goes on where that one ends.
func (s *Stage) read(w *warmer, requests []func() *http.Request) {
	e, ok := s.engine.(*proving)
	if !ok {
		return
	}
	progress := e.proof.Progress()
	if progress == nil {
		return
	}
	proved := make([]bool, len(requests))
	for !w.stop.Load() {
		i := int(progress.Add(1)) - 1
		n := i % len(requests)
		switch {
		case i >= (warmPasses+1)*len(requests):
			progress.Add(-1) // all are read
			return
		case i >= warmPasses*len(requests):
			w.slice(func() { s.readOne(&e.plain, requests[n]()) })
		case !proved[n]:
			w.slice(func() { proved[n] = s.readOne(e, requests[n]()) })
		}
	}
}

func (s *Stage) readOne(e evaluator, hr *http.Request) (proved bool) {
	r := filter.NewRequest(hr, time.Unix(0, 0))
	r.Client = r.Peer
	defer r.Release()
	defer func() { _ = recover() }()
	out, err := e.evaluate(r, func(kind bodyKind) (payload, *filter.Decision) {
		return s.readPayload(r, kind, s.config.BodyLimit)
	})
	return err == nil && out.proved
}

// ordinary returns requests as browsers and programs send them.
func ordinary() []func() *http.Request {
	var all []func() *http.Request
	add := func(method, target, contentType, body string) {
		all = append(all, func() *http.Request {
			u, err := url.ParseRequestURI(target)
			if err != nil {
				panic(err) // the targets are written below
			}
			r := &http.Request{
				Method: method, URL: u, RequestURI: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
				Header: warmHeader.Clone(), Host: "www.example.com", RemoteAddr: "192.0.2.1:40000", Body: http.NoBody,
			}
			if body != "" {
				r.Header.Set("Content-Type", contentType)
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			}
			return r
		})
	}
	for _, target := range []string{
		"/", "/index.html", "/assets/app.3f2a1c9e.js", "/favicon.ico", "/api/v1/users/42?expand=roles,groups&page=2&sort=-created_at",
		"/search?q=tea+pots&lang=en-GB&utm_source=newsletter&utm_campaign=spring_2026",
		"/callback?code=4%2F0AX4XfWh-Yb&state=eyJhIjoiYiJ9&session_state=3f1c0a52-7d1b-4a39-9e3b-0d1f2c3b4a59",
		"/de/%C3%BCber-uns/?ref=https%3A%2F%2Fwww.example.org%2Fseite%2F", "/wp-content/uploads/2026/03/image-1024x768.jpg", "/a/b/c/d.e/f_g-h~i",
	} {
		add(http.MethodGet, target, "", "")
	}
	const json, plain = "application/json", "text/plain; charset=utf-8"
	var names, values []string
	for i, text := range warmTexts {
		add(http.MethodPost, "/notes", plain, text)
		names = append(names, fmt.Sprintf("field_%d", i))
		values = append(values, text)
	}
	for i, short := range warmValues {
		names = append(names, warmNames[i%len(warmNames)])
		values = append(values, short)
	}
	form, document := url.Values{}, strings.Builder{}
	var parts strings.Builder
	document.WriteString(`{"items":[`)
	for i, value := range values {
		form.Add(names[i], value)
		if i > 0 {
			document.WriteByte(',')
		}
		fmt.Fprintf(&document, `{"%s":%s,"id":%d,"ok":%t,"n":%d.%d,"none":null}`, names[i], quoteJSON(value), 1000+i, i%2 == 0, i, i*7%100)
		fmt.Fprintf(&parts, "--boundary\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", names[i], value)
		if len(form) == 12 || i == len(values)-1 {
			add(http.MethodPost, "/account", "application/x-www-form-urlencoded", form.Encode())
			form = url.Values{}
		}
	}
	document.WriteString(`],"meta":{"page":1,"total":250}}`)
	parts.WriteString("--boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"Report 2026 (final).docx\"\r\n" +
		"Content-Type: application/vnd.openxmlformats-officedocument.wordprocessingml.document\r\n\r\nPK\x03\x04\r\n--boundary--\r\n")
	add(http.MethodPost, "/api/orders", json, document.String())
	add(http.MethodPost, "/upload", "multipart/form-data; boundary=boundary", parts.String())
	add(http.MethodPost, "/feed", "application/xml", `<?xml version="1.0" encoding="UTF-8"?><order id="7"><item sku="T-1">Tea, 100 g</item><note lang="en">Ring twice</note></order>`)
	return all
}

// quoteJSON returns a text as a JSON string.
func quoteJSON(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}

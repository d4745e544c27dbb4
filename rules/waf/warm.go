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
	stop  atomic.Bool
	done  chan struct{}
}

// warmPasses is how often the texts are read, at most: a text comes to an end with
// the states that the passes before have left.
const warmPasses = 4

// warm begins to warm the engine of s, unless it has begun. It returns at once.
func (s *Stage) warm() {
	w := &s.loaded.warmer
	w.start.Do(func() {
		done := make(chan struct{})
		w.done = done
		go func() {
			defer close(done)
			s.read(w, ordinary())
			s.arm(w)
			if !w.stop.Load() {
				s.loaded.budget.weigh()
			}
		}()
	})
}

// arm makes what is needed for texts that the automata explode with.
func (s *Stage) arm(w *warmer) {
	if p := s.loaded.proof; p != nil {
		p.Prepare(w.stop.Load)
	}
	if p := s.loaded.follow; p != nil {
		p.Prepare(w.stop.Load)
	}
	if g := s.loaded.gate; g != nil {
		g.Prepare(w.stop.Load)
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
			s.readOne(&e.plain, requests[n]())
		case !proved[n]:
			proved[n] = s.readOne(e, requests[n]())
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

package metrics

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Payload says how the payload stage has judged a request. Its strings are names of
// sets that depend on the policy, never on a request.
type Payload struct {
	// Path is the way of the request: "proved", "followed", "engine", "body", "ended",
	// "failed".
	Path string
	// Cause is why a request was not proved, or with the path "engine" why it could not
	// be followed either: "rule", "shape", "cost", "proof", "panic"; empty for one that
	// was proved, and without the fast engine.
	Cause string
	// What is the number of a rule or a word; empty for none.
	What string
}

// maxHandovers bounds the series of hand-overs. Further ones are counted under
// "other".
const maxHandovers = 1024

var (
	descPaths     = desc("payload_requests_total", "Requests that the payload stage has judged, by the way they took.", "path")
	descHandovers = desc("payload_handed_over_total", "Requests that were not proved clean, by the way they took then and what stood in the way.", "path", "cause", "what")
)

// payloadPaths are the values of the label path. The last stands for any other.
var payloadPaths = [...]string{"proved", "followed", "engine", "body", "ended", "failed", "other"}

// handover is the labels of a hand-over.
type handover struct{ path, cause, what string }

// payloads counts what the payload stage did.
type payloads struct {
	paths [len(payloadPaths)]atomic.Uint64

	mu        sync.Mutex
	handovers map[handover]uint64
}

// PayloadJudged counts a request of the payload stage.
func (m *Metrics) PayloadJudged(p Payload) {
	at := slices.Index(payloadPaths[:], p.Path)
	if at < 0 {
		at = len(payloadPaths) - 1
	}
	m.payloads.paths[at].Add(1)
	if p.Cause == "" {
		return
	}
	key := handover{payloadPaths[at], p.Cause, p.What}
	s := &m.payloads
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.handovers[key]; !known {
		if len(s.handovers) >= maxHandovers {
			key.what = "other"
		}
		if s.handovers == nil {
			s.handovers = map[handover]uint64{}
		}
	}
	s.handovers[key]++
}

// collectPayloads tells the counts of the payload stage.
func (m *Metrics) collectPayloads(counter func(*prometheus.Desc, uint64, ...string)) {
	for i, path := range payloadPaths {
		counter(descPaths, m.payloads.paths[i].Load(), path)
	}
	m.payloads.mu.Lock()
	all := maps.Clone(m.payloads.handovers)
	m.payloads.mu.Unlock()
	valid := map[handover]uint64{}
	for key, n := range all {
		valid[handover{key.path, strings.ToValidUTF8(key.cause, "\ufffd"), strings.ToValidUTF8(key.what, "\ufffd")}] += n
	}
	for key, n := range valid {
		counter(descHandovers, n, key.path, key.cause, key.what)
	}
}

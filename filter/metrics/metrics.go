package metrics

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Policy describes the policy in force. Its strings are the operator's.
type Policy struct {
	Name     string         // the policy file's name
	Version  string         // a hash of its content; may be empty
	LoadedAt time.Time      // when it came into force
	Rules    map[string]int // number of rules by kind: "access", "tier", "payload", "auth", ...
}

// TierTable is the state of the rate tiers' tables, all tiers together.
type TierTable struct {
	Bytes   int64  // memory that the tables hold
	Limit   int64  // memory that the policy lets them hold
	Entries int64  // clients that are known now
	Full    uint64 // times that a new client found no room, since the start
}

// List is the state of one list of the policy.
type List struct {
	Name    string // the operator's name for it
	Entries int    // addresses, prefixes and ranges
}

// Audit is the state of the audit log since the start.
type Audit struct {
	Written     uint64
	Dropped     uint64
	WriteErrors uint64
}

// Result is the outcome of a refresh of a list.
type Result uint8

const (
	// Failed is a refresh that left the old content in place.
	Failed Result = iota
	// OK is a refresh that brought new content.
	OK
	// Unchanged is a refresh that found what was there before.
	Unchanged
)

var results = [...]string{"failed", "ok", "unchanged"}

// String returns the result's name as the label spells it.
func (r Result) String() string { return results[min(int(r), len(results)-1)] }

// maxLists bounds the series that lists make. Refreshes of further lists are
// counted under "other".
const maxLists = 1024

// Metrics counts what moat does. It is a filter.Observer and a
// prometheus.Collector. Make it with New; all methods are safe for concurrent
// use.
type Metrics struct {
	requests    [len(verdicts)][len(stages)][maxReasons]atomic.Uint64
	refusals    [len(statuses) + 1]atomic.Uint64
	detected    [len(stages)]atomic.Uint64
	stageErrors [len(stages)]atomic.Uint64
	panics      atomic.Uint64
	reloads     [2]atomic.Uint64 // failed, ok
	seconds     prometheus.Histogram
	payloads    payloads

	mu        sync.Mutex
	policy    *Policy
	refreshes map[string]*[len(results)]uint64
	tiers     func() TierTable
	lists     func() []List
	audit     func() Audit
	clients   clients
}

// New returns Metrics, registered with reg unless reg is nil. The error is that
// of the registration.
func New(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "moat_decision_seconds",
			Help:    "Time from the arrival of a request to the decision.",
			Buckets: []float64{1e-6, 2.5e-6, 5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1},
		}),
		refreshes: map[string]*[len(results)]uint64{},
	}
	if reg != nil {
		if err := m.Register(reg); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Register registers m with one more registry. It is no error if m is there
// already; it is one if other Metrics are.
func (m *Metrics) Register(reg prometheus.Registerer) error {
	err := reg.Register(m)
	var twice prometheus.AlreadyRegisteredError
	if errors.As(err, &twice) && twice.ExistingCollector == prometheus.Collector(m) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// Handler returns a handler that answers with these metrics, and those of the
// Go runtime and the process, in the Prometheus text format.
func (m *Metrics) Handler() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// PolicyLoaded counts a policy that came into force, and describes it from now
// on. It keeps a copy.
func (m *Metrics) PolicyLoaded(p Policy) {
	p.Name, p.Version = valid(p.Name), valid(p.Version)
	kinds := make(map[string]int, len(p.Rules))
	for kind, n := range p.Rules {
		kinds[valid(kind)] += n
	}
	p.Rules = kinds
	m.reloads[1].Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.policy = &p
}

// PolicyFailed counts a policy that was refused; the old one stays in force.
func (m *Metrics) PolicyFailed() { m.reloads[0].Add(1) }

// ListRefreshed counts a refresh of the list that the operator named name.
func (m *Metrics) ListRefreshed(name string, r Result) {
	r = min(r, Result(len(results)-1))
	name = valid(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := m.refreshes[name]
	if counts == nil {
		if len(m.refreshes) >= maxLists {
			name = "other"
			counts = m.refreshes[name]
		}
		if counts == nil {
			counts = new([len(results)]uint64)
			m.refreshes[name] = counts
		}
	}
	counts[r]++
}

// valid returns s as a label value: one that is no UTF-8 fails the collection of
// every metric.
func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// SetTierTable sets the function that tells of the rate tiers' tables at each
// collection; nil tells nothing. It must be safe for concurrent use.
func (m *Metrics) SetTierTable(f func() TierTable) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tiers = f
}

// SetLists sets the function that tells of the policy's lists at each
// collection; nil tells nothing. It must be safe for concurrent use.
func (m *Metrics) SetLists(f func() []List) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists = f
}

// SetAudit sets the function that tells of the audit log at each collection;
// nil tells nothing. It must be safe for concurrent use.
func (m *Metrics) SetAudit(f func() Audit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.audit = f
}

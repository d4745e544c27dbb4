package moatcaddy

import (
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/moatwaf/moat/filter/audit"
	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/filter/policy"
)

// counters counts for every policy of the process. They outlive reloads of
// Caddy's configuration, each of which has a registry of its own.
var counters = newCounters()

func newCounters() *metrics.Metrics {
	m, err := metrics.New(nil)
	if err != nil {
		panic(err) // only a registry could refuse, and there is none
	}
	m.SetTierTable(func() (sum metrics.TierTable) {
		seen := map[*policy.ClientState]bool{}
		for _, rt := range Running() {
			if seen[rt.Clients()] {
				continue
			}
			seen[rt.Clients()] = true
			t := rt.TierTable()
			sum.Bytes += t.Bytes
			sum.Limit += t.Limit
			sum.Entries += t.Entries
			sum.Full += t.Full
		}
		return sum
	})
	m.SetLists(func() (all []metrics.List) {
		seen := map[string]bool{}
		for _, rt := range Running() {
			for _, list := range rt.Lists() {
				if !seen[list.Name] {
					seen[list.Name] = true
					all = append(all, list)
				}
			}
		}
		return all
	})
	m.SetAudit(func() metrics.Audit {
		sum := past.audit()
		runtimes.Range(func(_, value any) bool {
			if r, ok := value.(*running); ok {
				addAudit(&sum, r.AuditStats())
			}
			return true
		})
		return sum
	})
	countClients(m)
	return m
}

// past is what the audit logs of policies that are gone have counted: a counter does
// not go back.
var past totals

type totals struct {
	mu  sync.Mutex
	sum metrics.Audit
}

func (t *totals) add(s audit.Stats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	addAudit(&t.sum, s)
}

func (t *totals) audit() metrics.Audit {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum
}

func addAudit(sum *metrics.Audit, s audit.Stats) {
	sum.Written += s.Written
	sum.Dropped += s.Dropped
	sum.WriteErrors += s.WriteErrors
}

// metricsHandler serves what a registry gathers, in the Prometheus text format.
func metricsHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

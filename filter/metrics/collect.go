package metrics

import (
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("moat_"+name, help, labels, nil)
}

var (
	descRequests    = desc("requests_total", "Requests, by what was decided, by whom and why.", "verdict", "stage", "reason")
	descRefusals    = desc("refusals_total", "Refused requests, by the status of the answer.", "status")
	descDetected    = desc("detected_total", "Refusals that rules and stages in detect mode reported and did not make.", "stage")
	descStageErrors = desc("stage_errors_total", "Errors of stages, panics among them.", "stage")
	descPanics      = desc("panics_total", "Panics of stages.")
	descReloads     = desc("policy_reloads_total", "Policies read, by whether they came into force.", "result")
	descPolicy      = desc("policy_info", "The policy in force.", "name", "version")
	descLoaded      = desc("policy_loaded_timestamp_seconds", "When the policy in force was loaded, in Unix time.")
	descRules       = desc("policy_rules", "Rules of the policy in force, by kind.", "kind")
	descWritten     = desc("audit_written_total", "Audit lines written.")
	descDropped     = desc("audit_dropped_total", "Audit lines lost because the queue was full or the sink failed.")
	descWriteErrors = desc("audit_write_errors_total", "Failed writes of the audit log.")
	descTierBytes   = desc("tier_table_bytes", "Memory that the tables of the rate tiers hold.")
	descTierLimit   = desc("tier_table_limit_bytes", "Memory that the tables of the rate tiers may hold.")
	descTierEntries = desc("tier_table_entries", "Clients in the tables of the rate tiers.")
	descTierFull    = desc("tier_table_full_total", "Times that a new client found the tables of the rate tiers full.")
	descEntries     = desc("list_entries", "Entries of a list of the policy.", "list")
	descRefresh     = desc("list_refresh_total", "Refreshes of a list, by outcome.", "list", "result")
)

var descs = []*prometheus.Desc{
	descRequests, descRefusals, descDetected, descStageErrors, descPanics, descReloads, descPolicy, descLoaded,
	descRules, descWritten, descDropped, descWriteErrors, descTierBytes, descTierLimit, descTierEntries,
	descTierFull, descEntries, descRefresh, descPaths, descHandovers,
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.seconds.Describe(ch)
	for _, d := range descs {
		ch <- d
	}
	for _, d := range clientDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Series of moat_requests_total appear
// with their first request: most of the combinations never occur.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}

	for v := range m.requests {
		for s := range m.requests[v] {
			for r := range reasons {
				if n := m.requests[v][s][r].Load(); n > 0 {
					counter(descRequests, n, verdicts[v], stages[s], reasons[r])
				}
			}
		}
	}
	for i := range m.refusals {
		label := "other"
		if i < len(statuses) {
			label = strconv.Itoa(statuses[i])
		}
		counter(descRefusals, m.refusals[i].Load(), label)
	}
	m.seconds.Collect(ch)
	for i, stage := range stages {
		counter(descDetected, m.detected[i].Load(), stage)
		counter(descStageErrors, m.stageErrors[i].Load(), stage)
	}
	m.collectPayloads(counter)
	counter(descPanics, m.panics.Load())
	counter(descReloads, m.reloads[0].Load(), "failed")
	counter(descReloads, m.reloads[1].Load(), "ok")

	// The callbacks run outside the lock: they belong to others.
	m.mu.Lock()
	policy, tiers, lists, audit, clients := m.policy, m.tiers, m.lists, m.audit, m.clients
	refreshes := make(map[string][len(results)]uint64, len(m.refreshes))
	for name, counts := range m.refreshes {
		refreshes[name] = *counts
	}
	m.mu.Unlock()

	switch {
	case clients.policies != nil:
		collectPolicies(clients.policies(), gauge)
	case policy != nil:
		collectPolicies([]Policy{*policy}, gauge)
	}
	clients.collect(ch, counter, gauge)
	if audit != nil {
		a := audit()
		counter(descWritten, a.Written)
		counter(descDropped, a.Dropped)
		counter(descWriteErrors, a.WriteErrors)
	}
	if tiers != nil {
		t := tiers()
		gauge(descTierBytes, float64(t.Bytes))
		gauge(descTierLimit, float64(t.Limit))
		gauge(descTierEntries, float64(t.Entries))
		counter(descTierFull, t.Full)
	}
	if lists != nil {
		// A name that stands twice would fail the whole collection.
		entries := map[string]int{}
		for _, l := range lists() {
			if len(entries) < maxLists {
				entries[valid(l.Name)] += l.Entries
			}
		}
		for name, n := range entries {
			gauge(descEntries, float64(n), name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(refreshes)) {
		for result, n := range refreshes[name] {
			counter(descRefresh, n, name, Result(result).String())
		}
	}
}

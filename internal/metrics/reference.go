package metrics

import (
	"fmt"
	"strings"
)

// Reference is docs/METRICS.md, made from the table.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Metrics

Generated from the table in ` + "`internal/metrics`: `go test ./internal/metrics -update`" + `.

Prometheus scrapes ` + "`/metrics`" + ` on the port of each node. The names that begin with ` + "`kafka_`" + ` are those that dashboards for Kafka
ask for: of its JMX exporter (Strimzi's dashboards) and of kafka_exporter. Figures of how busy Kafka's threads are have no
counterpart here. What belongs to the cluster is told by one node only, so that sums over all nodes are right. Beside these there
are the usual ` + "`go_`, `process_` and `promhttp_`" + ` metrics.

The settings ` + "`quorlog.metrics.partition.level`" + ` and ` + "`quorlog.metrics.max.series`" + ` bound how many series there are. A dashboard for
Grafana and rules for alerts are in ` + "`deploy/grafana`, `deploy/prometheus`" + `.

| name | kind | labels | meaning |
|---|---|---|---|
`)
	for _, m := range All() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Kind, strings.Join(m.Labels, ", "), m.Help)
	}
	return b.String()
}

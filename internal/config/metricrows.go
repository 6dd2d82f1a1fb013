package config

// The settings of what a node tells of itself.
func metricRows() []Setting {
	levels := []string{"off", "topic", "partition"}
	return []Setting{
		brokerRow("quorlog.metrics.partition.level", String, "partition", "off, topic, partition", "How finely /metrics tells topics and groups apart: not at all, each by itself, or also each of their partitions. Quorlog's own.", oneOf(levels...), true),
		brokerRow("quorlog.metrics.max.series", Int, "50000", "1000 or more", "Series in one answer of /metrics; what is beyond is left out, first that of partitions, and counted by quorlog_metrics_dropped_series. Quorlog's own.", integer(1000, maxInt), true),
	}
}

// Package figures holds what a node tells of itself, and what it costs, against others: the lag of groups against Kafka's own tool,
// the text of /metrics against Prometheus and its parser, memory and the time of a start against what is promised.
package figures

// Package partition is the only door to replicated data, in Kafka offsets.
package partition

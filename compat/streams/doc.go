// Package streams runs a Kafka Streams application, exactly once, with a repartition topic, a state store and its changelog,
// against a cluster of three processes, and kills nodes and instances of the application: each count of each word must come
// out once and in order.
//
//	counts.go  the check, proven by planted outputs in counts_test.go
//
// It starts no goroutine.
package streams

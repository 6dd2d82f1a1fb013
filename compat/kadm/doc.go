// Package kadm calls every exported method of franz-go's administration client against a cluster of three processes and
// against franz-go's in-memory fake of Kafka, and compares what comes. Reflection proves that no method is left out. What
// differs, and why, is a table in the test; a difference that is gone must leave it.
//
//	canon.go  a result as text, without what differs between any two clusters
package kadm

// Package shares tests share groups (KIP-932) with the clients of franz-go and of Kafka against three real nodes: members come and
// go, nodes are killed, and every record is processed.
//
// It has tests only. Goroutines: one per member and one that produces, ended by the test.
package shares

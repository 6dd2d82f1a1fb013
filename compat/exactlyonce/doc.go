// Package exactlyonce tests transactions from outside: a chain A -> B -> C of consumers that produce what they consume, a bank
// whose money must stay the same, and packets that come late. Producers are cut off as if their machine had died, or live on
// as zombies beside their successors; brokers are killed, among them the coordinators. The same workloads, in the chain without
// the kills, run against franz-go's in-memory fake of Kafka, which has transactions: that tests the tests.
//
//	cord.go     a client whose connections can be cut all at once
//	verdict.go  what was seen how often, and the check, proven by planted histories in verdict_test.go
//
// Goroutines: one per worker, ended by its stop, which waits for it; one that reads beside the bank, ended with its test.
package exactlyonce

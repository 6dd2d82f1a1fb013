// Package txn coordinates transactions (KIP-98, KIP-360, KIP-447, KIP-890): who produces under a transactional id, which
// partitions its transaction has, and how it ends.
//
// A transactional id hashes to one partition of __transaction_state; the node that leads this partition coordinates it. Each
// change of a transactional id is one record there, in the schema that Kafka itself uses, and is answered only after it is
// committed.
//
//	Service      routes a request to its id's machine                  service.go; package coordinator runs the machines
//	  Machine      one transactional id: Step(now, event) -> effects     machine*.go
//	    Metadata     what is stored of it                                  types.go
//	  Record       a change of durable state, and its Kafka form         record.go, guard.go
//	  kind         what the runtime must know of this coordinator        kind.go
//	  sessions     transactions whose markers are being written          sessions.go
//	    sender       brings markers to the leaders of their partitions     sender.go
//	  Join         asks for a broker that is written to                  join.go
//
// The machine is pure: no clock, goroutine, channel or I/O. It asks for writes and markers by effects and hears of their end
// by events, so that its whole behaviour can be told in scripts (testdata/*.txt).
//
// Durable operation "end a transaction":
//
//	steps         PrepareCommit or PrepareAbort is written; then a marker in each partition of the transaction, by the
//	              partition's leader; then CompleteCommit or CompleteAbort
//	commit point  the Prepare record is committed: the client is answered
//	recovery      the next coordinator finds the Prepare record and has all markers written once more; a marker where no
//	              transaction is open changes nothing
//
// A client of transaction.version 2 has another epoch for each transaction, and markers carry the next one. So whatever comes
// late, a request, a batch or a marker, is told from what is current by its epoch. With older clients the epoch stays: there a
// packet that was held up may hit the next transaction, as with Kafka.
//
// Goroutines, all of the sender: one for each node that markers go to, while there are any; one for those that wait to be tried
// again; one while it is to be found out whether partitions were deleted. They end with Service.Close. What waits is counted, and
// bounded by Limits.MaxUnmarked.
//
// Locks: a shard's (package coordinator), then sessions.mu, then sender.mu; none is held during I/O. Every maximum is in limits.go.
package txn

// Package partition is the only door to replicated data, in Kafka offsets: append, read, watermarks, epochs, replicas in
// sync. A [Manager] holds the partitions of this node; a [Partition] is one replica, and serves while it leads its group.
//
// # An append
//
// The caller has validated the batch, outside of every lock. It waits for room in the queue (reserve), takes the append lock,
// is checked against what its producer has stored and has in flight (flights.go), gets the epoch that it was checked in, and
// goes to Raft. The lock guarantees that batches reach Raft in the order in which they were checked. Raft may still refuse
// single ones, or store them in a later term; so the log checks epoch and sequence again when it stores a batch, and stores a
// refusal instead if they do not fit. Whatever happens, the [Pending] is answered: after the batch, or its refusal, was
// applied, or when Raft gave up on it.
//
// # Directory
//
//	<data>/votes.db                          terms and votes of all groups (package raftlog)
//	<data>/ballast                           room for internal frames on a full disk
//	<data>/partitions/<topic id>-<n>/        one replica
//	    partition.meta                       JSON: whose replica this is; written once, before anything else
//	    ...                                  the log's files (log/FORMAT.md)
//	<data>/partitions/<topic id>-<n>.deleted a replica that is being removed; removed at the next start at the latest
//
// # Goroutines
//
//   - changes.run: one for each Manager; passes changes of leadership on. Woken by them, stopped by Close.
//   - Partition.complete: at most one for each partition, while appends are under way; waits for Raft's answers in order.
//   - Partition.propose starts one for each internal entry, until Raft has answered.
//   - mover.transfer starts one for each leadership that is handed over, until Raft has answered, within a few election timeouts.
//   - Manager.Close, HandOver and Converge work on several partitions side by side, and wait.
//   - Partition.retire: one when a partition goes offline; closes its group. Close waits for it.
//   - those of raftgroup.
//
// # Locks
//
//	Manager.changing[...] -> Manager.mu
//	Partition.order -> Partition.flights.mu
//
// raftgroup calls Applied and Led under its own locks; these take only Partition.given, watchers.mu and
// Manager.changes.mu.
package partition

// Package raftlog makes a partition's log what Raft stores things in. Raft indexes and terms stop here: above, there are
// offsets and epochs.
//
//   - [Store] is the LogStore: a Raft entry is a frame of the log, and one StoreLogs is one write and one fsync.
//   - [Snapshots] is the SnapshotStore. It stores nothing: the log is the state. What it offers are places in the log.
//   - [Votes] keeps the terms and votes of all groups of a node, and gives each group its StableStore.
//
// # Failure
//
// After the first error a Store is poisoned: everything that changes the log is refused from then on, because Raft's idea of
// the log's end no longer is the log's (rules of research/raft-over-log.md, 3). The owner hears of it once, by a callback on
// the goroutine that met it, and ends the process or takes the partition offline. Raft panics where it cannot read an entry
// that it knows to be committed, or cannot save a term; one such panic would take all partitions of the process with it. So
// these two calls answer something harmless instead, and the group, which asks Failed before each message that it sends or
// takes, is dumb and deaf by then: what Raft makes of the answer reaches nobody.
//
// Running out of descriptors or mappings is no such error, where something is only read: Raft gets a stub, with the entry's term, and
// who needs the rest tries again until it can be read.
//
// # Goroutines
//
//   - Votes.run: one for each Votes; commits what waits. Woken by Set and Drop, stopped by Close.
package raftlog

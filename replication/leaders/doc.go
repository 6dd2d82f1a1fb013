// Package leaders is the leadership table: who leads each partition, in which epoch and with which replicas in sync, as
// every node of the cluster knows it a few milliseconds after it changed. Metadata answers, KIP-951 hints and the search for a
// coordinator read it.
//
// Each node tells what it leads itself (Set), and the others learn it by pushes: the first change goes out at once, what
// follows within pace is collected. A push that was not answered, a new connection, and a receiver that missed something are
// all healed in the same way: by a full push, which also withdraws what the sender leads no more. A node's status is told again
// every few seconds, since only the receiver may have noticed that it lost it. The table is a hint, kept in memory alone: what is stale in it costs a client one answer NOT_LEADER_OR_FOLLOWER, which leaders give from what Raft knows.
//
// Rules: the highest epoch wins; within an epoch only the node that leads it may change what is known (replicas in sync,
// ceased to lead), so news of one node can't be undone by another's. Between two nodes that hear a third but not each
// other, the third passes on what one leads and that it lives.
//
// Goroutines: one pusher for each peer that is up (pusher.run), started by PeerUp; a change, a failed push after its pause,
// a new status or the time to tell the old one again wakes it; PeerDown and Close end it. Locks: Table.mu alone. Watchers are called without it, on the
// goroutine that made the change.
package leaders

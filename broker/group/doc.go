// Package group coordinates groups: who is in a group, who owns which part of the work, and how far each group has read. There
// are groups of the classic protocol, whose members share out the work; consumer groups of KIP-848, to whose members the
// coordinator assigns partitions; and share groups of KIP-932, of which it keeps the members.
//
// A group hashes to one partition of __consumer_offsets; the node that leads this partition coordinates the group. All
// that must outlive the coordinator is written there, in the schemas that Kafka itself uses, and is answered only after it
// is committed: the members and assignments of each finished rebalance, and every committed offset.
//
//	Service          routes a request to its group                      service.go, admin.go, members.go
//	  kind           what package coordinator must know of groups       kind.go
//	    Machine      one group: Step(now, event) -> effects             machine*.go
//	      membership   joins, syncs, heartbeats, timeouts, leaving      machine_{join,rebalance,sync}.go
//	      roster       who is in the group, and the answers to them     machine_roster.go
//	      offsets      committed offsets, their deletion and expiry     machine_offsets.go
//	      transactions offsets of open transactions                     machine_txn.go
//	      modern       members, epochs and assignments of KIP-848       machine_{modern,heartbeat,reconcile,assign}.go
//	                   what the types of groups are to each other       machine_kinds.go
//	      migration    a group with members changes its protocol        machine_migrate.go
//	                   members of the classic protocol in a group of     machine_hosted.go, embedded.go
//	                   the consumer protocol
//	    Record       a change of durable state, and its Kafka form      record.go, codec.go, {record,codec}_modern.go
//
// The machine is pure: no clock, goroutine, channel or I/O. It asks for writes by an effect and hears of their end by an
// event, so that its whole behaviour can be told in scripts (testdata/*.txt). Package coordinator runs the machines: it reads
// them from the log, gathers their writes, and watches their deadlines. This package starts no goroutine.
//
// Durable operation "change a group" (a finished sync, an offset commit, a deletion):
//
//	steps         the machine emits Write; the runtime appends it with others and waits
//	commit point  the batch is committed by the partition's Raft group
//	recovery      the next coordinator reads the partition from its log start to its end, newest record of a key wins;
//	              members of a stored generation go on with their member ids, their session timers start anew
//
// A change to a group of KIP-848 counts in memory at once, as its members' next requests must see it, but is answered only when
// it is committed, as is everything that was seen meanwhile. If it does not get there, the partition is read again (Reload).
//
// An empty group becomes what its next member wants. A classic group of consumers becomes a consumer group when the first member
// joins by that protocol, and a classic one again when the last has gone, as far as group.consumer.migration.policy lets it; in
// between members of both protocols share its partitions. The rule that holds throughout: a partition is another's only after
// the coordinator was told that it is not used any more, or has given up on whom it was with.
//
// Every maximum is in limits.go.
package group

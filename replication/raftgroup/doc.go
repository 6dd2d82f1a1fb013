// Package raftgroup runs Raft instances: [Group] is one replica of a partition, whose log is the partition's own, and
// [MetaGroup] is the metadata group. Above it, nobody sees Raft.
//
// A Group outlives its Raft instance: a replica that is too far behind is reset to another's first segment, and that needs a
// new instance over the new log (install.go). What arrives from peers passes a filter first (link.go). Groups of one replica
// and of three run the same code.
//
// # Leadership
//
// Winning an election is not leading. The new leader's first own entry names its epoch (log.KindEpoch: the leader's identity,
// stamped with its term). Once that entry is applied, everything from earlier terms is too, and only then does the group tell
// its owner that it leads. It tells at once when Raft loses the leadership.
//
// # Ending
//
// Raft leaves proposals that wait in its queue without an answer when it is shut down. So an instance is closed for proposals
// first, then drained (Raft answers everything while it runs), and only then shut down.
//
// # Locks
//
//	Group.install -> Group.mu -> Group.lead.mu
//
//	pipe.sending -> isr.mu
//
// Under mu and lead.mu nothing of Raft is called but getters that do not wait.
//
// # Goroutines
//
//   - those of hashicorp/raft: three for each group, two more for each peer while it leads, one for a metric while it leads.
//   - announce: one for each election won, until the epoch entry is applied or the leadership is lost.
//   - assemble: one for each new group that this replica is to lead, until a majority is there or assemblePatience is over.
//   - transfer.run starts one for each order to campaign that it sends; ends with the answer, or the transport's timeout.
//   - calm.campaign: one for each leadership that is handed to this replica; ends when Raft has the order.
//   - Group.stop starts one that waits until all proposals are answered, and shutDown one that waits for Raft's own; both end with these, the
//     first perhaps after its caller, if Raft does not answer.
//   - Patrol: one for all groups that it watches; ends with Close.
//   - install: one for each InstallSnapshot received, until it is answered.
//   - Herald.run: one for each node; sleeps while nothing is committed; ends with Close.
//   - MetaGroup.catchUp: one for each election won; ends with a barrier's answer or the instance.
//   - MetaGroup.Propose starts one that waits for Raft's answer.
//   - MetaGroup.tellFollowers: one at a time, from a committed proposal until the followers have heard of it.
package raftgroup

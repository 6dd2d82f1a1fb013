// Package coordinator runs coordinators: state machines whose state lives in the records of an internal topic. The group
// coordinator is one (package group), so are those of transactions and of share groups.
//
// Keys hash to the partitions of the topic; the node that leads a partition coordinates its keys. All that must outlive the
// coordinator is written there, and is answered only after it is committed.
//
//	Runtime        the partitions that this node leads              runtime.go
//	  shard        one of them, with a Machine per key              shard.go, step.go, load.go, writer.go
//	Machine        one key: Step(now, event) -> effects             kind.go; the coordinator brings it
//	Kind, Loader   what the runtime must know of a coordinator      kind.go
//	Log, Cluster   what it needs from the rest of the node          deps.go; package replicated has them
//	Find           which node coordinates a key                     find.go
//	CompilePattern regular expressions of clients                   pattern.go
//
// A machine is pure: no clock, goroutine, channel or I/O. It asks for writes by an effect and hears of their end by an
// event, so that its whole behaviour can be told in scripts. Events of one machine come one at a time.
//
// Durable operation "change a key's state":
//
//	steps         the machine emits a write; the shard collects all waiting writes into one batch, appends it, waits
//	commit point  the batch is committed by the partition's Raft group
//	recovery      the next coordinator reads the partition from its log start to its end, newest record of a key wins
//
// When the outcome of an append can't be known the shard reads the partition again: what its machines hold may be wrong.
//
// Goroutines: one per led partition (shard.run), owned by its shard. Woken by new writes, a due timer, the end of an append;
// stopped when the leadership is lost or the runtime is closed. Nothing per key.
//
// Locks: Runtime.mu, then shard.mu; neither is held during I/O. Every maximum is in limits.go.
package coordinator

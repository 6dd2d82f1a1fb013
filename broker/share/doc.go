// Package share serves share groups (KIP-932): many members read the same partition at once, each record goes to one of them at
// a time, and is delivered again until somebody has acknowledged it or it was tried too often.
//
//	Service        ShareFetch and ShareAcknowledge                                           service.go, fetch.go, ack.go
//	  sessions     what a member fetches, and the order of its requests                      session.go
//	  tracked      a share-partition while this node leads: loading, storing, waking         tracked.go
//	    Partition  the records' states: acquire, acknowledge, expire                         partition.go, acquire.go, acknowledge.go
//	      Run      offsets that share a fate                                                 runs.go
//	    Durable    what survives of it                                                       durable.go
//	Logs, Store    what it needs from the rest of the node                                   requests.go, local.go
//
// The leader of a topic's partition keeps the share-partitions of it in memory, and stores what must survive: the start offset,
// who is finished, and how often a record was delivered. Package keeper is the store: it writes to __share_group_state. Locks
// do not survive. A Partition is pure, and its locks end when somebody looks: there are no timers but those of long polls. A session
// lives on the connection that it began on; when it ends, its long poll does, and what its member was not told goes to others.
//
// Goroutines, only while there is something to do: per share-partition tracked.run, which loads the state, and tracked.write, which
// stores it; per lost connection Service.disconnected. Service.Close waits for them. Locks, in the order in which they may be taken:
// sessions.mu alone; Service.mu, tracked.mu, Service.life; none is held during I/O, but for reading a partition's watermarks from
// memory. Every maximum is in limits.go.
package share

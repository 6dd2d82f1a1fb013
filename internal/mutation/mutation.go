// Package mutation names the bugs that tests plant, to prove that a check finds them. Without the build tag
// quorlog_mutations, which no build for users has, On is the constant false, and the compiler drops what stands behind it.
package mutation

// Name is a planted bug.
type Name string

// The bugs. Each is a rule of DESIGN 4 that is broken on purpose.
const (
	// SnapshotAtApplied: a follower behind the log start is sent the applied index instead of the boundary.
	SnapshotAtApplied Name = "snapshot-at-applied"
	// OffsetsReused: a batch every now and then gets the offset of the record before it.
	OffsetsReused Name = "offsets-reused"
	// ServeBeforeEpoch: a new leader serves before it has applied its own epoch's entry.
	ServeBeforeEpoch Name = "serve-before-epoch"
	// StaleLeader: a leader that was deposed goes on serving.
	StaleLeader Name = "stale-leader"
	// CommitUnfiltered: a follower commits further than a request proves.
	CommitUnfiltered Name = "commit-unfiltered"
	// ResetMatching: a snapshot empties a log that matches it.
	ResetMatching Name = "reset-matching"
	// DirtyRead: a replica serves what is not committed.
	DirtyRead Name = "dirty-read"
	// NoDedup: a producer's sequence is not looked at.
	NoDedup Name = "no-dedup"
	// AckUnknown: an append whose outcome is unknown is acknowledged.
	AckUnknown Name = "ack-unknown"
	// RefuseUnknown: an append whose outcome is unknown is refused for good.
	RefuseUnknown Name = "refuse-unknown"
	// NotFoundWrapped: an entry below the boundary is missed with an error that Raft does not know.
	NotFoundWrapped Name = "not-found-wrapped"
	// EpochForgotten: without a leader, a replica tells epoch 0.
	EpochForgotten Name = "epoch-forgotten"
	// VotesUnchecked: a replica goes on though its votes are older than its log.
	VotesUnchecked Name = "votes-unchecked"
)

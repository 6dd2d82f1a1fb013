package coordinator

import (
	"context"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Log is this node's replica of one partition of the topic. All methods may be called at any time; they answer
// replication.ErrNotLeader when the node does not lead the partition.
type Log interface {
	// Append hands a frame over; it does not wait for the disk. The frame is the log's from then on. Appends end in order. One of a
	// transaction needs what Verify gave for its producer; replication.ErrInvalidTxnState says that a marker came in between.
	Append(frame []byte, verified Verified) Pending
	// Verify begins a question to the coordinator of a producer's transaction, whether this partition is part of it. What that
	// answers is worth something for as long as no marker ends the transaction here. The result is never nil, and is to be ended
	// once the frames that it is for are appended, or will not be. Its Sequence does not matter.
	Verify(p batch.Producer) Verified
	// Bounds tells from where to where the log can be read, and where it ends.
	Bounds() (Bounds, error)
	// Read returns committed frames from the one that holds the offset on, about maxBytes of them but one at least.
	Read(from batch.Offset, maxBytes int) (Chunk, error)
}

// Verified is such a question, under way or answered.
type Verified interface{ End() }

// Bounds obeys Start <= Committed <= End. What lies between Committed and End is under way.
type Bounds struct {
	Start, Committed, End batch.Offset
}

// Chunk is a run of whole frames; Next is the offset after the last one.
type Chunk struct {
	Frames []byte
	Next   batch.Offset
}

// Pending is an append under way.
type Pending interface {
	// Done is closed when the outcome is known.
	Done() <-chan struct{}
	// Err is the outcome, once Done is closed. replication.ErrUnknownOutcome says that it will not be known.
	Err() error
}

// Logs finds the replicas of the topic on this node.
type Logs interface {
	// Open finds a replica that leads in an epoch. In any other the Log answers replication.ErrNotLeader: what a coordinator
	// has in memory is worth nothing once another node may have led in between, also if this one leads again.
	Open(partition int32, epoch batch.Epoch) (Log, error)
}

// Topic is what coordinators need to know of a topic.
type Topic struct {
	Name       string
	ID         replication.TopicID
	Partitions int32
}

// Cluster is what coordinators need to know of the cluster's metadata. All answers come from memory, but for EnsureTopic and Sync.
type Cluster interface {
	Topic(name string) (Topic, bool)
	TopicByID(id replication.TopicID) (Topic, bool)
	// Sync returns once this node knows all that was so when it was called. Without it nobody can tell whether a topic that is not
	// known was deleted, or is not known yet. It may take as long as ctx lasts.
	Sync(ctx context.Context) error
	// Coordinator is the leader of a partition of the coordinator's topic, with the address for clients of the listener.
	Coordinator(partition int32, listener string) (replication.Node, bool)
	// EnsureTopic creates the coordinator's topic unless it exists.
	EnsureTopic(ctx context.Context) error
}

package share

import (
	"context"
	"errors"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// Errors of share sessions and of stores.
var (
	// ErrSessionNotFound: the member has no session on this node (SHARE_SESSION_NOT_FOUND).
	ErrSessionNotFound = errors.New("no such share session")
	// ErrInvalidSessionEpoch: a request of the session was lost, or came twice (INVALID_SHARE_SESSION_EPOCH).
	ErrInvalidSessionEpoch = errors.New("invalid share session epoch")
	// ErrFencedStateEpoch: the start offset was set, or the state deleted, since the leader has read the state
	// (FENCED_STATE_EPOCH).
	ErrFencedStateEpoch = errors.New("fenced state epoch")
	// ErrSessionLimit: the node has as many sessions as it may (SHARE_SESSION_LIMIT_REACHED).
	ErrSessionLimit = errors.New("too many share sessions")
)

// Epochs of a share session with a meaning of their own.
const (
	NewSession   int32 = 0
	FinalSession int32 = -1
)

// TopicPartition names a partition in a request.
type TopicPartition struct {
	Topic     replication.TopicID
	Partition int32
}

// Member names who asks, and the place of the request in its session.
type Member struct {
	Group, ID string
	Epoch     int32
}

// Wanted is a partition in a request, with what the member acknowledges there.
type Wanted struct {
	TopicPartition
	Acks []Ack
}

// FetchRequest is a ShareFetch.
type FetchRequest struct {
	Member
	MaxWait    time.Duration
	MaxBytes   int
	MaxRecords int
	// BatchSize is the most offsets in a run that the member is told of; 0: no matter (KIP-1206).
	BatchSize  int
	Exact      bool // acquire no more than MaxRecords (KIP-1206)
	Renew      bool // acknowledgements may renew locks; nothing is fetched (KIP-1222)
	Partitions []Wanted
	Forgotten  []TopicPartition
	// Denied tells which topics the member may not read; nil: it may read all. It is asked at each look at a partition, since rights
	// can be given, and taken away, while the session lives and during a long poll. Nothing is acknowledged there either.
	Denied func(replication.TopicID) bool
}

// FetchResult is the answer for one partition.
type FetchResult struct {
	TopicPartition
	Err      error              // of the fetch
	AckErr   error              // of the acknowledgements
	Leader   replication.Leader // who leads instead, on replication.ErrNotLeader
	Records  Records            // whole batches, from the first to the last that hold what is acquired; nil for none
	Acquired []Run
}

func (r *FetchResult) release() {
	if r.Records != nil {
		r.Records.Release()
		r.Records = nil
	}
}

// FetchResponse is the answer to a ShareFetch. With Err set there are no results. The Records of the results must be released.
type FetchResponse struct {
	Err     error
	Lock    time.Duration
	Results []FetchResult
}

// AckRequest is a ShareAcknowledge.
type AckRequest struct {
	Member
	Renew      bool
	Partitions []Wanted
}

// AckResult is the answer for one partition.
type AckResult struct {
	TopicPartition
	Err    error
	Leader replication.Leader
}

// AckResponse is the answer to a ShareAcknowledge. With Err set there are no results.
type AckResponse struct {
	Err     error
	Lock    time.Duration
	Results []AckResult
}

// GroupSettings is the configuration of a group.
type GroupSettings struct {
	Settings
	// ReadCommitted is share.isolation.level: aborted records are nobody's, and open transactions are waited for.
	ReadCommitted bool
	Reset         Reset
}

// Reset is where a group begins with a partition: share.auto.offset.reset.
type Reset struct {
	Earliest bool          // at the log start
	Age      time.Duration // if positive: at the first record that is not older
	// Neither: at the end.
}

// Records is a run of whole batches of a partition, still in its files. *partition.Range is one.
type Records interface {
	// Len is the size in bytes.
	Len() int
	// Headers calls fn with each batch's header and its position, until it returns false.
	Headers(fn func(h batch.Header, at int) bool) error
	// Cut leaves the bytes [from, to), where batches begin.
	Cut(from, to int)
	// Pieces tells where the bytes lie, for sendfile; ok is false where there is no descriptor for them.
	Pieces() (pieces []partition.Piece, ok bool)
	// AppendTo copies the bytes.
	AppendTo(dst []byte) ([]byte, error)
	// Release gives the files back. It must be called once.
	Release()
}

// Chunk is what was read of a partition: whole batches that are committed.
type Chunk struct {
	Records Records // nil for none
	Aborted []partition.AbortedTxn
	Offsets partition.Offsets
}

// Log is a partition that this node hosts.
type Log interface {
	// Read reads from an offset on; one batch comes even if it is larger than maxBytes. epoch fences.
	Read(from batch.Offset, maxBytes int, readCommitted bool, epoch batch.Epoch) (Chunk, error)
	// Offsets tells where the partition stands, if this node leads it in the epoch.
	Offsets(epoch batch.Epoch) (partition.Offsets, error)
	// OffsetForTimestamp is that of the first record that is not older; -1 if there is none.
	OffsetForTimestamp(ts time.Time, epoch batch.Epoch) (batch.Offset, error)
	// Served counts what was sent of the partition, in bytes.
	Served(bytes int, err error)
	// Watch sends on w, without blocking, whenever the watermark, the log start or the leadership moves.
	Watch(w chan<- struct{}) (cancel func())
	Leader() replication.Leader
	Leading() bool
}

// Logs finds the partitions of this node. The errors are replication.ErrUnknownTopicID, replication.ErrUnknownPartition, and
// replication.ErrNotLeader for a partition that other nodes host.
type Logs interface {
	Find(tp TopicPartition) (Log, error)
	// LeaderOf tells who leads a partition; Node is NoNode if nobody is known to.
	LeaderOf(tp TopicPartition) replication.Leader
}

// Store keeps durable states. *keeper.Client is one.
type Store interface {
	// Read tells a new leader the state, and fences those before it. A negative start was never set.
	Read(ctx context.Context, k Key, leader batch.Epoch) (*Durable, error)
	// Write replaces the state; its version must be the one after that before it. ErrFencedStateEpoch and
	// replication.ErrFencedLeaderEpoch tell that the leader has to read again, or is none any more.
	Write(ctx context.Context, k Key, leader batch.Epoch, d *Durable) error
}

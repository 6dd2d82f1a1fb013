// Package fetch is the service behind Fetch, ListOffsets and OffsetForLeaderEpoch: what consumers read.
//
// A Fetch has three parts: its session (session.go: which partitions, and what the client knows of them already, KIP-227),
// reading within the limits (read.go), and waiting until there is enough to send (poll.go). Records are never copied here:
// a [Result] refers to a range of the partition's files, and whoever takes a [Response] must release it.
//
// The package starts no goroutine. A long poll waits on the goroutine of its connection and ends with its context. Locks, in
// the order in which they may be taken: cache.mu, then session.mu; no partition is called under either.
package fetch

import (
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// Defaults of Options.
const (
	// DefaultMaxBytes is Kafka's fetch.max.bytes, 55 MiB: the most that one answer holds, whatever the client asks for,
	// except that the first batch is always sent whole.
	DefaultMaxBytes = 55 << 20
	// DefaultSessions is Kafka's default of max.incremental.fetch.session.cache.slots.
	DefaultSessions = 1000
)

// Partition is what Fetch needs of a partition that this node hosts. *partition.Partition has it by way of [Local].
type Partition interface {
	// Read returns committed batches from an offset on, and where the partition stands.
	Read(r partition.ReadRequest) (Read, error)
	// Offsets tells where the partition stands, if this node leads it in the given epoch.
	Offsets(current batch.Epoch) (partition.Offsets, error)
	// Watch sends on w, without blocking, whenever the watermark, the log start or the leadership moves.
	Watch(w chan<- struct{}) (cancel func())
	// Leader tells who leads the partition.
	Leader() replication.Leader
	// Served counts what was sent of the partition, in bytes, or the error that was told.
	Served(bytes int, err error)
	History
}

// History answers questions about what a partition holds. Like Read, it fences by the client's leader epoch.
type History interface {
	// OffsetForTimestamp finds the first record below an offset that is not older than ts.
	OffsetForTimestamp(ts int64, below batch.Offset, current batch.Epoch) (Found, error)
	// MaxTimestamp finds the record below an offset with the highest timestamp.
	MaxTimestamp(below batch.Offset, current batch.Epoch) (Found, error)
	// EndOffsetForEpoch finds where an epoch, or the largest one below it, ends.
	EndOffsetForEpoch(e, current batch.Epoch) (Diverging, error)
	// EpochOf is the epoch under which an offset was written; batch.NoEpoch if that is not known.
	EpochOf(o batch.Offset) batch.Epoch
}

// Partitions finds partitions. An unknown topic or partition is replication.ErrUnknownPartition, an unknown id
// replication.ErrUnknownTopicID, and a partition that another node hosts replication.ErrNotLeader.
type Partitions interface {
	Lookup(topic string, partition int32) (Partition, error)
	LookupID(id replication.TopicID, partition int32) (Partition, error)
}

// Routes knows where else a client may read. A topic is named by its id, or by its name if the id is zero.
type Routes interface {
	// LeaderOf tells who leads a partition; Node is NoNode if nobody is known to.
	LeaderOf(topic string, id replication.TopicID, partition int32) replication.Leader
	// ReadReplica names the replica that a consumer in a rack should read from, from an offset on, instead of from this node;
	// NoNode to stay.
	ReadReplica(topic string, id replication.TopicID, partition int32, rack string, from batch.Offset) replication.NodeID
}

// Options configure a Service.
type Options struct {
	Partitions Partitions
	// Routes is nil for a node without peers.
	Routes Routes
	// MaxBytes is fetch.max.bytes; 0 means DefaultMaxBytes.
	MaxBytes int
	// Sessions is how many incremental sessions are kept; 0 is none, as in Kafka.
	Sessions int
	// Now is the clock by which sessions grow old; nil means time.Now.
	Now func() time.Time
}

// Service answers Fetch. It may be used by any number of goroutines.
type Service struct {
	partitions Partitions
	routes     Routes
	maxBytes   int
	sessions   *cache
	now        func() time.Time
}

// New returns a Service.
func New(o Options) *Service {
	s := &Service{partitions: o.Partitions, routes: o.Routes, maxBytes: o.MaxBytes, now: o.Now}
	if s.maxBytes <= 0 {
		s.maxBytes = DefaultMaxBytes
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.sessions = newCache(max(o.Sessions, 0))
	return s
}

// Session epochs with a meaning of their own (KIP-227).
const (
	// InitialEpoch asks for all partitions, and for a new session.
	InitialEpoch int32 = 0
	// FinalEpoch asks for all partitions and no session. Clients that know no sessions send it with session id 0.
	FinalEpoch int32 = -1
)

// Request is a Fetch.
type Request struct {
	Caller broker.Caller
	// FromReplica tells that a broker asks, not a consumer.
	FromReplica bool
	// UsesTopicIDs tells that partitions are named by topic id, not by name (version 13).
	UsesTopicIDs  bool
	SessionID     int32
	SessionEpoch  int32
	MaxWait       time.Duration
	MinBytes      int
	MaxBytes      int
	ReadCommitted bool
	// Denied tells which partitions the caller may not read; nil: it may read all. It is asked at each look at a partition, since
	// rights may change while a request waits.
	Denied func(Key) bool
	// Rack is the consumer's; empty if it does not say. With one it may read from followers too, and is sent to one that is
	// near (KIP-392).
	Rack string
	// AnyReplica has this node answer from its own replica, even if it does not lead, and send nobody elsewhere.
	AnyReplica bool
	Partitions []Params
	Forgotten  []Key
}

// Key names a partition in a request: by id or by name, whichever the request uses.
type Key struct {
	Topic     string
	TopicID   replication.TopicID
	Partition int32
}

// Params is what a client wants of one partition.
type Params struct {
	Key
	Offset   batch.Offset
	MaxBytes int
	// CurrentEpoch fences: it is the leader epoch that the client knows, or batch.NoEpoch (KIP-320).
	CurrentEpoch batch.Epoch
	// LastEpoch is the epoch of the last record that the client has, or batch.NoEpoch (KIP-595).
	LastEpoch batch.Epoch
}

// Records is a run of whole batches of a partition, still in its files.
type Records interface {
	// Len is the size in bytes.
	Len() int
	// Pieces tells where the bytes lie, for sendfile; the descriptors are good until Release. ok is false where there is no
	// descriptor for them.
	Pieces() (pieces []Piece, ok bool)
	// AppendTo copies the bytes.
	AppendTo(dst []byte) ([]byte, error)
	// Release gives the files back. It must be called once.
	Release()
}

// Piece is a run of bytes of an open file.
type Piece = partition.Piece

// Read is what Partition.Read returns.
type Read struct {
	Records   Records // nil for none
	Offsets   partition.Offsets
	Aborted   []partition.AbortedTxn
	Diverging *Diverging
}

// Diverging is a leader epoch and where it ends. In an answer to Fetch it tells a client that its log and the leader's
// differ: it names the leader's newest epoch at or below the client's.
type Diverging struct {
	Epoch batch.Epoch
	End   batch.Offset
}

// Result is the answer for one partition.
type Result struct {
	Key
	Err           error
	HighWatermark batch.Offset
	LastStable    batch.Offset
	LogStart      batch.Offset
	Aborted       []partition.AbortedTxn // read_committed only
	Diverging     *Diverging
	Leader        replication.Leader // who leads instead, on replication.ErrNotLeader; Node is NoNode if nobody is known to
	Preferred     replication.NodeID // the replica that the consumer should read from instead; NoNode for this one
	Records       Records            // nil for none
}

// Size is the number of bytes of records.
func (r *Result) Size() int {
	if r.Records == nil {
		return 0
	}
	return r.Records.Len()
}

func (r *Result) release() {
	if r.Records != nil {
		r.Records.Release()
		r.Records = nil
	}
}

// Response is the answer to a Fetch.
type Response struct {
	// Err is a session error; then there are no results.
	Err error
	// SessionID is the session that the client may go on with; 0 for none.
	SessionID int32
	Results   []Result
}

// Release gives the records of all results back. It may be called more than once.
func (r *Response) Release() {
	for i := range r.Results {
		r.Results[i].release()
	}
}

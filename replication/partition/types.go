package partition

import (
	"log/slog"
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftgroup"
	"github.com/quorlog/quorlog/replication/transport"
)

// What package log says of a partition, so that the services above need not import it.
type (
	// Range is a run of whole batches that still lie in their files.
	Range = log.Range
	// Piece is a run of bytes of an open file of a Range, by its descriptor.
	Piece = log.Piece
	// Chunk is a run of bytes of one file of a Range.
	Chunk = log.Chunk
	// Offsets are a partition's watermarks: LogStart <= LastStable <= HighWatermark <= LogEnd.
	Offsets = log.Offsets
	// AbortedTxn is an aborted transaction.
	AbortedTxn = log.AbortedTxn
	// ProducerState is what a partition knows of a producer id.
	ProducerState = log.ProducerState
)

// LeaderChange tells that a partition's leadership moved, as this node sees it. Local is true once this node leads and
// serves in Leader.Epoch. Leader.Node is NoNode while nobody is known to lead; its Epoch then is the newest one known.
type LeaderChange struct {
	ID     replication.PartitionID
	Leader replication.Leader
	Local  bool
}

// Options configure a Manager. Zero values mean the defaults.
type Options struct {
	DataDir string
	FS      vfs.FS // nil: the operating system's
	Node    replication.NodeID
	Network transport.Network // nil: a node without peers
	Timing  raftgroup.Timing
	Logger  *slog.Logger
	Now     func() time.Time

	// OnLeader is called, in order, after leadership moved. It must not block: it is called for all partitions by one goroutine.
	OnLeader func(LeaderChange)
	// OnFatal gets the first error after which the process must end: a failed write or fsync. It is called once.
	OnFatal func(error)
	// Guard watches that commits of the vote store do not hang: vfs.Watchdog.Guard.
	Guard func(op vfs.Op, path string, do func() error) error
	// Pace holds back what learners are sent of the log that was there before them; nil: nothing does.
	Pace raftgroup.Pace

	QueueBytes     int64         // appends of one partition that wait to be stored and committed, in bytes
	NodeQueueBytes int64         // the same, of all partitions
	QueueWait      time.Duration // how long an append waits for room there
	ReplicaLag     time.Duration // replica.lag.time.max.ms
	// SoftFree is the free space, in bytes, below which batches are refused; negative: none are. The default is a fiftieth of
	// the disk, within 64 MiB and 1 GiB.
	SoftFree int64
	// LowSpace tells that another node's disk is nearly full. What has a replica there takes no batches: it would have to store
	// them too. It is asked for each batch; nil: no node's is.
	LowSpace func(replication.NodeID) bool
	// BallastBytes is the size of a file that is deleted when the disk is full nevertheless, so that elections and the
	// advance of log starts still find room; negative: no such file.
	BallastBytes int64

	TailBytes       int64 // what the in-memory tails of all partitions may pin
	CheckpointBytes int64 // of a partition, between checkpoints
	ProducerExpiry  time.Duration
}

// Defaults of Options.
const (
	DefaultQueueBytes     = 32 << 20
	DefaultNodeQueueBytes = 256 << 20
	DefaultQueueWait      = 10 * time.Second
	DefaultReplicaLag     = 30 * time.Second
	DefaultBallastBytes   = 32 << 20

	leastSoftFree = 64 << 20
	mostSoftFree  = 1 << 30
)

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.Network == nil {
		o.Network = transport.None{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.NodeQueueBytes <= 0 {
		o.NodeQueueBytes = max(DefaultNodeQueueBytes, o.QueueBytes)
	}
	if o.QueueWait <= 0 {
		o.QueueWait = DefaultQueueWait
	}
	if o.ReplicaLag <= 0 {
		o.ReplicaLag = DefaultReplicaLag
	}
	if o.BallastBytes == 0 {
		o.BallastBytes = DefaultBallastBytes
	}
	if o.TailBytes <= 0 {
		o.TailBytes = log.DefaultTailBudget
	}
	return o
}

// Batch is a validated batch. Frame is the partition's from Append on: it is stamped in place and kept.
type Batch struct {
	Frame []byte
	Info  batch.Info
	// AnyISR stores the batch however few replicas are in sync: acks 0 and 1 do not ask for min.insync.replicas.
	AnyISR bool
	// Epoch refuses the batch, with replication.ErrNotLeader, unless this replica leads in exactly this epoch; 0 asks for none.
	// A coordinator uses it: what it knows was true in the epoch in which it read its partition.
	Epoch batch.Epoch
	// Client tells that the batch is of a client, or was written for one: if it is of a transaction, this must be open here, or
	// Verified.
	Client   bool
	Verified *Verification
	// Continues tells that the producer's sequences go on from one transaction to the next (transaction.version 1). So one of which
	// nothing is known any more begins with any sequence, as Kafka lets it. With version 2 each transaction begins with sequence 0.
	Continues bool

	marker *Marker // see Marker.Batch
}

// Appended is the answer to an append.
type Appended struct {
	Base, Last batch.Offset
	LogStart   batch.Offset
	// Timestamp is the batch's LogAppendTime in milliseconds, -1 under CreateTime.
	Timestamp int64
	// Duplicate tells that the batch had been stored before; the offsets are those that it got then.
	Duplicate bool
	Epoch     batch.Epoch
}

// ReadRequest asks for committed batches.
type ReadRequest struct {
	Offset     batch.Offset
	MaxBytes   int
	AtLeastOne bool // one batch comes even if it is larger than MaxBytes
	// ReadCommitted stops at the last stable offset and lists aborted transactions.
	ReadCommitted bool
	// CurrentEpoch is the leader epoch that the reader knows, or batch.NoEpoch (KIP-320).
	CurrentEpoch batch.Epoch
	// LastFetchedEpoch is the epoch of the last record that the reader has, or batch.NoEpoch (KIP-595).
	LastFetchedEpoch batch.Epoch
	// AnyReplica lets a follower answer, up to its own high watermark. Between that and its log end it has nothing yet; above, it
	// says replication.ErrOffsetNotAvailable.
	AnyReplica bool
}

// EpochEnd is a leader epoch and the offset where it ends.
type EpochEnd struct {
	Epoch batch.Epoch
	End   batch.Offset
}

// ReadResult is the answer to a read. The Range must be released.
type ReadResult struct {
	Range   *Range
	Offsets Offsets
	Aborted []AbortedTxn
	// Diverging, if not nil, tells that the reader's log and this one differ from End on; then Range is nil.
	Diverging *EpochEnd
}

// Found is a record that a search by time found. Offset is -1 where there is none.
type Found struct {
	Offset    batch.Offset
	Timestamp int64
	Epoch     batch.Epoch
}

// Package produce is the service behind Produce: it checks what clients send, batch by batch, and hands it to the
// partitions.
//
// A request goes in two steps. [Service.Begin] and [Call.Add] validate every batch and enqueue it, without waiting for a
// disk, so that the next request of the same connection can follow at once and keep its place in the partition's order. What unpacks to
// much waits there for its turn.
// [Call.Wait] then waits for the answers. Between the two nothing is held but the [Call] itself: the package starts no
// goroutine and has no lock of its own. Whatever is done per record is done in batch.Validate, outside every lock.
package produce

import (
	"sync"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/internal/turns"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// Partitions finds the partitions of this node. An unknown topic or partition is replication.ErrUnknownPartition, an
// unknown id replication.ErrUnknownTopicID, and a partition that another node hosts replication.ErrNotLeader.
type Partitions interface {
	Lookup(topic string, partition int32) (*partition.Partition, error)
	LookupID(id replication.TopicID, partition int32) (*partition.Partition, error)
}

// Leaders knows who leads partitions, wherever they are. The topic is named by its id, or by its name if the id is zero.
type Leaders interface {
	LeaderOf(topic string, id replication.TopicID, partition int32) replication.Leader
}

// Options configure a Service.
type Options struct {
	Partitions Partitions
	// Leaders tells whom to send a client to that asked the wrong node; nil: only what the replica here knows.
	Leaders Leaders
	// Transactions is the coordinators of transactional ids; nil: transactional batches are refused.
	Transactions Transactions
	// Now is the clock of LogAppendTime and of the timestamp bounds; nil means time.Now.
	Now func() time.Time
	// MaxDecompressed bounds what the records of one batch may decompress to, whatever the topic allows; 0 means
	// DefaultMaxDecompressed.
	MaxDecompressed int64
	// Turns are those of the node's heavy work; nil: batches that unpack to much wait for nobody.
	Turns *turns.Turns
}

// DefaultMaxDecompressed is 1 GiB: a batch of the largest frame (100 MiB) of well-compressed text is below it.
const DefaultMaxDecompressed = 1 << 30

// Bounds of how long a request may wait for its appends.
const (
	// leastWait replaces a timeout of zero or less. Kafka's acks=1 answers when the leader has appended, whatever the
	// timeout says; here even that append includes an fsync, so "no waiting at all" would fail every request.
	leastWait = time.Second
	// mostWait is a day: more than any client waits, and far from overflowing a timer.
	mostWait = 24 * time.Hour
	// turnWait is how long the batches of a request that unpack to much wait for their turns, if the request may wait longer: who sends
	// many and hangs up must not keep a connection, memory and a right that has been withdrawn since.
	turnWait = 10 * time.Second
)

// Service answers Produce. It may be used by any number of goroutines.
type Service struct {
	partitions      Partitions
	leaders         Leaders
	transactions    Transactions
	now             func() time.Time
	maxDecompressed int64
	turns           *turns.Turns
	timers          sync.Pool // kept because each request needs one and hardly any ever fires
}

// New returns a Service.
func New(o Options) *Service {
	s := &Service{partitions: o.Partitions, leaders: o.Leaders, transactions: o.Transactions, now: o.Now, maxDecompressed: o.MaxDecompressed, turns: o.Turns}
	s.timers.New = func() any { return time.NewTimer(time.Hour) }
	if s.now == nil {
		s.now = time.Now
	}
	if s.maxDecompressed <= 0 {
		s.maxDecompressed = DefaultMaxDecompressed
	}
	return s
}

// Acks says what the producer waits for. Every value but AcksNone waits for the majority: acks=1 is answered as acks=all.
type Acks int16

// The values that Kafka knows.
const (
	AcksAll    Acks = -1
	AcksNone   Acks = 0
	AcksLeader Acks = 1
)

// Request is what one Produce request says of all its batches.
type Request struct {
	Caller  broker.Caller
	Acks    Acks
	Timeout time.Duration
	// ZstdAllowed is false for requests of a version whose clients can't know of zstd (KIP-110).
	ZstdAllowed bool
	// TransactionalID is the transactional id that the request names; nil for none.
	TransactionalID *string
	// Protocol is how its transactional batches are made part of their transaction (KIP-890).
	Protocol Protocol
	// FrameSize is the size of the buffer that all Records alias; see ownFrame.
	FrameSize int
	// Batches is how many batches will be added; a hint.
	Batches int
}

// Batch is one partition's part of a request.
type Batch struct {
	Topic     string
	TopicID   replication.TopicID
	ByID      bool // TopicID names the topic, not Topic (KIP-516)
	Partition int32
	// Records must hold exactly one RecordBatch of magic 2. The service owns it from now on and changes it in place.
	Records []byte
	// Refused is why the batch is not accepted, whatever it is; nil: it is looked at. The caller may not write there.
	Refused error
}

// Outcome is the answer for one batch.
type Outcome struct {
	// Err is nil when the batch is committed, now or (a duplicate) before.
	Err error
	// Base is the offset of the batch's first record, -1 on an error.
	Base batch.Offset
	// LogStart is the partition's log start offset, -1 when not known.
	LogStart batch.Offset
	// AppendTime is the time in Unix milliseconds that the records got in a topic of LogAppendTime, else -1.
	AppendTime int64
	// Leader says who leads instead, when Err is replication.ErrNotLeader and somebody is known to; else Node is NoNode.
	Leader replication.Leader
}

func failed(err error) Outcome {
	return Outcome{Err: err, Base: -1, LogStart: -1, AppendTime: -1, Leader: replication.NoLeader}
}

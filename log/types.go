package log

import (
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/log/batch"
)

// Offset is a Kafka offset.
type Offset = batch.Offset

// Epoch is a leader epoch: the Raft term under which an entry was stored.
type Epoch = batch.Epoch

// Index is a Raft index. The first entry of a partition has index 1.
type Index uint64

// Position is a byte position in a segment's .log file.
type Position int64

// Kind tells what a frame is to Raft and to the partition. Only KindBatch has records.
type Kind uint8

// The kinds. Their values are part of the file format: they are never renumbered.
const (
	KindBatch         Kind = iota // a client's batch or a control batch
	KindNoop                      // Raft's first entry of a term
	KindConfiguration             // a Raft configuration
	KindBarrier                   // Raft's barrier
	KindEpoch                     // the leader of this term serves from here on
	KindLogStart                  // the log start offset moves
	KindRefused                   // a batch that was refused when it was to be stored
	KindGap                       // a run of entries that compaction removed
	kindCount
)

var kindNames = [kindCount]string{"batch", "noop", "configuration", "barrier", "epoch", "logstart", "refused", "gap"}

// String names the kind as Dump prints it.
func (k Kind) String() string {
	if k < kindCount {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Entry is one Raft entry: one frame of the log.
type Entry struct {
	Index Index
	Term  Epoch
	Kind  Kind
	Frame []byte // the whole frame; immutable once appended. Empty for the boundary.
}

// Offsets are the watermarks of a partition: LogStart <= LastStable <= HighWatermark <= LogEnd.
type Offsets struct {
	LogStart      Offset // the first offset that may be read
	LastStable    Offset // the first offset of the oldest open transaction, else HighWatermark
	HighWatermark Offset // one past the last applied record
	LogEnd        Offset // one past the last stored record
}

// AbortedTxn is an aborted transaction: its producer, the first offset of its data and the offset of its marker.
type AbortedTxn struct {
	ProducerID  int64
	FirstOffset Offset
	LastOffset  Offset
}

// EpochStart tells where an epoch begins: its first Raft index and the log end offset before that entry.
type EpochStart struct {
	Epoch  Epoch
	Index  Index
	Offset Offset
}

// Errors. ErrNotFound is compared with ==; all others are wrapped, so use errors.Is.
var (
	// ErrNotFound: the log holds no entry of this index. It is never wrapped, because Raft compares it.
	ErrNotFound = errors.New("log: no such entry")
	// ErrCorrupt: stored bytes fail a check where no torn write can explain it. Nothing was changed on disk.
	ErrCorrupt = errors.New("log: corrupt")
	// ErrDataLoss: the log ends below what its own checkpoint says was durable.
	ErrDataLoss = errors.New("log: data lost")
	// ErrFormat: a file has an unknown magic or format version. The error names the file and the version.
	ErrFormat = errors.New("log: unknown file format")
	// ErrFailed: a write, fsync, truncate or rename failed before. The process must end; nothing is retried.
	ErrFailed = errors.New("log: failed")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("log: closed")
	// ErrGap: an entry does not continue the log: its index, offset or term is not what must come next.
	ErrGap = errors.New("log: entry does not continue the log")
	// ErrFrame: an entry's frame is malformed.
	ErrFrame = errors.New("log: malformed frame")
	// ErrCommitted: a truncation would remove a committed entry.
	ErrCommitted = errors.New("log: would truncate a committed entry")
	// ErrBoundary: a reset to this state is not possible.
	ErrBoundary = errors.New("log: impossible boundary")
	// ErrOffsetOutOfRange: the offset is below the log start or above the log end.
	ErrOffsetOutOfRange = errors.New("log: offset out of range")
)

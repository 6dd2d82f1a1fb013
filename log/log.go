package log

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/log/vfs"
)

// Defaults of Options; Kafka's where Kafka has the setting.
const (
	DefaultSegmentBytes      = 1 << 30
	DefaultSegmentIndexBytes = 10 << 20
	DefaultSegmentAge        = 7 * 24 * time.Hour
	// DefaultCheckpointBytes is how much is written between checkpoints, and so about what an unclean restart reads again.
	DefaultCheckpointBytes = 64 << 20
	// DefaultCheckpointEntries is the same for small entries: what each of them costs a restart is a few microseconds, however
	// little it holds.
	DefaultCheckpointEntries = 64 << 10
	// DefaultTailBytes is what one log's in-memory tail may pin: several StoreLogs of 256 batches.
	DefaultTailBytes = 32 << 20
	// DefaultProducerExpiry is producer.id.expiration.ms.
	DefaultProducerExpiry = 24 * time.Hour

	// mostPosition is the last that a slot's 32 bits hold.
	mostPosition = 1<<32 - 1
	// maxSegmentBytes keeps positions below it, with room for one more write.
	maxSegmentBytes = 2 << 30
	// maxWriteBytes is how much one WriteVec takes; a larger Append becomes several writes.
	maxWriteBytes = 1 << 30
	// maxSegmentSpan is the offset span after which a segment is rolled: relative offsets have 32 bits, and one Append adds
	// less than half of that.
	maxSegmentSpan = 1<<31 - 1
)

// SegmentLimits decide when the active segment is full. They are topic settings and may change at any time.
type SegmentLimits struct {
	SegmentBytes      int64         // segment.bytes
	SegmentIndexBytes int64         // segment.index.bytes
	SegmentAge        time.Duration // segment.ms, counted from the segment's first append
}

func (s SegmentLimits) withDefaults() SegmentLimits {
	if s.SegmentBytes <= 0 {
		s.SegmentBytes = DefaultSegmentBytes
	}
	s.SegmentBytes = min(s.SegmentBytes, maxSegmentBytes)
	if s.SegmentIndexBytes <= 0 {
		s.SegmentIndexBytes = DefaultSegmentIndexBytes
	}
	s.SegmentIndexBytes = min(s.SegmentIndexBytes, maxIndexBytes)
	if s.SegmentAge <= 0 {
		s.SegmentAge = DefaultSegmentAge
	}
	return s
}

// Options say where a log lies and how it behaves. Zero values mean the defaults.
type Options struct {
	FS  vfs.FS
	Dir string // created if missing
	Now func() time.Time

	SegmentBytes, SegmentIndexBytes int64
	SegmentAge                      time.Duration

	CheckpointBytes   int64 // between checkpoints
	CheckpointEntries int64
	TailBytes         int64       // what this log's tail may pin
	Tail              *TailBudget // what all tails of the node may pin; nil: a budget of its own
	ProducerExpiry    time.Duration
	Logger            *slog.Logger

	mapSlots int // for tests: see defaultMapSlots
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CheckpointBytes <= 0 {
		o.CheckpointBytes = DefaultCheckpointBytes
	}
	if o.CheckpointEntries <= 0 {
		o.CheckpointEntries = DefaultCheckpointEntries
	}
	if o.TailBytes <= 0 {
		o.TailBytes = DefaultTailBytes
	}
	if o.Tail == nil {
		o.Tail = NewTailBudget(o.TailBytes)
	}
	if o.ProducerExpiry == 0 {
		o.ProducerExpiry = DefaultProducerExpiry
	}
	if o.mapSlots <= 0 {
		o.mapSlots = defaultMapSlots
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o *Options) limits() SegmentLimits {
	return SegmentLimits{SegmentBytes: o.SegmentBytes, SegmentIndexBytes: o.SegmentIndexBytes, SegmentAge: o.SegmentAge}.withDefaults()
}

// Log is one partition's log. See the package documentation for who may call what.
type Log struct {
	o        Options
	tail     tail
	stats    counters
	failure  atomic.Pointer[error]
	cuts     atomic.Uint64 // truncations begun
	cutting  atomic.Bool   // one is under way
	openTxns openTxns      // guarded by applied

	// w is the writer's side, held over I/O.
	w struct {
		sync.Mutex
		index      vfs.File // the active segment's .index
		slots      slots    // the active segment's; published as mu.active
		created    int64    // ms, when the active segment's index was made
		firstWrite int64    // ms, when its first frame was appended; 0 while it is empty
		checkpoint checkpointPlace
		unsaved    volume // behind the newest checkpoint
		closed     bool
		append     appendScratch
	}

	applied sync.Mutex // orders Apply against Checkpoint; guards openTxns

	// mu is what readers see. The writer and Apply change it; both may read their own parts without it.
	mu struct {
		sync.RWMutex
		limits   SegmentLimits
		segments []*segment // ascending, never empty, copied on change; the last one is active
		active   table      // slots of the active segment
		end      Position   // its length
		maxTS    int64      // its largest timestamp
		next     chain      // log end offset, next index, last term
		facts    facts

		boundary  EpochStart // index and term before the first entry, offset of the first segment
		applied   Index
		offsets   appliedOffsets
		committed Index // of the newest durable checkpoint
	}

	scrub scrubCursor
}

// appliedOffsets is the applied view's part of Offsets: start <= stable <= high <= mu.next.offset.
type appliedOffsets struct {
	start, stable, high Offset
}

// fail poisons the log with the first error of a change and returns what the caller gets.
func (l *Log) fail(op string, err error) error {
	err = fmt.Errorf("%w: %s: %w", ErrFailed, op, err)
	if l.failure.CompareAndSwap(nil, &err) {
		l.o.Logger.Error("log failed", "dir", l.o.Dir, "op", op, "error", err)
	}
	return *l.failure.Load()
}

// Err returns the error that poisoned the log, nil while it is sound. Apply has no result: look here after it.
func (l *Log) Err() error {
	if err := l.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// writableLocked reports why the log cannot be changed. w is held.
func (l *Log) writableLocked() error {
	if err := l.Err(); err != nil {
		return err
	}
	if l.w.closed {
		return ErrClosed
	}
	return nil
}

func (l *Log) nowMs() int64 { return l.o.Now().UnixMilli() }

func (l *Log) expiry() int64 { return expiryLimit(l.o.Now(), l.o.ProducerExpiry) }

// SetLimits changes when the active segment is rolled, from the next Append on.
func (l *Log) SetLimits(s SegmentLimits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.limits = s.withDefaults()
}

func (l *Log) limits() SegmentLimits {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.limits
}

// FirstIndex returns the index of the first stored entry, 0 while the log holds none.
func (l *Log) FirstIndex() Index {
	l.mu.RLock()
	defer l.mu.RUnlock()
	first := l.mu.boundary.Index + 1
	if first == l.mu.next.index {
		return 0
	}
	return first
}

// LastIndex returns the index of the last stored entry; of the boundary while the log holds none.
func (l *Log) LastIndex() Index {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.next.index - 1
}

// Term returns the term of a stored entry or of the boundary, from memory; ErrNotFound otherwise.
func (l *Log) Term(i Index) (Epoch, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case i == l.mu.boundary.Index && i > 0:
		return l.mu.boundary.Epoch, nil
	case i <= l.mu.boundary.Index || i >= l.mu.next.index:
		return 0, ErrNotFound
	}
	return l.mu.facts.epochs.at(i), nil
}

// Boundary returns index and term of the last entry before the first stored one; 0, 0 where the log begins at index 1.
func (l *Log) Boundary() (Index, Epoch) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.boundary.Index, l.mu.boundary.Epoch
}

// Offsets returns all watermarks as of one moment.
func (l *Log) Offsets() Offsets {
	l.mu.RLock()
	defer l.mu.RUnlock()
	a := l.mu.offsets
	return Offsets{LogStart: a.start, LastStable: a.stable, HighWatermark: a.high, LogEnd: l.mu.next.offset}
}

// AppliedIndex returns the index of the last applied entry.
func (l *Log) AppliedIndex() Index {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.applied
}

// volume is how much of a log lies somewhere.
type volume struct{ bytes, entries int64 }

// CheckpointedCommit returns the commit index of the newest durable checkpoint: a restart applies what follows it.
func (l *Log) CheckpointedCommit() Index {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.committed
}

// LastProducer returns what the log's end knows of a producer id.
func (l *Log) LastProducer(id int64) (ProducerState, bool) {
	before := l.expiry()
	l.mu.RLock()
	defer l.mu.RUnlock()
	if p, ok := l.mu.facts.producers[id]; ok && !p.expired(before) {
		return *p, true
	}
	return ProducerState{}, false
}

// Producers returns all producers known at the log's end, in no particular order.
func (l *Log) Producers() []ProducerState {
	before := l.expiry()
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := make([]ProducerState, 0, len(l.mu.facts.producers))
	for _, p := range l.mu.facts.producers {
		if !p.expired(before) {
			all = append(all, *p)
		}
	}
	return all
}

// EndOffsetForEpoch answers OffsetForLeaderEpoch (KIP-101, KIP-279): the largest known epoch at or below e and the offset
// where it ends. An epoch newer than all known ones is -1, -1.
func (l *Log) EndOffsetForEpoch(e Epoch) (Epoch, Offset) {
	l.mu.RLock()
	epochs, end := l.mu.facts.epochs, l.mu.next.offset
	l.mu.RUnlock()
	return epochs.end(e, end)
}

// EpochOf returns the epoch of the record at an offset, or that the next record would have; -1 where it is not known.
func (l *Log) EpochOf(o Offset) Epoch {
	l.mu.RLock()
	epochs := l.mu.facts.epochs
	l.mu.RUnlock()
	return epochs.atOffset(o)
}

// Configuration returns the newest stored Raft configuration and its index; nil, 0 where there is none.
func (l *Log) Configuration() ([]byte, Index) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.facts.config, l.mu.facts.configIndex
}

// Size returns the bytes of all .log files.
func (l *Log) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	size := int64(l.mu.end)
	for _, s := range l.mu.segments[:max(len(l.mu.segments), 1)-1] {
		size += s.size.Load()
	}
	return size
}

// BytesAfter returns how many bytes of the .log files lie behind an entry; all of them, if it lies before the first.
func (l *Log) BytesAfter(i Index) (int64, error) {
	return again(l, func() (int64, error) {
		p, after, err := partAndAfter(l, i)
		if err != nil || p.seg == nil {
			return after, err
		}
		defer p.release()
		if err := p.load(); err != nil {
			return 0, err
		}
		after += int64(p.end)
		if slot := p.table.findIndex(uint32(i - p.seg.first)); slot >= 0 {
			after -= int64(p.table.at(slot).end())
		}
		return after, nil
	})
}

// partAndAfter returns the part that holds an index, none where it lies before the first, and the bytes of the segments behind.
func partAndAfter(l *Log, i Index) (p part, after int64, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	k, last := segmentOfIndex(l.mu.segments, i), len(l.mu.segments)-1
	if last < 0 {
		return part{}, 0, ErrClosed
	}
	for _, s := range l.mu.segments[k+1:] {
		if s == l.mu.segments[last] {
			after += int64(l.mu.end)
		} else {
			after += s.size.Load()
		}
	}
	if k >= 0 {
		p = l.partLocked(k)
	}
	return p, after, nil
}

// Close writes a checkpoint, so that the next Open reads nothing again, and closes the files. Ranges still out keep theirs
// until they are released. A poisoned log is closed without a checkpoint, and its failure is returned.
func (l *Log) Close() error {
	l.w.Lock()
	defer l.w.Unlock()
	if l.w.closed {
		return nil
	}
	err := l.Err()
	if err == nil {
		err = l.checkpointLocked()
	}
	l.closeFilesLocked()
	return err
}

func (l *Log) isClosed() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.mu.segments) == 0
}

// closeFilesLocked gives all files back and refuses every later change. w is held.
func (l *Log) closeFilesLocked() {
	l.w.closed = true
	l.tail.drop()
	if l.w.index != nil {
		l.w.index.Close()
		l.w.index = nil
	}
	l.mu.Lock()
	segments := l.mu.segments
	l.mu.segments, l.mu.active = nil, table{}
	l.mu.Unlock()
	l.w.slots.mapped.release()
	l.w.slots = slots{}
	for _, s := range segments {
		s.release()
	}
}

package log

import (
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

// Compaction keeps the newest record of each key. It is done pass by pass over the front of the log, as Kafka's log cleaner
// does it:
//
//  1. read the dirty segments and note the newest offset of each key, until the map is full
//  2. write all segments from the log's first on anew, up to there, small ones together, without the records whose key has a
//     newer one (rewrite.go), and swap each for its successor (swap.go)
//
// Segments are swapped oldest first. So a pass that is cut short leaves clean segments clean, and the next begins where this
// one did, or later.
//
// What goes and what stays:
//
//   - a record stays if no newer one of its key is known. Aborted transactions' data goes. A record without key goes: it can
//     only be there from before the topic was compacted.
//   - a tombstone stays until the delete horizon of its batch, which the first pass that keeps it sets to the time plus
//     delete.retention.ms (KIP-534), and until every replica has it. Each replica sets a horizon of its own; whoever is sent
//     the batch afterwards takes the leader's.
//   - a marker stays while any batch of its transaction does, then as a tombstone does. It also stays where the
//     .state of its segment says that the transaction is open: that may become the beginning of a log.
//   - the producers' newest batches, as the state behind the cleaned part lists them, stay as headers without records; and
//     the marker of a producer's newest epoch, where it has no batch in it. A producer that is forgotten keeps nothing.
//   - the last batch of the cleaned part stays as a header, so that a consumer who reads to the end gets there.
//   - Raft's configurations, the newest log start and the newest epoch's entry stay.
//   - what else goes, goes into gap frames (gap.go).

// CleanOptions say how to clean. The first two are settings of the topic.
type CleanOptions struct {
	MinLag          time.Duration // min.compaction.lag.ms: younger records stay as they are
	DeleteRetention time.Duration // delete.retention.ms: how long tombstones and markers stay
	MapBytes        int64         // memory for the map of keys (log.cleaner.dedupe.buffer.size)
	// Everywhere is the last entry that every replica is known to hold. A tombstone or marker above it stays: a replica that
	// still has what it ends, and were sent a gap in its place, would keep that for ever.
	Everywhere Index
	// Pace is called with bytes that are about to be read or written. It may wait; its error ends the pass, and is returned.
	Pace func(bytes int) error
}

// CleanResult tells what a pass did.
type CleanResult struct {
	Segments int   // that were replaced
	Before   int64 // their bytes
	After    int64 // their successors' bytes
	Read     int64 // bytes, of both steps
	Written  int64
	Records  int64 // seen while writing
	Kept     int64 // of those
	Keys     int   // noted in the map
	CleanTo  Offset
	MapFull  bool // another pass has more to do
}

// ErrCleaning: the log is being cleaned already.
var ErrCleaning = errors.New("log: is being cleaned")

// errOutdated ends a pass whose segments were dropped or reset under it.
var errOutdated = errors.New("log: the segments have changed")

// Cleaner compacts one log. There is one Cleaner for a log; it may be used by any number of goroutines.
type Cleaner struct {
	log  *Log
	busy sync.Mutex // held over a pass and its I/O
}

// NewCleaner makes the cleaner of a log.
func NewCleaner(l *Log) *Cleaner { return &Cleaner{log: l} }

// Close waits for the pass that is under way, and lets none begin. Pace is what ends a pass early.
func (k *Cleaner) Close() { k.busy.Lock() }

// Clean does one pass of compaction. It may run beside everything else; appends wait for it only while segments are swapped.
// A failed write, fsync or rename poisons the log as it does elsewhere, but for a disk that is full while a successor is
// written: then that is removed, and the error returned.
func (k *Cleaner) Clean(o CleanOptions) (CleanResult, error) {
	if !k.busy.TryLock() {
		return CleanResult{}, ErrCleaning
	}
	defer k.busy.Unlock()
	l := k.log
	// From here on no checkpoint lies in a sealed segment that is committed.
	if err := l.Checkpoint(0); err != nil {
		return CleanResult{}, err
	}
	return again(l, func() (CleanResult, error) {
		c := cleaning{Cleaner: k, o: o, now: l.nowMs()}
		defer func() { releaseParts(c.parts) }()
		err := c.run()
		if errors.Is(err, errOutdated) {
			err = nil
		}
		return c.result, err
	})
}

// cleaning is one pass.
type cleaning struct {
	*Cleaner
	o      CleanOptions
	now    int64
	parts  []part // what is cleaned, oldest first
	dirty  int    // the first of them that is dirty
	result CleanResult

	keys   *keyMap
	from   Offset // the map holds the records from here
	latest Offset // to here; what follows stays as it is

	end       segmentEnd // behind the parts
	state     State      // there
	logStart  Offset
	producers map[int64]*ProducerState // of state, those that are not forgotten
	aborted   map[int64][]AbortedTxn   // by producer, in the order of their offsets
}

func (c *cleaning) run() (err error) {
	c.parts, c.dirty, err = c.cleanable(c.log.o.Now(), c.o.MinLag, c.log.CheckpointedCommit())
	if err != nil || c.dirty == len(c.parts) {
		return err
	}
	for i := range c.parts {
		if err := c.parts[i].load(); err != nil {
			return err
		}
	}
	if err := c.learn(); err != nil {
		return err
	}
	if err := c.fill(); err != nil {
		return err
	}
	if err := c.learnEnd(); err != nil {
		return err
	}
	for groups := c.groups(); len(groups) > 0; groups = groups[1:] {
		if err := c.rewrite(groups[0]); err != nil {
			return err
		}
	}
	c.result.CleanTo = c.latest
	return nil
}

// learn finds the aborted transactions.
func (c *cleaning) learn() error {
	c.logStart = c.log.Offsets().LogStart
	c.end = c.parts[len(c.parts)-1].next
	aborted, err := c.log.Aborted(c.parts[0].seg.base, c.end.offset)
	if err != nil {
		return err
	}
	c.aborted = make(map[int64][]AbortedTxn)
	for _, a := range aborted {
		c.aborted[a.ProducerID] = append(c.aborted[a.ProducerID], a)
	}
	return nil
}

// isAborted tells whether a transactional batch belongs to an aborted transaction. All transactions with data in the parts
// are decided.
func (c *cleaning) isAborted(h *batch.Header) bool {
	if !h.IsTransactional() || h.IsControl() {
		return false
	}
	of := c.aborted[h.ProducerID]
	i := sort.Search(len(of), func(i int) bool { return of[i].LastOffset > h.BaseOffset })
	return i < len(of) && of[i].FirstOffset <= h.BaseOffset
}

// fill reads the dirty parts into the map, and takes those off the end that found no room.
func (c *cleaning) fill() error {
	first := &c.parts[c.dirty]
	ft, err := first.seg.sealedFooter(first.next)
	if err != nil {
		return err
	}
	c.from, c.latest = max(first.seg.base, ft.cleanTo), c.end.offset
	c.keys = newKeyMap(c.o.MapBytes, int64(c.end.offset-c.from))
	full := errors.New("the map is full")
	for i := c.dirty; i < len(c.parts); i++ {
		err := c.scan(&c.parts[i], func(sc *scanner) error {
			if sc.p.kind != KindBatch || sc.p.IsControl() || sc.p.NextOffset() <= c.from || c.isAborted(&sc.p.Header) {
				return nil
			}
			return batch.ScanKeys(sc.frame, func(r *batch.Glance) error {
				if r.HasKey && r.Offset >= c.from && !c.keys.put(idOf(r), r.Offset) {
					c.latest = r.Offset
					return full
				}
				return nil
			})
		})
		if err == full {
			releaseParts(c.parts[i+1:])
			c.parts, c.result.MapFull = c.parts[:i+1], true
			c.end = c.parts[i].next
			break
		}
		if err != nil {
			return err
		}
	}
	c.result.Keys = c.keys.n
	return nil
}

// learnEnd reads what is true behind the parts.
func (c *cleaning) learnEnd() error {
	next, err := c.log.partOfIndex(c.end.index)
	if errors.Is(err, ErrNotFound) {
		// The active segment is empty: nothing is stored behind the parts.
		next, err = c.lastPart()
	}
	if err != nil {
		return err
	}
	defer next.release()
	if next.seg.first != c.end.index {
		return errOutdated
	}
	if c.state, err = readState(c.log.o.FS, next.seg); err != nil {
		return err
	}
	c.producers = make(map[int64]*ProducerState)
	for i := range c.state.Producers {
		p := &c.state.Producers[i]
		if _, known := c.log.LastProducer(p.ID); known {
			c.producers[p.ID] = p
		}
	}
	return nil
}

// lastPart returns the active segment.
func (c *cleaning) lastPart() (part, error) {
	l := c.log
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.mu.segments) == 0 {
		return part{}, ErrClosed
	}
	return l.partLocked(len(l.mu.segments) - 1), nil
}

// scan calls fn for all frames of a part. What stays of them gets a new slot, so their heads are held against the old one first:
// base offset and leader epoch lie outside of the batch CRC, and a new slot would prove damage to be sound.
func (c *cleaning) scan(p *part, fn func(*scanner) error) error {
	file, err := p.seg.log()
	if err != nil {
		return err
	}
	sc := newScanner(file, p.seg, 0, p.end, p.seg.beginning(0))
	read := int64(0)
	for i := 0; sc.next(); i++ {
		if i >= p.table.n || checksum(sc.frame[:headSize]) != p.table.at(i).headCRC {
			return fmt.Errorf("%w: segment %s: frame head at position %d", ErrCorrupt, p.seg.name(), sc.at.pos)
		}
		if sc.bytes > read {
			if err := c.pace(sc.bytes - read); err != nil {
				return err
			}
			c.result.Read += sc.bytes - read
			read = sc.bytes
		}
		if err := fn(sc); errors.Is(err, batch.ErrInvalid) {
			return p.damaged(&sc.p, err)
		} else if err != nil {
			return err
		}
	}
	if sc.err != nil {
		return fmt.Errorf("segment %s: %w", p.seg.name(), sc.err)
	}
	return nil
}

func (c *cleaning) pace(bytes int64) error {
	if c.log.isClosed() {
		return ErrClosed
	}
	if c.o.Pace == nil {
		return nil
	}
	return c.o.Pace(int(bytes))
}

// groups divides the parts into those that become one segment each: as many as fit the limits of a segment.
func (c *cleaning) groups() (groups [][]part) {
	lim := c.log.limits()
	for rest := c.parts; len(rest) > 0; {
		n, bytes, slots := 1, int64(rest[0].end), int64(rest[0].table.n)
		for n < len(rest) {
			p := &rest[n]
			bytes, slots = bytes+int64(p.end), slots+int64(p.table.n)
			first := rest[0].seg
			if bytes > lim.SegmentBytes || indexHeadSize+slots*slotSize > lim.SegmentIndexBytes ||
				int64(p.next.offset-first.base) > maxSegmentSpan || int64(p.next.index-first.first) > maxSegmentSpan {
				break
			}
			n++
		}
		groups = append(groups, rest[:n])
		rest = rest[n:]
	}
	return groups
}

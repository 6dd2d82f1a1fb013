package log

import (
	"fmt"
	"slices"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log/batch"
)

// Steps of an append. Commit point: the fsync of .log.
//
//  1. check and stamp every frame against the log's end; nothing is written if one does not fit
//  2. roll if the active segment is full (roll.go)
//  3. WriteVec of all frames behind the active .log
//  4. Sync of .log
//  5. write the slots behind the .index, unsynced: from here on they are evidence that the frames were durable
//  6. publish
//
// Recovery: whole frames that continue the chain are kept, whether or not the append was acknowledged; what follows the
// last of them and has no evidence is a torn write and is cut.

// appendScratch is what Append needs and keeps between calls, so that it allocates nothing per call.
type appendScratch struct {
	frames [][]byte
	runs   [][]byte
	parsed []parsed
	stage  stage
}

// Append stores entries that continue the log and returns once they are durable: Raft's StoreLogs. A frame whose base
// offset is batch.Unstamped or UnstampedAnew is stamped in place with offset and term; a stamped one must carry exactly what it would be
// given. A new batch is refused when it was checked in another term than it is stored in, or when its producer's sequence
// does not fit the log's end: then its entry is replaced in the slice by a KindRefused one, which the caller sees.
//
// Frames must not change from here on: the in-memory tail goes on using them. ErrGap and ErrFrame leave the log as it was;
// ErrFailed means that the process must end.
func (l *Log) Append(entries []Entry) error {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writableLocked(); err != nil {
		return err
	}
	for len(entries) > 0 {
		n := writeLength(entries)
		if err := l.appendLocked(entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	if l.w.unsaved.bytes >= l.o.CheckpointBytes || l.w.unsaved.entries >= l.o.CheckpointEntries {
		return l.checkpointLocked()
	}
	return nil
}

// writeLength is how many entries go into one write: all of them, but for absurdly large calls.
func writeLength(entries []Entry) int {
	var bytes int64
	for i := range entries {
		if bytes += int64(len(entries[i].Frame)); bytes > maxWriteBytes && i > 0 {
			return i
		}
	}
	return len(entries)
}

func (l *Log) appendLocked(entries []Entry) error {
	next, facts, err := l.stageLocked(entries)
	if err != nil {
		return err
	}
	var bytes int64
	frames := l.w.append.frames[:0]
	for i := range entries {
		frames = append(frames, entries[i].Frame)
		bytes += int64(len(entries[i].Frame))
	}
	l.w.append.frames = frames
	if err := l.rollBeforeLocked(bytes, len(entries)); err != nil {
		return err
	}
	maxTS, err := l.writeLocked(frames)
	if err != nil {
		return err
	}
	l.publishLocked(next, facts, maxTS, bytes)
	l.tail.push(entries)
	clear(frames)
	l.w.unsaved.bytes += bytes
	l.w.unsaved.entries += int64(len(entries))
	l.stats.appends.Add(1)
	l.stats.entries.Add(int64(len(entries)))
	l.stats.bytes.Add(bytes)
	return nil
}

// stageLocked checks, refuses and stamps. It leaves the parsed frames and the producers' new states in the scratch and
// returns the log's end behind the entries and the append view but for producers.
func (l *Log) stageLocked(entries []Entry) (chain, facts, error) {
	sc := &l.w.append
	sc.parsed = sc.parsed[:0]
	next, f := l.mu.next, l.mu.facts
	sc.stage.begin(f.producers, l.expiry())
	now := l.nowMs()
	for i := range entries {
		p, err := l.stageEntryLocked(&entries[i], next)
		at := chainPoint{offset: max(next.offset, p.BaseOffset), index: next.index}
		if err == nil {
			err = next.step(&p)
		}
		if err == nil {
			err = f.absorb(&p, at, &sc.stage, now)
		}
		if err != nil {
			return chain{}, facts{}, err
		}
		sc.parsed = append(sc.parsed, p)
	}
	return next, f, nil
}

// stageEntryLocked checks one entry against the log's end and stamps it if it is new.
func (l *Log) stageEntryLocked(e *Entry, next chain) (parsed, error) {
	if e.Index != next.index {
		return parsed{}, fmt.Errorf("%w: index %d where %d must come", ErrGap, e.Index, next.index)
	}
	if e.Term < next.term || e.Term < 0 {
		return parsed{}, fmt.Errorf("%w: index %d has term %d after term %d", ErrGap, e.Index, e.Term, next.term)
	}
	p, err := parseFrame(e.Frame)
	if err != nil {
		return parsed{}, fmt.Errorf("index %d: %w", e.Index, err)
	}
	if p.indexes != 1 {
		return parsed{}, fmt.Errorf("%w: index %d: a gap of %d entries is not an entry", ErrFrame, e.Index, p.indexes)
	}
	if p.BaseOffset != batch.Unstamped && p.BaseOffset != batch.UnstampedAnew {
		if err := checkStamped(e, &p, next); err != nil || p.kind != KindGap {
			return p, err
		}
		return clipGap(e, &p, next), nil
	}
	if p.kind == KindBatch {
		if r, refused := l.refuseLocked(e, &p); refused {
			e.Frame = InternalFrame(KindRefused, EncodeRefused(r))
			l.stats.refused.Add(1)
			if p, err = parseFrame(e.Frame); err != nil {
				return parsed{}, err
			}
		}
	}
	if mutation.On(mutation.OffsetsReused) && p.kind == KindBatch && e.Index%128 == 0 && next.offset > 0 {
		next.offset--
	}
	batch.Stamp(e.Frame, next.offset, e.Term)
	p.BaseOffset, p.LeaderEpoch = next.offset, e.Term
	e.Kind = p.kind
	return p, nil
}

// checkStamped checks a frame that a leader stamped: it must be what we would have made of it, byte for byte.
func checkStamped(e *Entry, p *parsed, next chain) error {
	if p.LeaderEpoch != e.Term {
		return fmt.Errorf("%w: index %d of term %d carries epoch %d", ErrGap, e.Index, e.Term, p.LeaderEpoch)
	}
	if !next.takes(p) && !mutation.On(mutation.OffsetsReused) {
		return fmt.Errorf("%w: index %d carries offset %d where %d must come", ErrGap, e.Index, p.BaseOffset, next.offset)
	}
	// It came over the network. The leader checked it when it was produced; from here on it would count as durable.
	if err := batch.CheckCRC(e.Frame); err != nil {
		return fmt.Errorf("%w: index %d: %w", ErrFrame, e.Index, err)
	}
	e.Kind = p.kind
	return nil
}

// refuseLocked decides whether a new batch may still be stored. The broker checked before it handed the batch to Raft, but
// Raft may have dropped an earlier one since (a leadership transfer), or store this one in a later term.
func (l *Log) refuseLocked(e *Entry, p *parsed) (Refusal, bool) {
	if p.LeaderEpoch != e.Term {
		return Refusal{Reason: RefusedTerm}, true
	}
	if p.ProducerID < 0 || mutation.On(mutation.NoDedup) {
		return Refusal{}, false
	}
	st, known := l.w.append.stage.lookup(p.ProducerID)
	if p.IsControl() && p.coordinator < st.CoordinatorEpoch {
		return Refusal{Reason: RefusedCoordinator}, true
	}
	v := st.check(known, &p.Header)
	switch v.Verdict {
	case SequenceOK:
		return Refusal{}, false
	case SequenceDuplicate:
		return Refusal{Reason: RefusedDuplicate, Base: v.Base, Last: v.Last, Timestamp: v.Timestamp}, true
	case SequenceStaleEpoch:
		return Refusal{Reason: RefusedProducerEpoch}, true
	case SequenceUnknown:
		return Refusal{Reason: RefusedUnknownProducer}, p.BaseOffset != batch.UnstampedAnew
	case SequenceInTransaction:
		return Refusal{Reason: RefusedInTransaction}, true
	}
	return Refusal{Reason: RefusedSequence}, true
}

// writeLocked makes the staged frames durable and writes their slots.
func (l *Log) writeLocked(frames [][]byte) (maxTS int64, err error) {
	seg := l.activeLocked()
	file, err := seg.log()
	if err != nil {
		return 0, l.fail("open log", err)
	}
	pos := l.mu.end
	if err := file.WriteVec(frames, int64(pos)); err != nil {
		return 0, l.fail("write log", err)
	}
	if err := file.Sync(); err != nil {
		return 0, l.fail("sync log", err)
	}
	from := l.w.slots.n
	b := tableBuilder{slots: &l.w.slots, base: seg.base, first: seg.first, maxTS: l.mu.maxTS}
	at := chainPoint{pos: pos, offset: l.mu.next.offset, index: l.mu.next.index}
	for i, frame := range frames {
		p := l.w.append.parsed[i]
		at.offset = max(at.offset, p.BaseOffset)
		v := b.slot(frame, p, at)
		if i == 0 {
			v.flags |= flagFirst
		}
		l.w.slots.appendSlot(v)
		at.pos += Position(len(frame))
		at.offset, at.index = p.NextOffset(), at.index+1
	}
	l.w.append.runs = l.w.slots.runs(l.w.append.runs[:0], from, l.w.slots.n)
	if err := l.w.index.WriteVec(l.w.append.runs, indexHeadSize+int64(from)*slotSize); err != nil {
		return 0, l.fail("write index", err)
	}
	if from == 0 {
		l.w.firstWrite = l.nowMs()
	}
	return b.maxTS, nil
}

func (l *Log) publishLocked(next chain, f facts, maxTS, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.active = l.w.slots.table
	l.mu.end += Position(bytes)
	l.mu.maxTS = maxTS
	l.mu.next = next
	l.mu.facts = f
	l.w.append.stage.publish()
}

// activeLocked returns the active segment. w is held, so nobody else changes the list.
func (l *Log) activeLocked() *segment { return l.mu.segments[len(l.mu.segments)-1] }

// withSegment returns the list with one more segment; readers keep the old slice.
func withSegment(segments []*segment, s *segment) []*segment {
	return append(slices.Clip(segments), s)
}

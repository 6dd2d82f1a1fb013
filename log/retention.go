package log

import (
	"errors"
	"time"
)

// Retention moves in two steps. RetentionStart says where the log start should be; the leader makes it an entry, and every
// replica's log start moves when that is applied. DropSegments then removes the segments that lie below.

// SegmentInfo describes one segment.
type SegmentInfo struct {
	Base         Offset
	First        Index
	Next         Offset // one past the last offset
	NextIndex    Index
	Bytes        int64
	MaxTimestamp int64 // -1 where it has none, or where a damaged index hides it
	Active       bool
}

// Segments describes all segments, oldest first.
func (l *Log) Segments() []SegmentInfo {
	parts := l.parts()
	infos := make([]SegmentInfo, len(parts))
	for i := range parts {
		p := &parts[i]
		ts, err := p.largest()
		if err != nil {
			ts = noTimestamp
		}
		infos[i] = SegmentInfo{
			Base: p.seg.base, First: p.seg.first, Next: p.next.offset, NextIndex: p.next.index,
			Bytes: int64(p.end), MaxTimestamp: ts, Active: p.active,
		}
		p.release()
	}
	return infos
}

// parts returns all segments as of one moment, each with a reference to be released.
func (l *Log) parts() []part {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := make([]part, len(l.mu.segments))
	for k := range all {
		all[k] = l.partLocked(k)
	}
	return all
}

// RetentionStart tells where the log start should move: the first offset of the first segment to keep. Segments whose
// newest record is older than age go (a negative age keeps them for ever), and so do the oldest segments that the log can
// lose and still have bytes (negative: without limit). Nothing above the high watermark goes. ok is false while the log
// start may stay.
func (l *Log) RetentionStart(now time.Time, age time.Duration, bytes int64) (start Offset, ok bool) {
	o, size, limit := l.Offsets(), l.Size(), now.Add(-age).UnixMilli()
	start = o.LogStart
	parts := l.parts()
	defer func() {
		for i := range parts {
			parts[i].release()
		}
	}()
	for i := range parts {
		p := &parts[i]
		tooOld := false
		if age >= 0 {
			newest := p.newest()
			tooOld = newest >= 0 && newest < limit
		}
		tooMany := bytes >= 0 && !p.active && size-int64(p.end) >= bytes
		empty := p.next.offset == p.seg.base
		if p.next.offset > o.HighWatermark || !(tooOld || tooMany || empty) {
			break
		}
		size -= int64(p.end)
		start = max(start, p.next.offset)
	}
	return start, start > o.LogStart
}

// newest returns the time of a segment's newest record: its largest timestamp, or, for records that have none, when the
// segment was sealed. -1 where that is not known: an age that was made up would remove the segment on all replicas.
func (p *part) newest() int64 {
	if p.active {
		return p.maxTS
	}
	ft, err := p.seg.sealedFooter(p.next)
	switch {
	case err != nil:
		return noTimestamp
	case ft.maxTS >= 0:
		return ft.maxTS
	case ft.sealed == notSealed:
		return noTimestamp
	}
	return ft.sealed
}

// Steps of a drop. Commit point: the rename of the checkpoint.
//
//  1. a checkpoint whose first index is that of the first segment to keep, and whose commit index is not below the boundary
//  2. remove the older segments' files, fsync of the directory
//
// Recovery: segments below the checkpoint's first index are removed by Open.

// DropSegments removes the oldest segments that lie below the log start and whose entries are all applied, and tells how
// many. The last entry before the first one kept becomes the boundary.
func (l *Log) DropSegments() (int, error) {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writableLocked(); err != nil {
		return 0, err
	}
	n := l.droppableLocked()
	if n == 0 {
		return 0, nil
	}
	old := l.mu.segments[:n]
	state, err := readState(l.o.FS, l.mu.segments[n])
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	l.mu.segments = append([]*segment(nil), l.mu.segments[n:]...)
	l.mu.boundary = EpochStart{Epoch: state.Term, Index: state.Index, Offset: state.Offset}
	l.mu.facts.epochs = l.mu.facts.epochs.trim(state.Index)
	l.mu.Unlock()
	defer func() {
		for _, s := range old {
			s.release()
		}
	}()
	if err := l.checkpointLocked(); err != nil {
		return 0, err
	}
	var names []string
	for _, s := range old {
		s.gone.Store(true)
		names = append(names, s.name()+logSuffix, s.name()+indexSuffix, s.name()+stateSuffix, s.name()+txnSuffix)
	}
	return n, l.removeFiles(names)
}

// droppableLocked counts the segments that may go. The active one never does. A log must not begin at index 2: for a
// follower at index 1, Raft skips the boundary check and would ship the boundary as an entry.
func (l *Log) droppableLocked() int {
	applied, start := l.AppliedIndex(), l.Offsets().LogStart
	n := 0
	for k := 1; k < len(l.mu.segments); k++ {
		next := l.mu.segments[k]
		if next.base > start || next.first-1 > applied {
			break
		}
		if next.first != 2 {
			n = k
		}
	}
	return n
}

// scrubCursor is where the next Scrub goes on.
type scrubCursor struct {
	next Index
}

// ScrubResult is what one step of a scrub did.
type ScrubResult struct {
	Bytes   int64
	Wrapped bool // the end of the log was reached; the next step begins at the front
}

// Scrub reads and checks about maxBytes of stored frames, and goes on there the next time; at least one frame, at most to
// the last applied entry: what comes later may be truncated meanwhile. Damage is ErrCorrupt. One goroutine at a time.
func (l *Log) Scrub(maxBytes int64) (ScrubResult, error) {
	var r ScrubResult
	at, last := max(l.scrub.next, l.FirstIndex(), 1), l.AppliedIndex()
	for r.Bytes < maxBytes || r.Bytes == 0 {
		if at > last {
			l.scrub.next, r.Wrapped = 0, true
			return r, nil
		}
		p, err := l.partOfIndex(at)
		if errors.Is(err, ErrNotFound) {
			err = lost(l, at)
			if err == nil || errors.Is(err, errGone) {
				return r, nil // as below
			}
		}
		if err != nil {
			return r, err
		}
		n, next, err := p.scrub(at, last, maxBytes-r.Bytes)
		p.release()
		if errors.Is(err, errGone) {
			return r, nil // retention took it; the next step begins behind
		}
		r.Bytes += n
		at = next
		l.scrub.next = next
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// scrub checks frames of one segment from an index up to another and returns where to go on.
func (p *part) scrub(at, last Index, maxBytes int64) (n int64, next Index, err error) {
	if err := p.load(); err != nil {
		return 0, at, err
	}
	if at == p.seg.first {
		if _, err := readState(p.seg.fs, p.seg); err != nil {
			return 0, at, err
		}
	}
	for i := max(p.table.findIndex(uint32(at-p.seg.first)), 0); i < p.table.n; i++ {
		at = p.seg.first + Index(p.table.relIndex(i))
		if at > last || (n >= maxBytes && n > 0) {
			return n, at, nil
		}
		if err := p.verify(i); err != nil {
			return n, at, err
		}
		n += int64(p.table.at(i).size)
	}
	return n, p.next.index, nil
}

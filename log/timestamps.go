package log

import (
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/log/batch"
)

// Slots carry the largest timestamp of the segment up to and including their frame. So the first slot that reaches a time
// is the batch with the first record that does, unless that batch lies below the log start: then the time was reached by
// records that are gone, the slots say no more, and the headers behind the log start are read one by one.

// OffsetForTimestamp returns the first record at or above the log start and below `below` whose timestamp is at least ts.
func (l *Log) OffsetForTimestamp(ts int64, below Offset) (off Offset, timestamp int64, ok bool, err error) {
	f, err := again(l, func() (found, error) { return l.offsetForTimestamp(ts, below) })
	return f.off, f.timestamp, f.ok, err
}

// found is a record, or none.
type found struct {
	off       Offset
	timestamp int64
	ok        bool
}

func (l *Log) offsetForTimestamp(ts int64, below Offset) (f found, err error) {
	err = l.eachPart(func(p *part, start Offset) (bool, error) {
		if p.seg.base >= below {
			return false, nil
		}
		largest, err := p.largest()
		if err != nil || largest < ts {
			return err == nil, err
		}
		if err := p.load(); err != nil {
			return false, err
		}
		f, err = p.firstReaching(ts, start, below)
		return !f.ok, err
	})
	if !f.ok || f.off >= below || err != nil {
		return found{}, err
	}
	return f, nil
}

// MaxTimestamp returns the first record with the largest timestamp at or above the log start and below `below` (KIP-734).
func (l *Log) MaxTimestamp(below Offset) (off Offset, timestamp int64, ok bool, err error) {
	f, err := again(l, func() (found, error) { return l.maxTimestamp(below) })
	return f.off, f.timestamp, f.ok, err
}

func (l *Log) maxTimestamp(below Offset) (found, error) {
	var best part
	defer func() { best.release() }()
	largest, slot, from := noTimestamp, -1, Offset(0)
	err := l.eachPart(func(p *part, start Offset) (bool, error) {
		if p.seg.base >= below {
			return false, nil
		}
		i, ts, err := p.largestSlot(start, below)
		if err != nil || i < 0 || ts <= largest {
			return err == nil, err
		}
		best.release()
		p.retain()
		best, largest, slot, from = *p, ts, i, start
		return true, nil
	})
	if err != nil || slot < 0 {
		return found{}, err
	}
	return best.recordReaching(slot, largest, from)
}

// eachPart calls fn for every segment from the log start on until it returns false. The part is released afterwards. errGone: not
// all were looked at.
func (l *Log) eachPart(fn func(p *part, start Offset) (bool, error)) error {
	l.mu.RLock()
	closed := len(l.mu.segments) == 0
	start, limit := l.mu.offsets.start, l.mu.next.index
	at := l.mu.boundary.Index + 1
	if k := segmentOfOffset(l.mu.segments, start); k >= 0 {
		at = l.mu.segments[k].first
	}
	l.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	for at < limit {
		p, err := l.partOfIndex(at)
		if errors.Is(err, ErrNotFound) {
			return lost(l, at)
		}
		if err != nil {
			return err
		}
		at = p.next.index
		more, err := fn(&p, start)
		p.release()
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// lost tells a walk over the segments why there is none at an index any more. nil: a truncation took the rest, and what was looked
// at is all there is. errGone: the front is gone, and with it segments that were not looked at. Nor does a closed log have an answer.
func lost(l *Log, at Index) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case len(l.mu.segments) == 0:
		return ErrClosed
	case at <= l.mu.boundary.Index:
		return errGone
	}
	return nil
}

// firstReaching returns the first record at or above start with a timestamp of at least ts. It looks at no batch from
// below on: those may be truncated meanwhile.
func (p *part) firstReaching(ts int64, start, below Offset) (f found, err error) {
	t := &p.table
	first := p.firstAt(start)
	if i := t.search(func(i int) bool { return t.maxTS(i) >= ts }); i > first {
		if i == t.n || p.seg.base+Offset(t.relOff(i)) >= below {
			return found{}, nil
		}
		return p.recordReaching(i, ts, start)
	}
	for i := first; i < t.n && !f.ok && err == nil && p.seg.base+Offset(t.relOff(i)) < below; i++ {
		h, batch, herr := p.batchHeader(i)
		switch {
		case herr != nil:
			return found{}, herr
		case batch && h.MaxTimestamp >= ts:
			f, err = p.recordReaching(i, ts, start)
		}
	}
	return f, err
}

// batchHeader reads the header of slot i; ok is false where it is no batch.
func (p *part) batchHeader(i int) (h batch.Header, ok bool, err error) {
	v := p.table.at(i)
	if v.kind != KindBatch {
		return batch.Header{}, false, nil
	}
	h, err = p.header(v)
	return h, h.NumRecords > 0, err
}

// firstAt returns the slot of the batch that contains an offset, or of the first behind it.
func (p *part) firstAt(o Offset) int {
	if o <= p.seg.base {
		return 0
	}
	return max(p.table.findOffset(uint32(min(o-p.seg.base, 1<<32-1))), 0)
}

// largestSlot returns the first batch with the segment's largest timestamp between start and below.
func (p *part) largestSlot(start, below Offset) (int, int64, error) {
	if err := p.load(); err != nil {
		return -1, 0, err
	}
	t := &p.table
	n := t.search(func(i int) bool { return p.nextOffset(i) > below })
	first := p.firstAt(start)
	if n == 0 || first >= n {
		return -1, 0, nil
	}
	ts := t.maxTS(n - 1)
	if i := t.search(func(i int) bool { return t.maxTS(i) >= ts }); i > first {
		return i, ts, nil
	}
	best, largest := -1, noTimestamp
	for i := first; i < n; i++ {
		h, ok, err := p.batchHeader(i)
		if err == nil && ok && h.BaseOffset < start {
			h.MaxTimestamp, err = p.largestFrom(i, start)
		}
		if err != nil {
			return -1, 0, err
		}
		if ok && h.MaxTimestamp > largest {
			best, largest = i, h.MaxTimestamp
		}
	}
	return best, largest, nil
}

// largestFrom returns the largest timestamp of a batch's records at or above start.
func (p *part) largestFrom(i int, start Offset) (int64, error) {
	frame, q, err := p.frame(i, nil)
	if err != nil || q.IsLogAppendTime() {
		return q.MaxTimestamp, err
	}
	largest := noTimestamp
	err = batch.Scan(frame, func(r *batch.Glance) error {
		if r.Offset >= start {
			largest = max(largest, r.Timestamp)
		}
		return nil
	})
	return largest, p.damaged(&q, err)
}

// header reads a batch's header, and trusts it as far as the slot's CRC of its head goes.
func (p *part) header(v slot) (batch.Header, error) {
	file, err := p.seg.log()
	if err != nil {
		return batch.Header{}, err
	}
	var b [batch.HeaderSize]byte
	if err := readFull(file, b[:], int64(v.pos)); err != nil {
		return batch.Header{}, err
	}
	h, err := batch.ParseHeader(b[:])
	if err != nil || checksum(b[:headSize]) != v.headCRC {
		return batch.Header{}, fmt.Errorf("%w: segment %s: frame head at position %d", ErrCorrupt, p.seg.name(), v.pos)
	}
	return h, nil
}

// recordReaching finds the first record of a batch at or above start whose timestamp is at least ts.
func (p *part) recordReaching(i int, ts int64, start Offset) (f found, err error) {
	frame, q, err := p.frame(i, nil)
	if err != nil {
		return found{}, err
	}
	switch {
	case q.IsLogAppendTime():
		return found{max(q.BaseOffset, start), q.MaxTimestamp, q.MaxTimestamp >= ts}, nil
	case q.BaseOffset >= start:
		f.off, f.timestamp, f.ok, err = batch.FindTimestamp(frame, ts)
		return f, p.damaged(&q, err)
	}
	err = batch.Scan(frame, func(r *batch.Glance) error {
		if r.Timestamp < ts || r.Offset < start {
			return nil
		}
		f = found{r.Offset, r.Timestamp, true}
		return errStop
	})
	return f, p.damaged(&q, err)
}

// damaged turns what is wrong with a stored batch's records into ErrCorrupt.
func (p *part) damaged(q *parsed, err error) error {
	if err == nil || errors.Is(err, errStop) {
		return nil
	}
	return fmt.Errorf("%w: segment %s: batch at %d: %w", ErrCorrupt, p.seg.name(), q.BaseOffset, err)
}

// errStop ends an iteration early.
var errStop = errors.New("stop")

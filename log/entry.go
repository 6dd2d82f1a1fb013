package log

import (
	"fmt"
	"sort"

	"github.com/quorlog/quorlog/log/batch"
)

// segmentOfIndex returns the segment in which a Raft index lies or would lie, -1 below the first.
func segmentOfIndex(segments []*segment, i Index) int {
	return sort.Search(len(segments), func(k int) bool { return segments[k].first > i }) - 1
}

// segmentOfOffset returns the last segment that begins at or below an offset, -1 below the first. A segment of internal
// frames alone has the same base offset as its successor, which is the one with the records.
func segmentOfOffset(segments []*segment, o Offset) int {
	return sort.Search(len(segments), func(k int) bool { return segments[k].base > o }) - 1
}

// part is one segment as a reader sees it: a reference, the slots, and where it ends. The zero part is none.
type part struct {
	seg    *segment
	active bool
	table  table
	next   segmentEnd
	end    Position
	maxTS  int64
}

func (p *part) release() {
	if p.seg != nil {
		p.table.mapped.release()
		p.seg.release()
	}
}

// partLocked returns segment k with a reference. mu is held; a sealed one has no slots yet.
func (l *Log) partLocked(k int) part {
	s := l.mu.segments[k]
	s.acquire()
	if k == len(l.mu.segments)-1 {
		l.mu.active.mapped.acquire()
		return part{
			seg: s, active: true, table: l.mu.active, end: l.mu.end, maxTS: l.mu.maxTS,
			next: segmentEnd{offset: l.mu.next.offset, index: l.mu.next.index},
		}
	}
	n := l.mu.segments[k+1]
	return part{seg: s, end: Position(s.size.Load()), next: segmentEnd{offset: n.base, index: n.first}}
}

// retain takes one more reference, for a copy of the part.
func (p *part) retain() {
	p.table.mapped.acquire()
	p.seg.acquire()
}

// load gets a sealed part's slots.
func (p *part) load() (err error) {
	if p.active {
		return nil
	}
	if p.table, err = p.seg.sealedTable(p.next); err != nil && p.seg.gone.Load() {
		return errGone
	}
	return err
}

// nextOffset is where slot i's frame ends in Kafka's numbering.
func (p *part) nextOffset(i int) Offset {
	if i+1 < p.table.n {
		return p.seg.base + Offset(p.table.relOff(i+1))
	}
	return p.next.offset
}

// largest returns the segment's largest timestamp.
func (p *part) largest() (int64, error) {
	if p.active {
		return p.maxTS, nil
	}
	ft, err := p.seg.sealedFooter(p.next)
	return ft.maxTS, err
}

// frame reads and checks the frame of slot i into buf, which grows as needed.
func (p *part) frame(i int, buf []byte) ([]byte, parsed, error) {
	v := p.table.at(i)
	if v.end() > p.end || v.size < batch.HeaderSize {
		return nil, parsed{}, fmt.Errorf("%w: segment %s: slot %d lies outside the log", ErrCorrupt, p.seg.name(), i)
	}
	file, err := p.seg.log()
	if err != nil {
		return nil, parsed{}, err
	}
	if cap(buf) < int(v.size) {
		buf = make([]byte, v.size)
	}
	buf = buf[:v.size]
	if err := readFull(file, buf, int64(v.pos)); err != nil {
		return nil, parsed{}, fmt.Errorf("segment %s: read at %d: %w", p.seg.name(), v.pos, err)
	}
	q, err := checkFrame(buf, v, p.seg.base)
	if err != nil {
		return nil, parsed{}, fmt.Errorf("segment %s: %w", p.seg.name(), err)
	}
	p.seg.verified.set(i, p.table.n)
	return buf, q, nil
}

// partOfIndex returns the part that holds a Raft index; ErrNotFound where none does.
func (l *Log) partOfIndex(i Index) (part, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	k := segmentOfIndex(l.mu.segments, i)
	if k < 0 || i >= l.mu.next.index {
		return part{}, ErrNotFound
	}
	return l.partLocked(k), nil
}

// Entry returns one entry, from memory if it is recent and otherwise from disk with its CRCs checked. The boundary answers
// with its term and no frame; an index that is not stored is exactly ErrNotFound. The frame must not be changed.
func (l *Log) Entry(i Index) (Entry, error) {
	return l.entry(i, (*part).entry)
}

// Glance is Entry, but where a batch would have to be read from disk its frame is left out. size is the frame's, in bytes.
func (l *Log) Glance(i Index) (e Entry, size int, err error) {
	size = -1
	e, err = l.entry(i, func(p *part, i Index) (Entry, error) {
		k := p.table.findIndex(uint32(i - p.seg.first))
		if k < 0 || p.table.at(k).kind != KindBatch {
			return p.entry(i)
		}
		term, err := l.Term(i)
		size = int(p.table.at(k).size)
		return Entry{Index: i, Term: term, Kind: KindBatch}, err
	})
	if size < 0 || e.Frame != nil {
		size = len(e.Frame)
	}
	return e, size, err
}

// entry finds an entry, and reads it by read if it has to come from disk.
func (l *Log) entry(i Index, read func(*part, Index) (Entry, error)) (Entry, error) {
	return again(l, func() (Entry, error) {
		cuts := l.cuts.Load()
		e, err := findEntry(l, i, read)
		// A truncation may take the bytes away, and an append put others there, between the look at the slots and the read:
		// that is no damage. It counts itself before it touches a file.
		if err == nil || err == ErrNotFound || cuts == l.cuts.Load() {
			return e, err
		}
		if l.cutting.Load() && i > l.AppliedIndex() {
			return Entry{}, ErrNotFound
		}
		return Entry{}, errGone
	})
}

func findEntry(l *Log, i Index, read func(*part, Index) (Entry, error)) (Entry, error) {
	l.mu.RLock()
	boundary, next, closed := l.mu.boundary, l.mu.next.index, len(l.mu.segments) == 0
	l.mu.RUnlock()
	switch {
	case closed:
		return Entry{}, ErrClosed
	case i == boundary.Index && i > 0:
		return Entry{Index: i, Term: boundary.Epoch, Kind: KindNoop}, nil
	case i <= boundary.Index || i >= next:
		return Entry{}, ErrNotFound
	}
	if e, ok := l.tail.get(i); ok {
		l.stats.hits.Add(1)
		return e, nil
	}
	l.stats.misses.Add(1)
	p, err := l.partOfIndex(i)
	if err != nil {
		return Entry{}, err
	}
	defer p.release()
	if err := p.load(); err != nil {
		return Entry{}, err
	}
	return read(&p, i)
}

func (p *part) entry(i Index) (Entry, error) {
	k := p.table.findIndex(uint32(i - p.seg.first))
	if k < 0 {
		return Entry{}, fmt.Errorf("%w: segment %s: no slot for index %d", ErrCorrupt, p.seg.name(), i)
	}
	frame, q, err := p.frame(k, nil)
	if err != nil {
		return Entry{}, err
	}
	first := p.seg.first + Index(p.table.relIndex(k))
	if q.kind == KindGap && q.indexes > 1 {
		return gapEntry(i, first, &q)
	}
	return Entry{Index: i, Term: q.LeaderEpoch, Kind: q.kind, Frame: frame}, nil
}

// EndOffsetAt returns the log end offset of a log that ends with one of the entries or the boundary, from the slots alone; ErrNotFound
// where it is neither. A log that ends within a gap may have got no further than where the gap begins.
func (l *Log) EndOffsetAt(i Index) (Offset, error) {
	return again(l, func() (Offset, error) { return endOffsetAt(l, i) })
}

func endOffsetAt(l *Log, i Index) (Offset, error) {
	l.mu.RLock()
	boundary, next, closed := l.mu.boundary, l.mu.next, len(l.mu.segments) == 0
	l.mu.RUnlock()
	switch {
	case closed:
		return 0, ErrClosed
	case i+1 == next.index:
		return next.offset, nil
	case i == boundary.Index:
		return boundary.Offset, nil
	}
	p, err := l.partOfIndex(i)
	if err != nil {
		return 0, err
	}
	defer p.release()
	if err := p.load(); err != nil {
		return 0, err
	}
	k := p.table.findIndex(uint32(i - p.seg.first))
	if k < 0 {
		return 0, fmt.Errorf("%w: segment %s: no slot for index %d", ErrCorrupt, p.seg.name(), i)
	}
	behind := p.next.index
	if k+1 < p.table.n {
		behind = p.seg.first + Index(p.table.relIndex(k+1))
	}
	if i+1 < behind {
		return p.seg.base + Offset(p.table.relOff(k)), nil
	}
	return p.nextOffset(k), nil
}

// ConfigurationAt returns the newest Raft configuration at or below an index, and its own index; nil, 0 where there is
// none. It reads at most one segment's slots and one frame.
func (l *Log) ConfigurationAt(i Index) (data []byte, at Index, err error) {
	data, err = again(l, func() (d []byte, err error) {
		d, at, err = configurationAt(l, i)
		return d, err
	})
	return data, at, err
}

func configurationAt(l *Log, i Index) ([]byte, Index, error) {
	l.mu.RLock()
	f, last, boundary := l.mu.facts, l.mu.next.index-1, l.mu.boundary.Index
	l.mu.RUnlock()
	i = min(i, last)
	if f.configIndex <= i {
		return f.config, f.configIndex, nil
	}
	if i < boundary {
		return nil, 0, ErrNotFound
	}
	p, err := l.partOfIndex(max(i, boundary+1))
	if err != nil {
		return nil, 0, err
	}
	defer p.release()
	if err := p.load(); err != nil {
		return nil, 0, err
	}
	if i >= p.seg.first {
		for k := p.table.findIndex(uint32(i - p.seg.first)); k >= 0; k-- {
			if Kind(p.table.raw(k)[slotKind]) != KindConfiguration {
				continue
			}
			_, q, err := p.frame(k, nil)
			return q.payload, p.seg.first + Index(p.table.relIndex(k)), err
		}
	}
	state, err := readState(l.o.FS, p.seg)
	return state.Config, state.ConfigIndex, err
}

// StartState returns the state at the boundary: what a replica must begin with that is to receive all stored entries.
func (l *Log) StartState() (State, error) {
	return again(l, func() (State, error) { return startState(l) })
}

func startState(l *Log) (State, error) {
	l.mu.RLock()
	if len(l.mu.segments) == 0 {
		l.mu.RUnlock()
		return State{}, ErrClosed
	}
	p := l.partLocked(0)
	l.mu.RUnlock()
	defer p.release()
	return readState(l.o.FS, p.seg)
}

package log

import (
	"fmt"
	"slices"
	"sort"

	"github.com/quorlog/quorlog/log/batch"
)

// openTxn is a transaction without a marker so far, in the applied view.
type openTxn struct {
	producer int64
	first    Offset
}

// openTxns are the open transactions in the order of their first offsets, which is that in which they were opened.
type openTxns []openTxn

// begin opens a producer's transaction unless it has one open.
func (o openTxns) begin(producer int64, first Offset) openTxns {
	for _, t := range o {
		if t.producer == producer {
			return o
		}
	}
	return append(o, openTxn{producer, first})
}

// end closes a producer's transaction and tells where it began.
func (o openTxns) end(producer int64) (rest openTxns, first Offset, ok bool) {
	for i, t := range o {
		if t.producer == producer {
			return slices.Delete(o, i, i+1), t.first, true
		}
	}
	return o, 0, false
}

// stable is the last stable offset at a high watermark.
func (o openTxns) stable(high Offset) Offset {
	if len(o) > 0 {
		return min(o[0].first, high)
	}
	return high
}

// openAt lists the transactions that are open at a state.
func openAt(s *State) openTxns {
	var o openTxns
	for i := range s.Producers {
		if p := &s.Producers[i]; p.CurrentTxnStart >= 0 {
			o = append(o, openTxn{p.ID, p.CurrentTxnStart})
		}
	}
	sort.Slice(o, func(i, k int) bool { return o[i].first < o[k].first })
	return o
}

// Apply moves the applied view behind a committed entry: high watermark, open transactions, last stable offset, .txnindex,
// log start. It is called in index order; entries that Raft does not hand to a state machine (no-ops, barriers) may be left
// out, and what was applied already is ignored. An entry without a frame only moves the index. What goes wrong poisons the
// log: see Err.
func (l *Log) Apply(e Entry) {
	l.applied.Lock()
	defer l.applied.Unlock()
	if e.Index <= l.mu.applied || l.Err() != nil || l.isClosed() {
		return
	}
	offsets := l.mu.offsets
	if len(e.Frame) > 0 {
		var err error
		if offsets, err = l.applyFrame(e, offsets); err != nil {
			l.fail("apply", fmt.Errorf("index %d: %w", e.Index, err))
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.applied, l.mu.offsets = e.Index, offsets
}

// applyFrame returns the offsets behind one entry. applied is held.
func (l *Log) applyFrame(e Entry, o appliedOffsets) (appliedOffsets, error) {
	p, err := parseFrame(e.Frame)
	if err != nil {
		return o, err
	}
	o.high = max(o.high, p.NextOffset())
	switch {
	case p.kind == KindLogStart:
		start, err := DecodeLogStart(p.payload)
		if err != nil {
			return o, err
		}
		o.start = max(o.start, min(start, o.high))
	case p.kind != KindBatch:
	case p.IsControl():
		if err := l.applyMarker(e, &p, o.high); err != nil {
			return o, err
		}
	case p.IsTransactional():
		l.openTxns = l.openTxns.begin(p.ProducerID, p.BaseOffset)
	}
	o.stable = max(o.start, l.openTxns.stable(o.high))
	return o, nil
}

// applyMarker closes the producer's transaction, and notes it if it was aborted.
func (l *Log) applyMarker(e Entry, p *parsed, high Offset) error {
	c, err := batch.ParseControl(e.Frame)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	rest, first, ok := l.openTxns.end(p.ProducerID)
	l.openTxns = rest
	if !ok || c.Type != batch.ControlAbort {
		return nil
	}
	r := txnRecord{
		AbortedTxn: AbortedTxn{ProducerID: p.ProducerID, FirstOffset: first, LastOffset: p.BaseOffset},
		lastStable: rest.stable(high),
	}
	s := l.acquireAt(e.Index)
	if s == nil {
		return fmt.Errorf("%w: no segment holds the marker", ErrNotFound)
	}
	defer s.release()
	return s.txn.add(r)
}

// acquireAt returns the segment that holds a Raft index, with a reference; nil where none does.
func (l *Log) acquireAt(i Index) *segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	k := segmentOfIndex(l.mu.segments, i)
	if k < 0 {
		return nil
	}
	l.mu.segments[k].acquire()
	return l.mu.segments[k]
}

// Aborted returns the aborted transactions with data in [from,to), in the order of their markers, for read_committed. Those of
// segments that are gone are missing: who asks for a range that was read earlier looks afterwards whether the log start has
// passed `from`.
func (l *Log) Aborted(from, to Offset) ([]AbortedTxn, error) {
	return again(l, func() ([]AbortedTxn, error) { return l.abortedIn(from, to) })
}

func (l *Log) abortedIn(from, to Offset) (found []AbortedTxn, err error) {
	segments, err := l.acquireWithAborted(from)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, s := range segments {
			s.release()
		}
	}()
	for _, s := range segments {
		recs, err := s.txn.load()
		if err != nil {
			return nil, err
		}
		for _, r := range recs {
			if r.LastOffset >= from && r.FirstOffset < to {
				found = append(found, r.AbortedTxn)
			}
			if r.lastStable >= to {
				return found, nil
			}
		}
	}
	return found, nil
}

// acquireWithAborted returns the segments from an offset on that list aborted transactions. A closed log lists none, which must
// not be taken for an answer: a range that was read before keeps its files.
func (l *Log) acquireWithAborted(from Offset) (found []*segment, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.mu.segments) == 0 {
		return nil, ErrClosed
	}
	for _, s := range l.mu.segments[max(segmentOfOffset(l.mu.segments, from), 0):] {
		if s.txn.count() > 0 {
			s.acquire()
			found = append(found, s)
		}
	}
	return found, nil
}

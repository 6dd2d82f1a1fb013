package log

import (
	"encoding/binary"
	"fmt"

	"github.com/quorlog/quorlog/log/batch"
)

// A gap frame stands for a run of entries of one term that compaction removed: it keeps how many Raft indexes they had, and
// which offsets the run covers as a whole. How the offsets were spread over the entries is forgotten; it would cost bytes for
// every entry that ever was. So a replica that is sent such entries one by one learns two things: where the run begins, and,
// with its last entry, where it ends.
//
//	entry of the run sent     its frame says        the receiver's log end moves to
//	  all but the last        base..base            max(log end, base)
//	  the last                base..end             max(log end, end)
//
// The receiver may have come by any part of the run from another leader, which has cleaned less, and go on with any part
// from a third. Its log end then is somewhere between base and end, never above what it was in the first place, and right
// again with the next batch or the end of the run: behind a gap, a frame may begin further on than the log ends (chain.takes).
// A log never stays in the middle of a run: the run is committed, so whoever lacks the rest of it is not elected.

// gapPayload is the size of a gap's payload: a count.
const gapPayload = 4

// GapFrame builds an unstamped gap frame for so many entries, over span offsets.
func GapFrame(entries uint32, span int32) []byte {
	return internalFrame(KindGap, span-1, binary.BigEndian.AppendUint32(nil, entries))
}

// decodeGap reads how many entries a gap stands for.
func decodeGap(b []byte) (entries uint32, err error) {
	if len(b) == gapPayload {
		entries = binary.BigEndian.Uint32(b)
	}
	if entries == 0 {
		return 0, fmt.Errorf("%w: gap of no entries in %d bytes", ErrFrame, len(b))
	}
	return entries, nil
}

// takes reports whether a frame from a leader may come next. It begins where the log ends; behind a gap it may begin further
// on, and a gap itself further back.
func (c *chain) takes(p *parsed) bool {
	switch {
	case p.BaseOffset > c.offset:
		return c.loose
	case p.BaseOffset < c.offset:
		return p.kind == KindGap
	}
	return true
}

// clipGap turns a gap entry that a leader sent into what follows here. The leader's frame is not changed: it may be shared.
func clipGap(e *Entry, p *parsed, next chain) parsed {
	base := max(p.BaseOffset, next.offset)
	end := max(p.NextOffset(), base)
	if base == p.BaseOffset && end == p.NextOffset() {
		return *p
	}
	e.Frame = stampedGap(1, base, end, e.Term)
	q, _ := parseFrame(e.Frame)
	return q
}

// stampedGap is a gap frame in its place.
func stampedGap(entries uint32, base, end Offset, term Epoch) []byte {
	f := GapFrame(entries, int32(end-base))
	batch.Stamp(f, base, term)
	return f
}

// gapEntry answers for one entry within a gap: an empty command of the original term.
func gapEntry(i, first Index, q *parsed) (Entry, error) {
	last := first + Index(q.indexes) - 1
	end := q.BaseOffset
	switch {
	case i > last:
		return Entry{}, fmt.Errorf("%w: index %d lies behind a gap of %d from %d", ErrCorrupt, i, q.indexes, first)
	case i == last:
		end = q.NextOffset()
	}
	return Entry{Index: i, Term: q.LeaderEpoch, Kind: KindGap, Frame: stampedGap(1, q.BaseOffset, end, q.LeaderEpoch)}, nil
}

// looseAt reports whether what precedes slot n is a gap or lies in an older segment.
func (t *table) looseAt(n int, s *segment) bool {
	if n == 0 {
		return s.first > 1
	}
	return Kind(t.raw(n - 1)[slotKind]) == KindGap
}

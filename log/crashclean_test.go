package log

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// What compaction may change in a crash history, and what it may not. The model keeps every entry as it was appended.

// data builds a batch of records with keys out of few; some are tombstones, some have no key.
func (h *history) data(n int, o frameOpt) []byte {
	b := batch.NewBuilder(batch.BuildOptions{Producer: o.prod, Transactional: o.txn})
	for i := range n {
		r := batch.Record{Timestamp: o.times[0] + int64(i), Key: []byte{'k', byte('0' + h.draw(6))}, Value: bytes.Repeat([]byte{byte('a' + h.draw(26))}, o.size)}
		switch h.draw(12) {
		case 0:
			r.Key = nil
		case 1, 2:
			r.Value = nil
		}
		b.Add(r)
	}
	f, err := b.Build()
	if err != nil {
		h.failf("%v", err)
	}
	batch.Stamp(f, batch.Unstamped, o.term)
	return f
}

// settle ends all transactions and applies most of the log, so that there is something to clean.
func (h *history) settle() {
	v := h.m.view()
	for _, id := range slices.Sorted(maps.Keys(v.producers)) {
		p := v.producers[id]
		if p.txn < 0 || h.chance(4) {
			continue
		}
		e := Entry{Index: h.m.last() + 1, Term: max(v.term, 1), Frame: markerOf(max(v.term, 1), id, p.epoch+int16(h.draw(3)/2), max(p.coord, 0), h.chance(2))}
		es := []Entry{e}
		h.must(h.log.Append(es))
		h.m.store(es[0])
	}
	h.apply()
	h.apply()
}

func (h *history) clean() {
	if !h.armed {
		h.settle()
	}
	if h.chance(2) {
		h.log.SetLimits(SegmentLimits{SegmentBytes: int64(200 + h.draw(6000)), SegmentAge: time.Millisecond})
		if _, err := h.log.Roll(h.time.now()); !h.must(err) {
			return
		}
		h.log.SetLimits(SegmentLimits{SegmentBytes: int64(200 + h.draw(6000))})
	}
	h.logf("clean")
	if !h.armed && h.chance(3) {
		h.armCrashWithin(50)
	}
	h.everywhere = max(h.everywhere, Index(h.draw(int(h.m.applied)+1)))
	r, err := NewCleaner(h.log).Clean(CleanOptions{DeleteRetention: h.keep, Everywhere: h.everywhere})
	if !h.must(err) {
		return
	}
	h.logf("  %+v", r)
	h.swapped += r.Segments
	h.checkVerify()
	if r.Segments > 0 {
		h.checkCompacted(r.CleanTo)
	}
}

// cleaned is the last index that compaction may have changed.
func (h *history) cleaned() Index {
	last := Index(0)
	parts := h.log.parts()
	defer releaseParts(parts)
	for i := range parts {
		if p := &parts[i]; !p.active {
			if ft, err := p.seg.sealedFooter(p.next); err != nil {
				h.failf("footer: %v", err)
			} else if ft.cleanedAt > 0 {
				last = p.next.index - 1
			}
		}
	}
	return last
}

// may tells whether an entry may be what became of another.
func (h *history) may(got, was Entry, cleaned Index) bool {
	switch {
	case got.Kind == was.Kind && bytes.Equal(got.Frame, was.Frame):
		return true
	case was.Index > cleaned || was.Kind == KindConfiguration:
		return false
	case got.Kind == KindGap:
		return true
	}
	return got.Kind == KindBatch && was.Kind == KindBatch && h.mayBatch(got.Frame, was.Frame)
}

func (h *history) recordsOf(frame []byte) (records []batch.Record) {
	if err := batch.Iterate(frame, func(r batch.Record) error { records = append(records, r); return nil }); err != nil {
		h.failf("%v", err)
	}
	return records
}

func sameRecord(a, b batch.Record) bool {
	return a.Offset == b.Offset && a.Timestamp == b.Timestamp && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)
}

func (h *history) mayBatch(got, was []byte) bool {
	a, _ := batch.ParseHeader(got)
	b, _ := batch.ParseHeader(was)
	left := h.recordsOf(was)
	for _, r := range h.recordsOf(got) {
		i := slices.IndexFunc(left, func(w batch.Record) bool { return sameRecord(r, w) })
		if i < 0 {
			return false
		}
		left = left[i+1:]
	}
	a.Attributes &^= batch.AttrDeleteHorizon
	a.Length, a.CRC, a.NumRecords, a.BaseTimestamp, a.MaxTimestamp = b.Length, b.CRC, b.NumRecords, b.BaseTimestamp, b.MaxTimestamp
	return a == b && batch.CheckCRC(got) == nil
}

// checkRecords holds the batches of a read against the model: bytes where nothing was cleaned, a part of them elsewhere; and
// the newest committed record of each key is there.
func (h *history) checkRecords(got []byte, from Offset) {
	frames, err := batch.Split(got)
	if err != nil {
		h.failf("read from %d: %v", from, err)
	}
	cleaned, there := h.cleaned(), map[Offset]bool{}
	for _, e := range h.m.entries {
		was, _ := batch.ParseHeader(e.Frame)
		if e.Kind != KindBatch || was.LastOffset() < from {
			continue
		}
		if len(frames) > 0 {
			if hd, _ := batch.ParseHeader(frames[0]); hd.BaseOffset == was.BaseOffset {
				if !h.may(Entry{Kind: KindBatch, Frame: frames[0]}, e, cleaned) {
					h.failf("read from %d: the batch of entry %d is not what it was", from, e.Index)
				}
				for _, r := range h.recordsOf(frames[0]) {
					there[r.Offset] = true
				}
				frames = frames[1:]
				continue
			}
		}
		if e.Index > cleaned {
			h.failf("read from %d: the batch of entry %d is missing", from, e.Index)
		}
	}
	if len(frames) > 0 {
		h.failf("read from %d: %d batches too many", from, len(frames))
	}
	h.checkNewest("the log", there, from)
}

// checkNewest asks that of each key the newest committed record is there; or, of a deleted key, nothing.
func (h *history) checkNewest(what string, there map[Offset]bool, from Offset) {
	for key, all := range h.m.decided() {
		newest := all[0]
		if newest.Offset < from || there[newest.Offset] {
			continue
		}
		if newest.Value != nil || h.keep > 0 {
			h.failf("%s lacks the newest record of key %s, at %d", what, key, newest.Offset)
		}
		for _, r := range all[1:] {
			if r.Offset >= from && there[r.Offset] {
				h.failf("%s has key %s at %d, which was deleted at %d", what, key, r.Offset, newest.Offset)
			}
		}
	}
}

// decided returns the applied and committed records of each key, the newest first.
func (m *model) decided() map[string][]batch.Record {
	found, ends := map[string][]batch.Record{}, map[int64]batch.ControlType{}
	for i := m.applied; i > m.boundary; i-- {
		e := m.entry(i)
		h, _ := batch.ParseHeader(e.Frame)
		if e.Kind != KindBatch {
			continue
		}
		if h.IsControl() {
			c, _ := batch.ParseControl(e.Frame)
			ends[h.ProducerID] = c.Type
			continue
		}
		if end, ended := ends[h.ProducerID]; h.IsTransactional() && (!ended || end != batch.ControlCommit) {
			continue
		}
		records := []batch.Record{}
		_ = batch.Iterate(e.Frame, func(r batch.Record) error { records = append(records, r); return nil })
		for _, r := range slices.Backward(records) {
			if r.Key != nil {
				found[string(r.Key)] = append(found[string(r.Key)], r)
			}
		}
	}
	return found
}

// checkCompacted asks that no key is twice below an offset, and that every record has one.
func (h *history) checkCompacted(below Offset) {
	seen := map[string]bool{}
	frames, _ := batch.Split(h.all(h.log))
	for _, f := range frames {
		if hd, _ := batch.ParseHeader(f); hd.IsControl() {
			continue
		}
		for _, r := range h.recordsOf(f) {
			if r.Offset >= below {
				return
			}
			if seen[string(r.Key)] || r.Key == nil {
				h.failf("the record at %d, key %q, should be gone: the log is clean below %d", r.Offset, r.Key, below)
			}
			seen[string(r.Key)] = true
		}
	}
}

// all reads all batches from the log start on.
func (h *history) all(l *Log) []byte {
	o := l.Offsets()
	r, err := l.Read(o.LogStart, o.LogEnd, 1<<30, true)
	if err != nil {
		h.failf("read: %v", err)
	}
	defer r.Release()
	b, err := r.AppendTo(nil)
	if err != nil {
		h.failf("read: %v", err)
	}
	return b
}

// withoutCleaned leaves out those of the transactions that compaction has removed with their data.
func (h *history) withoutCleaned(want, got []AbortedTxn) (left []AbortedTxn) {
	frames, _ := batch.Split(h.all(h.log))
	for _, a := range want {
		gone := !slices.ContainsFunc(frames, func(f []byte) bool {
			hd, _ := batch.ParseHeader(f)
			return hd.ProducerID == a.ProducerID && hd.BaseOffset >= a.FirstOffset && hd.BaseOffset <= a.LastOffset && hd.NumRecords > 0
		})
		if !gone || slices.Contains(got, a) {
			left = append(left, a)
		}
	}
	return left
}

// replicate sends everything to a new replica, by turns from this log and from one that was never cleaned: the model. It must
// end with the same offsets and producers, and hold what this log holds.
func (h *history) replicate() {
	o := h.o
	o.FS = vfs.NewMem()
	l, err := Open(o)
	if err != nil {
		h.failf("open a replica: %v", err)
	}
	if h.m.boundary > 0 {
		s, err := h.log.StartState()
		if err == nil {
			err = l.Reset(s)
		}
		if err != nil {
			h.failf("reset a replica: %v", err)
		}
	}
	// What all replicas had before deletions were forgotten comes from one side.
	mine := h.chance(2)
	for _, e := range h.m.entries {
		if e.Index > h.everywhere && h.chance(4) {
			mine = !mine
		}
		if mine {
			if e, err = h.log.Entry(e.Index); err != nil {
				h.failf("entry: %v", err)
			}
		}
		e.Frame = bytes.Clone(e.Frame)
		if err := l.Append([]Entry{e}); err != nil {
			h.failf("replica, entry %d, kind %v, from the cleaned log: %t: %v", e.Index, e.Kind, mine, err)
		}
		stored, err := l.Entry(e.Index)
		if err != nil {
			h.failf("replica: %v", err)
		}
		if e.Index <= h.m.applied {
			l.Apply(stored)
		}
	}
	if a, b := h.log.Offsets(), l.Offsets(); a != b {
		h.failf("a replica has offsets %+v, its leader %+v", b, a)
	}
	h.checkReplica(l)
	if err := l.Close(); err != nil {
		h.failf("close a replica: %v", err)
	}
}

func (h *history) checkReplica(l *Log) {
	there := map[Offset]bool{}
	frames, _ := batch.Split(h.all(l))
	for _, f := range frames {
		for _, r := range h.recordsOf(f) {
			there[r.Offset] = true
		}
	}
	h.checkNewest("a replica", there, l.Offsets().LogStart)
	for _, p := range h.log.Producers() {
		q, ok := l.LastProducer(p.ID)
		if !ok || p.Epoch != q.Epoch || p.LastSequence != q.LastSequence || p.CurrentTxnStart != q.CurrentTxnStart || len(p.Batches()) != len(q.Batches()) {
			h.failf("a replica has producer %+v (%t), its leader %+v", q, ok, p)
		}
	}
}

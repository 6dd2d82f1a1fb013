package log

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/quorlog/quorlog/log/batch"
)

// The operations of a crash history.

func (h *history) append() {
	term := h.m.view().term + Epoch(h.draw(8)/7)
	if term == 0 {
		term = 1
	}
	n := 1 + h.draw(4)
	es := make([]Entry, n)
	view := h.m.view().clone()
	refused := make([]bool, n)
	for i := range es {
		es[i] = Entry{Index: h.m.last() + 1 + Index(i), Term: term, Frame: h.frame(&view, term)}
		hd, _ := batch.ParseHeader(es[i].Frame)
		e := es[i]
		e.Frame = bytes.Clone(e.Frame)
		e.Kind = KindOf(e.Frame)
		if e.Kind == KindBatch && hd.BaseOffset == batch.Unstamped && view.refuses(hd, e.Frame, term) {
			refused[i] = true
			e.Kind, e.Frame = KindRefused, InternalFrame(KindRefused, nil)
		}
		batch.Stamp(e.Frame, view.end, term)
		view = view.behind(e)
	}
	h.logf("append %d from %d in term %d", n, es[0].Index, term)
	before := h.m
	h.pending = func() *model {
		got := h.log.LastIndex()
		if got < before.last() || got > before.last()+Index(n) {
			h.failf("last is %d after an append from %d of %d", got, before.last()+1, n)
		}
		for _, e := range es[:got-before.last()] {
			before.store(e)
		}
		return before
	}
	if !h.must(h.log.Append(es)) {
		return
	}
	h.pending = nil
	for i, e := range es {
		if (e.Kind == KindRefused) != refused[i] {
			h.failf("index %d is %v, refused should be %t", e.Index, e.Kind, refused[i])
		}
		h.m.store(e)
	}
}

// frame draws one frame that could come next.
func (h *history) frame(v *refView, term Epoch) []byte {
	id := int64(1 + h.draw(3))
	p, ok := v.producers[id]
	if !ok {
		p = refProducer{last: -1, txn: -1, coord: -1}
	}
	o := frameOpt{term: term, times: []int64{int64(h.draw(1000))}, size: 1 + h.draw(60)}
	n := 1 + h.draw(3)
	seq := p.last + 1
	epoch := max(p.epoch, 0)
	switch h.draw(14) {
	case 0:
		return noop()
	case 1:
		return config(fmt.Sprint("config", h.draw(100)))
	case 2:
		a := h.m.state()
		return logStart(a.start + Offset(h.draw(int(a.high-a.start)+1)))
	case 3:
		return markerOf(term, id, epoch+int16(h.draw(2)), max(p.coord, 0)+int32(h.draw(4))-1, h.chance(2))
	case 4:
		o.term-- // checked in an older term
	case 5:
		o.prod = &batch.Producer{ID: id, Epoch: epoch, Sequence: max(seq+int32(h.draw(5))-2, 0)}
	case 6:
		o.prod = &batch.Producer{ID: id, Epoch: epoch + 1}
	case 7, 8, 9:
		o.prod, o.txn = &batch.Producer{ID: id, Epoch: epoch, Sequence: seq}, true
	case 10, 11:
		o.prod = &batch.Producer{ID: id, Epoch: epoch, Sequence: seq}
	case 12: // as a follower gets it
		f := h.data(n, o)
		batch.Stamp(f, v.end, term)
		return f
	}
	return h.data(n, o)
}

func (h *history) apply() {
	to := h.m.applied + Index(h.draw(int(h.m.last()-h.m.applied)+1))
	h.logf("apply %d..%d", h.m.applied+1, to)
	for i := h.m.applied + 1; i <= to; i++ {
		e := h.m.entry(i)
		if e.Kind == KindNoop && h.chance(2) {
			continue // Raft does not hand these out
		}
		h.log.Apply(e)
	}
	if !h.must(h.log.Err()) {
		h.m.apply(to)
		return
	}
	if h.log.AppliedIndex() != to && to > h.m.applied {
		h.log.Apply(Entry{Index: to, Kind: KindNoop})
	}
	h.m.apply(to)
}

func (h *history) truncate() {
	low := max(h.m.applied, h.m.boundary)
	from := low + 1 + Index(h.draw(int(h.m.last()-low)+1))
	h.logf("truncate from %d", from)
	before := h.m
	h.pending = func() *model {
		got := h.log.LastIndex()
		if got+1 < from || got > before.last() {
			h.failf("last is %d after a truncation of %d..%d", got, from, before.last())
		}
		if got < before.last() {
			before.truncate(got + 1)
		}
		return before
	}
	if h.must(h.log.TruncateSuffix(from)) {
		h.pending = nil
		if from <= h.m.last() {
			h.m.truncate(from)
		}
	}
}

func (h *history) drop() {
	h.logf("drop")
	before := h.m
	learn := func() *model {
		boundary, term := h.log.Boundary()
		if boundary == before.boundary {
			return before
		}
		if boundary < before.boundary || boundary > before.applied {
			h.failf("boundary %d after %d, applied %d", boundary, before.boundary, before.applied)
		}
		if end := before.views[boundary-before.boundary].end; end > before.state().start {
			h.failf("dropped up to offset %d, log start is %d", end, before.state().start)
		}
		before.drop(boundary)
		if term != before.term {
			h.failf("boundary has term %d, want %d", term, before.term)
		}
		before.durable = max(before.durable, boundary)
		return before
	}
	h.pending = learn
	if _, err := h.log.DropSegments(); h.must(err) {
		h.pending = nil
		learn()
	}
}

func (h *history) reset() {
	// The donor is this log as it is: its state at some applied index.
	i := h.m.boundary + Index(h.draw(int(h.m.applied-h.m.boundary)+1))
	if i < 2 {
		return
	}
	v := h.m.views[i-h.m.boundary]
	s := State{Index: i, Term: v.term, Offset: v.end, LogStart: 0, Config: []byte(v.config), ConfigIndex: v.configAt, Epochs: v.epochs}
	ids := []int64{}
	for id := range v.producers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		p := v.producers[id]
		st := ProducerState{ID: id, Epoch: p.epoch, LastSequence: p.last, CurrentTxnStart: p.txn, CoordinatorEpoch: p.coord, LastSeen: h.time.ms.Load()}
		st.n = uint8(copy(st.recent[:], p.recent))
		s.Producers = append(s.Producers, st)
	}
	h.logf("reset to %d", i)
	before, done := h.m, resetTo(h.m, i)
	h.pending = func() *model {
		if b, _ := h.log.Boundary(); b == i && h.log.LastIndex() == i {
			return done
		}
		return before
	}
	if h.must(h.log.Reset(s)) {
		h.pending, h.m = nil, done
	}
}

func (h *history) close() {
	h.logf("close")
	applied := h.m.applied
	if !h.must(h.log.Close()) || h.after != nil {
		return
	}
	h.m.durable = applied
	h.in.Disarm()
	h.open()
	if s := h.log.Stats(); s.OpenScannedBytes != 0 {
		h.failf("%d bytes scanned after a clean close", s.OpenScannedBytes)
	}
}

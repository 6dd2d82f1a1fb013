package log

import (
	"slices"

	"github.com/quorlog/quorlog/log/batch"
)

// check compares everything that can be asked with the model.
func (h *history) check() {
	l, m := h.log, h.m
	if got := l.LastIndex(); got != m.last() {
		h.failf("last %d, want %d", got, m.last())
	}
	m.durable = max(m.durable, l.CheckpointedCommit())
	if m.durable > m.applied {
		h.failf("checkpointed commit %d, applied %d", m.durable, m.applied)
	}
	if got, want := l.Offsets(), m.offsets(); got != want {
		h.failf("offsets %+v, want %+v", got, want)
	}
	if h.chance(2) {
		l.tail.truncate(0)
	}
	cleaned := h.cleaned()
	for _, e := range m.entries {
		got, err := l.Entry(e.Index)
		if err != nil || got.Term != e.Term || !h.may(got, e, cleaned) {
			h.failf("entry %d is %+v (%v), want %+v", e.Index, got, err, e)
		}
	}
	if _, err := l.Entry(m.last() + 1); err != ErrNotFound {
		h.failf("entry behind the end: %v", err)
	}
	if e, err := l.Entry(m.boundary); m.boundary > 0 && (err != nil || e.Term != m.term) {
		h.failf("boundary: %+v, %v", e, err)
	}
	h.checkReads()
	h.checkView()
	if h.chance(10) {
		h.checkVerify()
	}
}

func (h *history) checkReads() {
	l, m := h.log, h.m
	a, end := m.state(), m.view().end
	from := a.start + Offset(h.draw(int(end-a.start)+1))
	r, err := l.Read(from, end, 1<<30, true)
	if err != nil {
		h.failf("read from %d: %v", from, err)
	}
	got, err := r.AppendTo(nil)
	if err != nil {
		h.failf("read from %d: %v", from, err)
	}
	h.checkRecords(got, from)
	if r.Next != end {
		h.failf("read from %d ends at %d, want %d", from, r.Next, end)
	}
	r.Release()

	to := from + Offset(h.draw(int(a.high-min(from, a.high))+1))
	var want []AbortedTxn
	for _, x := range a.aborted {
		if x.LastOffset >= from && x.FirstOffset < to {
			want = append(want, x)
		}
	}
	aborted, err := l.Aborted(from, to)
	// A search for nothing may find nothing or what lies around it.
	if from < to {
		want = h.withoutCleaned(want, aborted)
	}
	if err != nil || (from < to && !slices.Equal(aborted, want)) {
		h.failf("aborted in %d..%d: %v (%v), want %v", from, to, aborted, err, want)
	}
}

func (h *history) checkView() {
	l, v := h.log, h.m.view()
	if got := l.Producers(); len(got) != len(v.producers) {
		h.failf("%d producers, want %d", len(got), len(v.producers))
	}
	for id, p := range v.producers {
		st, ok := l.LastProducer(id)
		if !ok || st.Epoch != p.epoch || st.LastSequence != p.last || st.CurrentTxnStart != p.txn || st.CoordinatorEpoch != p.coord || !slices.Equal(st.Batches(), p.recent) {
			h.failf("producer %d is %+v (%t), want %+v", id, st, ok, p)
		}
	}
	if c, i := l.Configuration(); string(c) != v.config || i != v.configAt {
		h.failf("configuration %q at %d, want %q at %d", c, i, v.config, v.configAt)
	}
	k := h.draw(len(h.m.views))
	c, i, err := l.ConfigurationAt(h.m.boundary + Index(k))
	if w := h.m.views[k]; err != nil || string(c) != w.config || i != w.configAt {
		h.failf("configuration at %d is %q at %d (%v), want %q at %d", h.m.boundary+Index(k), c, i, err, w.config, w.configAt)
	}
	for k, e := range h.m.entries {
		if t, err := l.Term(e.Index); err != nil || t != e.Term {
			h.failf("term of %d is %d (%v), want %d", e.Index, t, err, e.Term)
		}
		if hd, _ := batch.ParseHeader(e.Frame); e.Kind == KindBatch && l.EpochOf(hd.BaseOffset) != e.Term {
			h.failf("epoch of %d is %d, want %d", h.m.views[k].end, l.EpochOf(hd.BaseOffset), e.Term)
		}
	}
}

package log

import (
	"bytes"
	"maps"
	"slices"

	"github.com/quorlog/quorlog/log/batch"
)

// The model is a log that keeps everything in slices and recomputes what it is asked for. It shares no code with the real
// one beyond the frame header.

type refProducer struct {
	epoch  int16
	last   int32
	txn    Offset
	coord  int32
	recent []ProducerBatch
}

// refView is the append view behind one entry.
type refView struct {
	end       Offset
	term      Epoch
	producers map[int64]refProducer
	epochs    []EpochStart
	config    string
	configAt  Index
}

func (v refView) clone() refView {
	v.producers = maps.Clone(v.producers)
	v.epochs = slices.Clone(v.epochs)
	return v
}

// refApplied is the applied view behind one entry.
type refApplied struct {
	start, high Offset
	open        map[int64]Offset
	aborted     []AbortedTxn
}

func (a refApplied) clone() refApplied {
	a.open, a.aborted = maps.Clone(a.open), slices.Clone(a.aborted)
	return a
}

func (a refApplied) stable() Offset {
	s := a.high
	for _, o := range a.open {
		s = min(s, o)
	}
	return max(s, a.start)
}

type model struct {
	boundary Index
	term     Epoch // of the boundary
	entries  []Entry
	views    []refView // views[i] is behind entries[i-1]; views[0] at the boundary
	applied  Index
	states   map[Index]refApplied
	durable  Index // the applied index never falls below it
}

func newModel() *model {
	m := &model{states: map[Index]refApplied{0: {open: map[int64]Offset{}}}}
	m.views = []refView{{producers: map[int64]refProducer{}}}
	return m
}

func (m *model) last() Index    { return m.boundary + Index(len(m.entries)) }
func (m *model) view() *refView { return &m.views[len(m.views)-1] }

func (m *model) entry(i Index) Entry { return m.entries[i-m.boundary-1] }

// store appends what the real log stored.
func (m *model) store(e Entry) {
	e.Frame = bytes.Clone(e.Frame)
	m.entries = append(m.entries, e)
	m.views = append(m.views, m.view().behind(e))
}

func (v refView) behind(e Entry) refView {
	h, _ := batch.ParseHeader(e.Frame)
	n := v.clone()
	if e.Term > v.term || len(v.epochs) == 0 {
		n.epochs = append(n.epochs, EpochStart{e.Term, e.Index, v.end})
	}
	n.term, n.end = e.Term, v.end+Offset(h.LastOffsetDelta)+1
	switch {
	case e.Kind == KindConfiguration:
		n.config, n.configAt = string(e.Frame[internalHead:]), e.Index
	case e.Kind == KindBatch && h.ProducerID >= 0:
		p, ok := n.producers[h.ProducerID]
		if !ok {
			p = refProducer{epoch: -1, last: -1, txn: -1, coord: -1}
		}
		if p.epoch != h.ProducerEpoch {
			p.epoch, p.last, p.recent = h.ProducerEpoch, -1, nil
		}
		if h.IsControl() {
			c, _ := batch.ParseControl(e.Frame)
			p.txn, p.coord = -1, max(p.coord, c.CoordinatorEpoch)
		} else {
			if h.IsTransactional() && p.txn < 0 {
				p.txn = v.end
			}
			p.last = h.BaseSequence + h.LastOffsetDelta
			p.recent = append(slices.Clone(p.recent), ProducerBatch{h.BaseSequence, p.last, v.end, n.end - 1, h.MaxTimestamp})
			p.recent = p.recent[max(0, len(p.recent)-5):]
		}
		n.producers[h.ProducerID] = p
	}
	return n
}

// refuses tells whether a new batch must be refused behind a view.
func (v *refView) refuses(h batch.Header, frame []byte, term Epoch) bool {
	if h.LeaderEpoch != term {
		return true
	}
	if h.ProducerID < 0 {
		return false
	}
	p, ok := v.producers[h.ProducerID]
	switch {
	case ok && h.ProducerEpoch < p.epoch:
		return true
	case h.IsControl():
		c, _ := batch.ParseControl(frame)
		return ok && c.CoordinatorEpoch < p.coord
	case ok && p.txn >= 0 && !h.IsTransactional():
		return true
	case !ok || h.ProducerEpoch > p.epoch:
		return h.BaseSequence != 0
	}
	return h.BaseSequence != p.last+1
}

func (m *model) truncate(from Index) {
	n := int(from - m.boundary - 1)
	m.entries, m.views = m.entries[:n:n], m.views[:n+1:n+1]
}

// apply applies entries up to i.
func (m *model) apply(i Index) {
	for m.applied < i {
		e := m.entry(m.applied + 1)
		a := m.states[m.applied].clone()
		h, _ := batch.ParseHeader(e.Frame)
		a.high = h.BaseOffset + Offset(h.LastOffsetDelta) + 1
		switch {
		case e.Kind == KindLogStart:
			start, _ := DecodeLogStart(e.Frame[internalHead:])
			a.start = max(a.start, min(start, a.high))
		case e.Kind == KindBatch && h.IsControl():
			first, ok := a.open[h.ProducerID]
			c, _ := batch.ParseControl(e.Frame)
			if ok && c.Type == batch.ControlAbort {
				a.aborted = append(a.aborted, AbortedTxn{h.ProducerID, first, h.BaseOffset})
			}
			delete(a.open, h.ProducerID)
		case e.Kind == KindBatch && h.IsTransactional():
			if _, ok := a.open[h.ProducerID]; !ok {
				a.open[h.ProducerID] = h.BaseOffset
			}
		}
		m.applied++
		m.states[m.applied] = a
	}
}

func (m *model) state() refApplied { return m.states[m.applied] }

// offsets are the watermarks.
func (m *model) offsets() Offsets {
	a := m.state()
	return Offsets{LogStart: a.start, LastStable: a.stable(), HighWatermark: a.high, LogEnd: m.view().end}
}

// drop forgets entries up to the new boundary.
func (m *model) drop(boundary Index) {
	if boundary == m.boundary {
		return
	}
	n := int(boundary - m.boundary)
	m.term = m.entries[n-1].Term
	m.entries, m.views, m.boundary = slices.Clone(m.entries[n:]), slices.Clone(m.views[n:]), boundary
}

// resetTo is the model of a log that was reset to a state of another model at index i.
func resetTo(donor *model, i Index) *model {
	n := newModel()
	v := donor.views[i-donor.boundary].clone()
	n.boundary, n.term, n.views, n.applied, n.durable = i, v.term, []refView{v}, i, i
	a := refApplied{start: v.end, high: v.end, open: map[int64]Offset{}}
	for id, p := range v.producers {
		if p.txn >= 0 {
			a.open[id] = p.txn
		}
	}
	n.states = map[Index]refApplied{i: a}
	return n
}

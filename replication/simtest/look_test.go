package simtest

//quorlog:bubble a world lives in one

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// leasePatience is long after any leader without a majority must have stepped down: ten leases of 200 ms.
const leasePatience = 2 * time.Second

// look looks at all replicas that run.
func (w *world) look() {
	for _, m := range w.machines {
		if !m.up || m.gone.Load() {
			continue
		}
		for i, t := range w.truths {
			p := m.parts[i].Load()
			if p == nil || m.fatal.Load() != nil {
				continue
			}
			w.lookAtLeader(m, t, p)
			m.read(t, p)
		}
	}
}

// lookAtLeader checks what a replica says that believes to lead.
func (w *world) lookAtLeader(m *machine, t *truth, p *partition.Partition) {
	if !p.Leading() {
		return
	}
	w.book.checked(leaseEnds, 1)
	if !m.alone.IsZero() && time.Since(m.alone) > leasePatience && !m.slow {
		w.book.violate(leaseEnds, "node %d, partition %d: leads after %v without anybody", m.node, t.n, time.Since(m.alone))
	}
	e := p.Leader().Epoch
	floor := t.floor(e) // before the watermark: it only rises
	o, err := p.Offsets(e)
	if err != nil {
		return // it does not lead any more, or in a later epoch
	}
	w.book.checked(servedRises, 1)
	if o.HighWatermark < floor {
		w.book.violate(servedRises, "node %d, partition %d: leads in epoch %d at watermark %d; %d was served before", m.node, t.n, e, o.HighWatermark, floor)
	}
	t.serve(e, o.HighWatermark, o.LogStart)
}

// offsetsOf asks a replica, leader or not, where it stands; false while it does not say.
func offsetsOf(p *partition.Partition) (partition.Offsets, bool) {
	o, err := ask(p)
	return o, err == nil
}

func ask(p *partition.Partition) (partition.Offsets, error) {
	res, err := p.Read(partition.ReadRequest{Offset: -1, MaxBytes: 1, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch, AnyReplica: true})
	if err == nil {
		res.Range.Release()
	}
	if errors.Is(err, replication.ErrOffsetOutOfRange) { // below the log start, as wanted
		err = nil
	}
	return res.Offsets, err
}

// read reads what is new below a replica's watermark and holds it against the truth.
func (m *machine) read(t *truth, p *partition.Partition) {
	o, err := ask(p)
	if err != nil {
		if errors.Is(err, replication.ErrStorage) && !m.faulty && m.fatal.Load() == nil {
			m.w.book.violate(storageHolds, "node %d, partition %d: %v", m.node, t.n, err)
		}
		return
	}
	m.mu.Lock()
	v := m.mu.views[t.n]
	m.mu.views[t.n].high = max(v.high, o.HighWatermark)
	m.mu.Unlock()
	b := m.w.book
	b.checked(watermarkRises, 1)
	if o.HighWatermark < v.high {
		b.violate(watermarkRises, "node %d, partition %d: watermark %d after %d", m.node, t.n, o.HighWatermark, v.high)
		return
	}
	if o.LogStart > o.LastStable || o.LastStable > o.HighWatermark || o.HighWatermark > o.LogEnd {
		b.violate(watermarkOrder, "node %d, partition %d: %+v", m.node, t.n, o)
	}
	b.checked(watermarkOrder, 1)
	next, err := m.readFrom(t, p, max(v.next, o.LogStart), o.HighWatermark)
	if err != nil {
		b.violate(committedStays, "node %d, partition %d: %v", m.node, t.n, err)
	}
	m.mu.Lock()
	m.mu.views[t.n].next = max(m.mu.views[t.n].next, next)
	m.mu.Unlock()
}

// readFrom reads from an offset up to a watermark, or until the replica serves no more, and returns how far it came.
func (m *machine) readFrom(t *truth, p *partition.Partition, from, to batch.Offset) (batch.Offset, error) {
	for from < to {
		res, err := p.Read(partition.ReadRequest{
			Offset: from, MaxBytes: 1 << 20, AtLeastOne: true, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch, AnyReplica: true,
		})
		switch {
		case errors.Is(err, replication.ErrOffsetOutOfRange) && res.Offsets.LogStart > from:
			from = res.Offsets.LogStart // retention overtook us
			continue
		case errors.Is(err, replication.ErrOffsetNotAvailable), errors.Is(err, replication.ErrNotLeader), errors.Is(err, replication.ErrStorage):
			return from, nil
		case err != nil:
			return from, fmt.Errorf("read from %d: %w", from, err)
		}
		data, err := res.Range.AppendTo(nil)
		res.Range.Release()
		if err != nil {
			return from, nil // its disk was taken away
		}
		if len(data) == 0 {
			return from, nil
		}
		if from, err = m.take(t, data, from, res.Offsets); err != nil {
			return from, err
		}
	}
	return from, nil
}

// take hands frames to the truth.
func (m *machine) take(t *truth, data []byte, from batch.Offset, o partition.Offsets) (batch.Offset, error) {
	for len(data) > 0 {
		h, err := batch.ParseHeader(data)
		if err != nil || h.Size() > len(data) {
			return from, fmt.Errorf("read from %d: a frame of %d bytes in %d: %w", from, h.Size(), len(data), err)
		}
		frame := data[:h.Size()]
		data = data[h.Size():]
		if h.IsInternal() {
			continue
		}
		m.w.book.checked(noHoles, 1)
		if h.BaseOffset > from && from > o.LogStart {
			m.w.book.violate(noHoles, "node %d, partition %d: offset %d comes where %d must", m.node, t.n, h.BaseOffset, from)
		}
		if h.NextOffset() > o.HighWatermark {
			return from, fmt.Errorf("offset %d is served, the watermark is %d", h.LastOffset(), o.HighWatermark)
		}
		t.learn(m.node, h, frame)
		from = max(from, h.NextOffset())
	}
	return from, nil
}

// leaderOf finds the machine that leads a partition in the newest epoch; nil if none does.
func (w *world) leaderOf(i int) (l *machine) {
	epoch := batch.NoEpoch
	for _, m := range w.machines {
		if p := m.parts[i].Load(); p != nil && p.Leading() && p.Leader().Epoch > epoch {
			l, epoch = m, p.Leader().Epoch
		}
	}
	return l
}

func (w *world) allLed() bool {
	for i := range w.truths {
		if w.leaderOf(i) == nil {
			return false
		}
	}
	return true
}

// settle heals everything. The cluster must work again, and all replicas must come to the same, byte for byte.
func (w *world) settle() {
	w.heal()
	if !w.await("leaders of all partitions", w.allLed) {
		return
	}
	before := make([]batch.Offset, len(w.truths))
	for i, t := range w.truths {
		before[i] = t.high()
	}
	if !w.await("batches that are taken again", func() bool {
		for i, t := range w.truths {
			if t.high() <= before[i] {
				return false
			}
		}
		return true
	}) {
		return
	}
	if !w.await("reassignments that end", func() bool { return !slices.ContainsFunc(w.places, place.moving) }) {
		return
	}
	w.stopClients()
	if !w.await("replicas that agree", w.agree) {
		return
	}
	for i, t := range w.truths {
		w.compare(i, t)
		w.audit(i)
	}
}

// heal ends all faults.
func (w *world) heal() {
	w.calm()
	for _, m := range w.machines {
		m.mend()
		m.back = time.Now()
	}
	w.pass(tick)
}

// agree reports whether all replicas run and stand at the same place.
func (w *world) agree() bool {
	for i := range w.truths {
		var all []partition.Offsets
		for _, m := range w.hosts(i) {
			p := m.parts[i].Load()
			if !m.up || p == nil {
				return false
			}
			o, ok := offsetsOf(p)
			if !ok {
				return false
			}
			all = append(all, o)
		}
		for _, o := range all[1:] {
			if o != all[0] {
				return false
			}
		}
	}
	return true
}

// compare reads all of a partition on all machines.
func (w *world) compare(i int, t *truth) {
	var o partition.Offsets
	for _, m := range w.hosts(i) {
		p := m.parts[i].Load()
		var ok bool
		if o, ok = offsetsOf(p); !ok {
			w.book.violate(replicasAgree, "node %d, partition %d does not serve", m.node, i)
			return
		}
		w.book.checked(replicasAgree, 1)
		end, err := m.readFrom(t, p, o.LogStart, o.HighWatermark)
		if err != nil || end != o.HighWatermark {
			w.book.violate(replicasAgree, "node %d, partition %d: read up to %d of %+v: %v", m.node, i, end, o, err)
		}
	}
	t.finish(o.LogStart, o.HighWatermark)
}

// describe tells how things stand, for a violation.
func (w *world) describe() string {
	var b strings.Builder
	for _, m := range w.machines {
		fmt.Fprintf(&b, "\n\tnode %d: up %v, gone %v, slow %v;", m.node, m.up, m.gone.Load(), m.slow)
		for i := range w.truths {
			if p := m.parts[i].Load(); p != nil {
				o, _ := offsetsOf(p)
				fmt.Fprintf(&b, " [%d] %+v leads %v %+v", i, p.Leader(), p.Leading(), o)
			}
		}
	}
	return b.String()
}

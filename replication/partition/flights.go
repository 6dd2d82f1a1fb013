package partition

import (
	"slices"
	"sync"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// flights is what of a partition's appends is under way: those given to Raft and not answered, in order, and what they mean
// for their producers' sequences. A producer has an entry while it has batches in flight; else the log knows best.
type flights struct {
	mu        sync.Mutex
	queue     []*Pending
	head      int
	running   bool
	producers map[int64]*flight
	verifying map[int64]*Verification
	away      map[int64]sequence // producers of which a batch was turned away; see turnAway
}

// sequence is a place in what a producer sends.
type sequence struct {
	epoch int16
	first int32
}

// maxAway bounds flights.away. A producer whose entry went too early may leave a gap, if it is new and its first batch failed
// here while a thousand others' did.
const maxAway = 1000

// turnAway remembers that a batch was not stored. Until something of its producer is, what follows the batch must not be taken
// for the beginning of a producer that this log has forgotten.
func (f *flights) turnAway(h *batch.Header) {
	if !h.HasProducer() || h.BaseSequence < 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at := sequence{h.ProducerEpoch, h.BaseSequence}
	if old, ok := f.away[h.ProducerID]; ok && old.epoch == at.epoch && old.first < at.first {
		return
	}
	if f.away == nil {
		f.away = make(map[int64]sequence)
	}
	for id := range f.away {
		if len(f.away) < maxAway {
			break
		}
		delete(f.away, id)
	}
	f.away[h.ProducerID] = at
}

// beginsAnewLocked tells whether a producer of which nothing is known may begin with a batch, as Kafka lets it: what was known has
// expired, or its records were deleted. A transaction begins with its first batch, and with sequence 0 if it has its own epoch.
func (f *flights) beginsAnewLocked(pd *Pending) bool {
	h := &pd.header
	if before, turned := f.away[h.ProducerID]; turned && before.epoch == h.ProducerEpoch && before.first < h.BaseSequence {
		return false
	}
	return !h.IsTransactional() || pd.continues && f.isVerifiedLocked(pd) && pd.verified.lowest >= h.BaseSequence
}

// flight is a producer's batches under way. Invariant: they continue what the log has of the producer, without a gap, unless
// one of them fails; then the flight is forgotten.
type flight struct {
	epoch       int16
	last        int32 // sequence of the last record
	open        bool  // the producer's transaction is, behind the batches
	coordinator int32 // epoch of the last marker's coordinator
	batches     []*Pending
}

// admit decides whether a batch may go to Raft: nil, false. If its answer is known, or will be that of a batch under way, it
// is seen to: true. The caller holds p.order.
func (p *Partition) admit(pd *Pending) (answered bool, err error) {
	h := &pd.header
	if !h.HasProducer() || mutation.On(mutation.NoDedup) {
		return false, nil
	}
	f := &p.flights
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.producers[h.ProducerID]
	if h.IsTransactional() {
		state, known := p.log.LastProducer(h.ProducerID)
		if pd.marker != nil {
			return false, f.admitMarkerLocked(pd, fl, state, known)
		}
		if pd.client && !f.openLocked(h, state, known) && !f.isVerifiedLocked(pd) && !isStored(state, known, h) {
			return false, replication.ErrInvalidTxnState
		}
	}
	if fl != nil {
		if settled, answered, err := fl.admit(pd); settled {
			return answered, err
		}
	}
	state, known := p.log.LastProducer(h.ProducerID)
	v := log.CheckSequence(state, known, *h)
	switch v.Verdict {
	case log.SequenceOK:
	case log.SequenceDuplicate:
		if v.Last < p.log.Offsets().HighWatermark {
			pd.finish(duplicate(p.log, pd, v), nil)
			return true, nil
		}
		return false, nil // stored, but not committed: the log refuses it once more, and that is answered when it is committed
	case log.SequenceUnknown:
		if fl != nil || !f.beginsAnewLocked(pd) {
			return false, nil // the log refuses it, as below
		}
		pd.anew = true
	default:
		// A refusal says what the log does not hold, and this may be a leader that others have left behind. So the log judges, in
		// the batch's place among the entries: its refusal is answered once it is committed.
		return false, nil
	}
	f.addLocked(pd, &state)
	return false, nil
}

// admit judges a batch of a producer that has others under way. Not settled: only the log can tell.
func (fl *flight) admit(pd *Pending) (settled, answered bool, err error) {
	h := &pd.header
	if h.ProducerEpoch < fl.epoch {
		return true, false, replication.ErrInvalidProducerEpoch
	}
	switch {
	case fl.open && !h.IsTransactional():
		return true, false, replication.ErrInvalidTxnState
	case h.BaseSequence == batch.NoSequence: // a coordinator's
		if h.ProducerEpoch > fl.epoch {
			fl.epoch, fl.last = h.ProducerEpoch, -1
		}
		fl.open = h.IsTransactional()
		fl.batches = append(fl.batches, pd)
		return true, false, nil
	case h.ProducerEpoch > fl.epoch:
		if h.BaseSequence != 0 {
			return false, false, nil // a gap, unless the log knows the epoch
		}
	default:
		for _, b := range fl.batches {
			if b.header.ProducerEpoch == h.ProducerEpoch && b.header.BaseSequence == h.BaseSequence && b.header.LastSequence() == h.LastSequence() {
				b.same = append(b.same, pd)
				return true, true, nil
			}
		}
		if h.BaseSequence != batch.AddSequence(fl.last, 1) {
			// A retry of something older; or a gap, which the log's verdict can't see: what is in flight is behind it.
			return false, false, nil
		}
	}
	fl.epoch, fl.last, fl.open = h.ProducerEpoch, h.LastSequence(), h.IsTransactional()
	fl.batches = append(fl.batches, pd)
	return true, false, nil
}

// addLocked begins a producer's flight. A batch that the log would take, of a producer with a flight, does not continue it.
func (f *flights) addLocked(pd *Pending, known *log.ProducerState) {
	h := &pd.header
	if f.producers[h.ProducerID] != nil {
		return
	}
	if f.producers == nil {
		f.producers = make(map[int64]*flight)
	}
	fl := &flight{
		epoch: h.ProducerEpoch, last: h.LastSequence(), open: h.IsTransactional() && !h.IsControl(),
		coordinator: known.CoordinatorEpoch, batches: []*Pending{pd},
	}
	if h.BaseSequence == batch.NoSequence {
		fl.last = -1
		if known.Epoch == h.ProducerEpoch {
			fl.last = known.LastSequence
		}
	}
	f.producers[h.ProducerID] = fl
}

// duplicate is the answer to a batch that was stored before.
func duplicate(l *log.Log, pd *Pending, v log.SequenceVerdict) Appended {
	a := Appended{Base: v.Base, Last: v.Last, LogStart: l.Offsets().LogStart, Timestamp: batch.NoTimestamp, Duplicate: true, Epoch: l.EpochOf(v.Base)}
	if pd.header.IsLogAppendTime() {
		a.Timestamp = v.Timestamp
	}
	return a
}

// push queues what went to Raft; true if nobody waits for answers yet.
func (f *flights) push(pd *Pending) (start bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, pd)
	start = !f.running
	f.running = true
	return start
}

// pop takes the oldest; nil, and nobody waits any more, if there is none.
func (f *flights) pop() *Pending {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.head == len(f.queue) {
		f.queue, f.head, f.running = f.queue[:0], 0, false
		return nil
	}
	pd := f.queue[f.head]
	f.queue[f.head] = nil
	f.head++
	if f.head > len(f.queue)/2 { // a busy partition never gets to the end
		n := copy(f.queue, f.queue[f.head:])
		clear(f.queue[n:])
		f.queue, f.head = f.queue[:n], 0
	}
	return pd
}

// land takes an answered batch out of its producer's flight and returns its duplicates. If it was not stored, the producer's
// flight is forgotten: what follows in it has a gap in front, and from now on the log tells what comes next. But not while a
// marker is in it: the log would still take the transaction for open.
func (f *flights) land(pd *Pending, stored bool) (same []*Pending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	same, pd.same = pd.same, nil
	id := pd.header.ProducerID
	if stored {
		delete(f.away, id)
	}
	fl := f.producers[id]
	if fl == nil {
		return same
	}
	i := slices.Index(fl.batches, pd)
	if i < 0 {
		return same
	}
	fl.batches = slices.Delete(fl.batches, i, i+1)
	if len(fl.batches) == 0 || !stored && !slices.ContainsFunc(fl.batches, (*Pending).isMarker) {
		delete(f.producers, id)
	}
	return same
}

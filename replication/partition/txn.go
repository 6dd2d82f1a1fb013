package partition

import (
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Verification is a question to the coordinator, whether a partition is part of a transaction, that is under way (KIP-890).
// It counts until a marker ends the transaction: what was true of it is not of the next one, though with an old client both have
// the same epoch.
type Verification struct {
	of       *flights
	producer int64
	epoch    int16
	users    int   // guarded by of.mu
	lowest   int32 // sequence of all batches that it is for; likewise
}

// Verify tells whether a batch must be verified before it may be appended, and begins that. The result goes into
// Batch.Verified, and is to be ended whatever happens. nil: the batch continues a transaction that is open here, was stored
// before, or is of no transaction.
func Verify(p *Partition, h batch.Header) *Verification {
	if !h.IsTransactional() || !h.HasProducer() || p.log == nil {
		return nil
	}
	f := &p.flights
	f.mu.Lock()
	defer f.mu.Unlock()
	state, known := p.log.LastProducer(h.ProducerID)
	if f.openLocked(&h, state, known) || isStored(state, known, &h) {
		return nil
	}
	v := f.verifying[h.ProducerID]
	if v == nil || v.epoch != h.ProducerEpoch {
		if f.verifying == nil {
			f.verifying = make(map[int64]*Verification)
		}
		v = &Verification{of: f, producer: h.ProducerID, epoch: h.ProducerEpoch, lowest: h.BaseSequence}
		f.verifying[h.ProducerID] = v
	}
	v.users++
	v.lowest = min(v.lowest, h.BaseSequence)
	return v
}

// End gives back what Verify returned; nil is fine.
func (v *Verification) End() {
	if v == nil {
		return
	}
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	if v.users--; v.users == 0 && v.of.verifying[v.producer] == v {
		delete(v.of.verifying, v.producer)
	}
}

// Refused tells that a batch is not appended after all: what its producer sends behind it must not be taken for a beginning. nil is
// fine.
func (v *Verification) Refused(h batch.Header) {
	if v != nil {
		v.of.turnAway(&h)
	}
}

// openLocked tells whether a batch's transaction is open, behind what is in flight.
func (f *flights) openLocked(h *batch.Header, state log.ProducerState, known bool) bool {
	if fl := f.producers[h.ProducerID]; fl != nil {
		return fl.open && fl.epoch == h.ProducerEpoch
	}
	return known && state.CurrentTxnStart >= 0 && state.Epoch == h.ProducerEpoch
}

// isVerifiedLocked tells whether a batch's verification still counts.
func (f *flights) isVerifiedLocked(pd *Pending) bool {
	return pd.verified != nil && f.verifying[pd.header.ProducerID] == pd.verified
}

// isStored tells that a batch is a retry of one that the log knows.
func isStored(state log.ProducerState, known bool, h *batch.Header) bool {
	return log.CheckSequence(state, known, *h).Verdict == log.SequenceDuplicate
}

// Marker ends a producer's transaction in a partition. It is appended as a Batch. The errors beside those of Append are
// replication.ErrInvalidProducerEpoch for a late marker, and replication.ErrCoordinatorFenced for one of a coordinator that has
// been replaced. A marker may be appended twice, and where no transaction is open: it fences what the producer sent before.
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16
	CoordinatorEpoch int32
	Commit           bool
	// Bumped tells that the epoch is above that of the transaction (transaction.version 2): then a marker of the current epoch
	// is a late one.
	Bumped bool
}

// Batch is the marker as it is appended.
func (m Marker) Batch(now time.Time) Batch {
	c := batch.Control{
		Type: batch.ControlAbort, ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch, CoordinatorEpoch: m.CoordinatorEpoch,
		Timestamp: now.UnixMilli(),
	}
	if m.Commit {
		c.Type = batch.ControlCommit
	}
	return Batch{Frame: batch.BuildControl(c), marker: &m}
}

func (pd *Pending) isMarker() bool { return pd.marker != nil }

// admitMarkerLocked decides whether a marker may go to Raft, behind what is in flight of its producer.
func (f *flights) admitMarkerLocked(pd *Pending, fl *flight, state log.ProducerState, known bool) error {
	m := pd.marker
	if fl != nil {
		known = true
		state.Epoch, state.CoordinatorEpoch, state.CurrentTxnStart = fl.epoch, fl.coordinator, -1
		if fl.open {
			state.CurrentTxnStart = 0
		}
	}
	c := batch.Control{ProducerEpoch: m.ProducerEpoch, CoordinatorEpoch: m.CoordinatorEpoch}
	switch log.CheckMarker(state, known, c, m.Bumped) {
	case log.SequenceOK:
	case log.SequenceOldCoordinator:
		return replication.ErrCoordinatorFenced
	default:
		return replication.ErrInvalidProducerEpoch
	}
	// With a bumped epoch the marker is of the transaction before, which the coordinator waits for while it is asked.
	if v := f.verifying[m.ProducerID]; v != nil && !(m.Bumped && m.ProducerEpoch <= v.epoch) {
		delete(f.verifying, m.ProducerID)
	}
	if !known {
		state = log.ProducerState{Epoch: -1, LastSequence: -1, CoordinatorEpoch: -1}
	}
	if fl == nil {
		f.addLocked(pd, &state)
		fl = f.producers[m.ProducerID]
	} else {
		fl.batches = append(fl.batches, pd)
		if m.ProducerEpoch > fl.epoch {
			fl.epoch, fl.last = m.ProducerEpoch, -1
		}
	}
	fl.open, fl.coordinator = false, m.CoordinatorEpoch
	return nil
}

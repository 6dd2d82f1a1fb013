package log

import (
	"slices"
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

// rememberedBatches is how many of a producer's last batches are remembered, so that a retry is answered with the offset
// that it already has. Kafka's number: clients keep at most five requests in flight (KIP-98).
const rememberedBatches = 5

// maxProducers is how many producers a log remembers: some 30 MB. Nobody has to have been given the ids that he writes with. Who is
// forgotten goes on as one whose id has expired does.
const maxProducers = 100_000

// ProducerBatch is a stored batch of an idempotent producer.
type ProducerBatch struct {
	FirstSequence, LastSequence int32
	BaseOffset, LastOffset      Offset
	Timestamp                   int64 // the batch's maximum timestamp
}

// ProducerState is what the log knows of one producer id at its end. It is a plain value.
type ProducerState struct {
	ID           int64
	Epoch        int16
	LastSequence int32 // -1: nothing stored in this epoch
	// CurrentTxnStart is the first offset of the producer's open transaction, -1 where none is open.
	CurrentTxnStart Offset
	// CoordinatorEpoch is that of the producer's last marker, -1 before the first. An older coordinator's markers are refused.
	CoordinatorEpoch int32
	// LastSeen is when the producer last wrote here, in this node's clock (ms); for expiry only.
	LastSeen int64

	recent [rememberedBatches]ProducerBatch
	n      uint8
}

// Batches returns the last stored batches of the current producer epoch, oldest first: at most five.
func (p *ProducerState) Batches() []ProducerBatch { return p.recent[:p.n] }

// Verdict is the outcome of a sequence check.
type Verdict uint8

// The verdicts.
const (
	SequenceOK             Verdict = iota
	SequenceDuplicate              // stored already: answer with its offsets
	SequenceOutOfOrder             // a gap, or stored too long ago to know
	SequenceStaleEpoch             // an older producer epoch
	SequenceUnknown                // an unknown producer that does not begin with sequence 0
	SequenceInTransaction          // a plain batch of a producer whose transaction is open
	SequenceOldCoordinator         // a marker of a coordinator that has been replaced
)

// SequenceVerdict is the outcome of a sequence check; the offsets and timestamp are those of the stored duplicate.
type SequenceVerdict struct {
	Verdict    Verdict
	Base, Last Offset
	Timestamp  int64
}

// CheckSequence decides whether a batch may follow what is known of its producer (KIP-98, KIP-360). Batches without a
// producer id always may. known is false where the log has no state of the producer: then only sequence 0 may come,
// because anything else might hide that earlier batches were lost, unless the leader knows better (batch.UnstampedAnew). Markers, and what a coordinator writes for a producer, carry
// no sequence: only their epoch is checked.
func CheckSequence(st ProducerState, known bool, h batch.Header) SequenceVerdict {
	return st.check(known, &h)
}

func (p *ProducerState) check(known bool, h *batch.Header) SequenceVerdict {
	switch {
	case h.ProducerID < 0:
		return SequenceVerdict{}
	case known && h.ProducerEpoch < p.Epoch:
		return SequenceVerdict{Verdict: SequenceStaleEpoch}
	case h.IsControl():
		return SequenceVerdict{}
	case known && p.CurrentTxnStart >= 0 && !h.IsTransactional():
		return SequenceVerdict{Verdict: SequenceInTransaction}
	case h.BaseSequence == batch.NoSequence:
		return SequenceVerdict{}
	case !known:
		if h.BaseSequence != 0 {
			return SequenceVerdict{Verdict: SequenceUnknown}
		}
		return SequenceVerdict{}
	case h.ProducerEpoch > p.Epoch:
		if h.BaseSequence != 0 {
			return SequenceVerdict{Verdict: SequenceOutOfOrder}
		}
		return SequenceVerdict{}
	}
	for _, b := range p.Batches() {
		if b.FirstSequence == h.BaseSequence && b.LastSequence == h.LastSequence() {
			return SequenceVerdict{Verdict: SequenceDuplicate, Base: b.BaseOffset, Last: b.LastOffset, Timestamp: b.Timestamp}
		}
	}
	if h.BaseSequence == batch.AddSequence(p.LastSequence, 1) {
		return SequenceVerdict{}
	}
	// Not even what lies before all that is remembered is called a duplicate: a producer may have begun here in the middle of its
	// sequence, so that it may never have been stored, and clients take such an answer for a success.
	return SequenceVerdict{Verdict: SequenceOutOfOrder}
}

// CheckMarker decides whether a marker may follow what is known of its producer (KIP-98, KIP-890). strict is set for a
// transaction whose end bumped the epoch: then a marker of the current epoch is a late one, unless nothing is open, and it only
// says again what was said. Of two reasons the producer's epoch is told, as in Kafka.
func CheckMarker(st ProducerState, known bool, c batch.Control, strict bool) Verdict {
	switch {
	case !known:
		return SequenceOK
	case c.ProducerEpoch < st.Epoch, strict && c.ProducerEpoch == st.Epoch && st.CurrentTxnStart >= 0:
		return SequenceStaleEpoch
	case c.CoordinatorEpoch < st.CoordinatorEpoch:
		return SequenceOldCoordinator
	}
	return SequenceOK
}

// absorb moves the state behind a stored batch or marker.
func (p *ProducerState) absorb(h *parsed, now int64) {
	if h.ProducerEpoch != p.Epoch {
		p.Epoch, p.LastSequence = h.ProducerEpoch, -1
		p.forget()
	}
	p.LastSeen = now
	if h.IsControl() {
		p.CurrentTxnStart = -1
		p.CoordinatorEpoch = max(p.CoordinatorEpoch, h.coordinator)
		return
	}
	if h.IsTransactional() && p.CurrentTxnStart < 0 {
		p.CurrentTxnStart = h.BaseOffset
	}
	if h.BaseSequence == batch.NoSequence {
		return
	}
	if p.n == rememberedBatches {
		copy(p.recent[:], p.recent[1:])
		p.n--
	}
	p.recent[p.n] = ProducerBatch{
		FirstSequence: h.BaseSequence, LastSequence: h.LastSequence(),
		BaseOffset: h.BaseOffset, LastOffset: h.LastOffset(), Timestamp: h.MaxTimestamp,
	}
	p.n++
	p.LastSequence = h.LastSequence()
}

// forget drops the remembered batches. What is not remembered is zero, so that equal states are equal values.
func (p *ProducerState) forget() { p.recent, p.n = [rememberedBatches]ProducerBatch{}, 0 }

// agrees reports whether p is what is left of all if the producer may have been forgotten in between.
func (p ProducerState) agrees(all ProducerState) bool {
	mine, more := p.Batches(), all.Batches()
	if len(mine) > len(more) || !slices.Equal(mine, more[len(more)-len(mine):]) {
		return false
	}
	if p.CoordinatorEpoch < all.CoordinatorEpoch { // what is forgotten refuses no older coordinator
		all.CoordinatorEpoch = p.CoordinatorEpoch
	}
	if p.n == 0 && p.LastSequence < 0 {
		all.LastSequence = p.LastSequence
	}
	p.LastSeen, p.recent, p.n = all.LastSeen, all.recent, all.n
	return p == all
}

// producers is the append view's table of producers. The writer alone changes it, under Log.mu.
type producers map[int64]*ProducerState

func (t producers) get(id int64) ProducerState {
	if p, ok := t[id]; ok {
		return *p
	}
	return newProducer(id)
}

func (t producers) put(p ProducerState) {
	if old, ok := t[p.ID]; ok {
		*old = p
	} else {
		t[p.ID] = &p
	}
}

// longestSilent are the producers to forget so that no more than most are left, and those that were silent for just as long. Nobody with
// an open transaction is among them.
func (t producers) longestSilent(most int) (ids []int64) {
	if len(t) <= most {
		return nil
	}
	seen := make([]int64, 0, len(t))
	for _, p := range t {
		if p.CurrentTxnStart < 0 {
			seen = append(seen, p.LastSeen)
		}
	}
	slices.Sort(seen)
	n := min(len(t)-most, len(seen))
	for id, p := range t {
		if n > 0 && p.CurrentTxnStart < 0 && p.LastSeen <= seen[n-1] {
			ids = append(ids, id)
		}
	}
	return ids
}

func newProducer(id int64) ProducerState {
	return ProducerState{ID: id, Epoch: -1, LastSequence: -1, CurrentTxnStart: -1, CoordinatorEpoch: -1}
}

// stage collects what one Append does to producers, so that the table moves only when the frames are durable.
type stage struct {
	table  producers
	staged map[int64]ProducerState
	before int64 // producers idle since before this moment are forgotten
}

func (s *stage) begin(t producers, before int64) {
	s.table, s.before = t, before
	if s.staged == nil {
		s.staged = make(map[int64]ProducerState)
	}
	clear(s.staged)
}

// lookup returns a producer's state as the frames staged so far leave it.
func (s *stage) lookup(id int64) (st ProducerState, known bool) {
	if p, ok := s.staged[id]; ok {
		return p, true
	}
	if p, ok := s.table[id]; ok && !p.expired(s.before) {
		return *p, true
	}
	return newProducer(id), false
}

func (s *stage) get(id int64) ProducerState { st, _ := s.lookup(id); return st }

func (s *stage) put(p ProducerState) { s.staged[p.ID] = p }

// publish moves the table. Log.mu is held.
func (s *stage) publish() {
	for _, p := range s.staged {
		s.table.put(p)
	}
}

// expired reports whether the producer was last seen before `before` and holds no transaction open.
func (p *ProducerState) expired(before int64) bool {
	return p.LastSeen < before && p.CurrentTxnStart < 0
}

// expiryLimit is the moment before which an idle producer is forgotten.
func expiryLimit(now time.Time, expiry time.Duration) int64 {
	if expiry <= 0 {
		return -1 << 62
	}
	return now.Add(-expiry).UnixMilli()
}

func (p *ProducerState) encode(e *encoder) {
	e.i64(p.ID)
	e.u16(uint16(p.Epoch))
	e.u32(uint32(p.LastSequence))
	e.offset(p.CurrentTxnStart)
	e.i64(p.LastSeen)
	n := p.n
	if p.CoordinatorEpoch >= 0 {
		n |= hasCoordinator
	}
	e.u8(n)
	for _, b := range p.Batches() {
		e.u32(uint32(b.FirstSequence))
		e.u32(uint32(b.LastSequence))
		e.offset(b.BaseOffset)
		e.offset(b.LastOffset)
		e.i64(b.Timestamp)
	}
	if p.CoordinatorEpoch >= 0 {
		e.u32(uint32(p.CoordinatorEpoch))
	}
}

// hasCoordinator marks the count of batches of a producer whose coordinator's epoch follows them. Most have none.
const hasCoordinator = 0x80

// producerMin is the encoded size of a producer without batches.
const producerMin = 31

func decodeProducer(d *decoder) ProducerState {
	p := ProducerState{ID: d.i64(), Epoch: int16(d.u16()), LastSequence: int32(d.u32()), CurrentTxnStart: d.offset(), LastSeen: d.i64(), CoordinatorEpoch: -1}
	n := d.u8()
	coordinator := n&hasCoordinator != 0
	if n &^= hasCoordinator; n > rememberedBatches {
		d.bad = true
		return p
	}
	p.n = n
	for i := range p.recent[:n] {
		p.recent[i] = ProducerBatch{
			FirstSequence: int32(d.u32()), LastSequence: int32(d.u32()),
			BaseOffset: d.offset(), LastOffset: d.offset(), Timestamp: d.i64(),
		}
	}
	if coordinator {
		p.CoordinatorEpoch = int32(d.u32())
	}
	return p
}

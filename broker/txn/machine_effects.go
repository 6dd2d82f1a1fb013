package txn

import (
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
)

// CallID names a request that waits for an answer.
type CallID = coordinator.CallID

// Event is what a machine is told: a request, the end of a write, news of markers, or the passing of time.
type Event interface{ isEvent() }

// InitProducer is an InitProducerId request. Expected is what the producer says that it is, noIdentity if it says nothing.
// Fresh is a producer id that nobody has, or None; where one is needed the answer is NeedID.
type InitProducer struct {
	Call     CallID
	Expected Identity
	Timeout  time.Duration
	Fresh    ProducerID
}

// AddPartitions adds partitions to the transaction.
type AddPartitions struct {
	Call CallID
	Identity
	Partitions []Partition
	Version    Version
}

// End is an EndTxn request. Fresh is as in InitProducer.
type End struct {
	Call CallID
	Identity
	Commit  bool
	Version Version
	Fresh   ProducerID
}

// Marked tells that a partition has the marker of a transaction, or needs none because it was deleted.
type Marked struct {
	Identity  // of the marker
	Partition Partition
}

// Tick lets due timers fire.
type Tick struct{}

// Written tells that a Write was committed, or why not.
type Written struct {
	Seq uint64
	Err error
}

func (InitProducer) isEvent()  {}
func (AddPartitions) isEvent() {}
func (End) isEvent()           {}
func (Marked) isEvent()        {}
func (Tick) isEvent()          {}
func (Written) isEvent()       {}

// Effect is what a machine wants done.
type Effect interface{ isEffect() }

// Reply answers AddPartitions.
type Reply struct {
	Call CallID
	Err  error
}

// ReplyIdentity answers InitProducer and End: what the producer is to use from now on; noIdentity with an error.
type ReplyIdentity struct {
	Call CallID
	Identity
	Err error
}

// NeedID says that the request must come again with a fresh producer id.
type NeedID struct{ Call CallID }

// Write wants a record committed, after those of all earlier writes; Written tells of the end.
type Write struct {
	Seq    uint64
	Record Record
}

// Mark wants the transaction's marker in its partitions, each of which is told by Marked, however long it takes.
type Mark struct {
	ProducerID ProducerID
	Epoch      Epoch
	Commit     bool
	Version    Version
	Partitions Partitions
}

// Forget says that nothing is left of the id: its machine may go.
type Forget struct{}

func (Reply) isEffect()         {}
func (ReplyIdentity) isEffect() {}
func (NeedID) isEffect()        {}
func (Write) isEffect()         {}
func (Mark) isEffect()          {}
func (Forget) isEffect()        {}

// then is what follows the end of a write.
type then func(now time.Time, err error)

// outbox collects the effects of a step, and remembers what is being written.
type outbox struct {
	out     []Effect
	writes  map[uint64]then
	lastSeq uint64
}

func (o *outbox) reply(call CallID, err error) {
	o.out = append(o.out, Reply{Call: call, Err: err})
}

func (o *outbox) replyIdentity(call CallID, id Identity, err error) {
	if err != nil {
		id = noIdentity
	}
	o.out = append(o.out, ReplyIdentity{Call: call, Identity: id, Err: err})
}

func (o *outbox) failIdentity(call CallID, err error) { o.replyIdentity(call, noIdentity, err) }

func (o *outbox) needID(call CallID) { o.out = append(o.out, NeedID{Call: call}) }

func (o *outbox) write(r Record, t then) {
	o.lastSeq++
	o.writes[o.lastSeq] = t
	o.out = append(o.out, Write{Seq: o.lastSeq, Record: r})
}

func (o *outbox) written(now time.Time, e Written) {
	t := o.writes[e.Seq]
	delete(o.writes, e.Seq)
	if t != nil {
		t(now, e.Err)
	}
}

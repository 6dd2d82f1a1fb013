package group

import (
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/replication"
)

// CallID names a request that waits for an answer. Zero is none.
type CallID = coordinator.CallID

// Event is what a machine is told: a request, the end of a write, or the passing of time.
type Event interface{ isEvent() }

// View is what exists in the cluster, at one time.
type View struct {
	Topics  Topics
	Version uint64 // of Topics: another one means that something may have changed
}

// Join is a JoinGroup request. NewMember is the id that a new member gets.
type Join struct {
	View
	Call      CallID
	Request   JoinRequest
	NewMember string
}

// Sync is a SyncGroup request.
type Sync struct {
	View
	Call    CallID
	Request SyncRequest
}

// Heartbeat is a Heartbeat request.
type Heartbeat struct {
	View
	Call    CallID
	Request HeartbeatRequest
}

// Leave is a LeaveGroup request.
type Leave struct {
	View
	Call    CallID
	Members []LeaveMember
}

// Commit is an OffsetCommit request, reduced to what was found valid.
type Commit struct {
	Call       CallID
	Member     string
	Instance   string
	Generation Generation
	Old        bool // see CommitRequest
	Offsets    []CommitEntry
	Producer   *Producer            // of the transaction that the offsets are part of; nil: of none
	Verified   coordinator.Verified // of Producer
}

// CommitEntry is one offset to store.
type CommitEntry struct {
	Key   OffsetKey
	Value Committed
}

// DeleteOffsets is an OffsetDelete request.
type DeleteOffsets struct {
	Call   CallID
	Topics []DeleteOffsetsTopic
}

// Delete is the deletion of the whole group.
type Delete struct{ Call CallID }

// EnsureShare is what comes before a share group's positions are set: the group is made if there is none.
type EnsureShare struct{ Call CallID }

// TxnEnded is the end of a producer's transaction.
type TxnEnded struct {
	Producer Producer
	Commit   bool
}

// TopicDeleted drops the offsets of a topic that is no more. What was committed for another topic of the name stays.
type TopicDeleted struct {
	Topic string
	ID    replication.TopicID
	// Just now: offsets that do not say of which topic of the name they are can only be of this one.
	Just bool
}

// Sweep drops offsets that have outlived their retention, and the group with them if nothing is left of it.
type Sweep struct{}

// Tick lets due timers fire.
type Tick struct{ View }

// Written tells that a Write was committed, or why not.
type Written struct {
	Seq uint64
	Err error
}

func (Join) isEvent()          {}
func (Sync) isEvent()          {}
func (Heartbeat) isEvent()     {}
func (Leave) isEvent()         {}
func (Commit) isEvent()        {}
func (DeleteOffsets) isEvent() {}
func (Delete) isEvent()        {}
func (EnsureShare) isEvent()   {}
func (TxnEnded) isEvent()      {}
func (TopicDeleted) isEvent()  {}
func (Sweep) isEvent()         {}
func (Tick) isEvent()          {}
func (Written) isEvent()       {}

// Effect is what a machine wants done.
type Effect interface{ isEffect() }

// ReplyJoin answers a Join.
type ReplyJoin struct {
	Call     CallID
	Response JoinResponse
}

// ReplySync answers a Sync.
type ReplySync struct {
	Call     CallID
	Response SyncResponse
}

// Reply answers any other request. Each has one error per member (Leave) or topic (DeleteOffsets) unless Err is set.
type Reply struct {
	Call CallID
	Err  error
	Each []error
}

// Write wants records committed, after those of all earlier writes; Written tells of the end.
type Write struct {
	Seq      uint64
	Records  []Record
	Producer *Producer // whose transaction the records are part of
	Verified coordinator.Verified
}

// Forget says that nothing is left of the group: its machine may go.
type Forget struct{}

func (ReplyJoin) isEffect() {}
func (ReplySync) isEffect() {}
func (Reply) isEffect()     {}
func (Write) isEffect()     {}
func (Forget) isEffect()    {}

// outbox collects the effects of a step, and remembers what is being written.
type outbox struct {
	out     []Effect
	writes  map[uint64]pendingWrite
	lastSeq uint64

	lastMemberWrite uint64              // the last write of answer
	parked          map[uint64][]Effect // answers that wait for such a write
}

type pendingWrite struct {
	records  []Record
	producer *Producer
	then     func(now time.Time, err error)
}

func (o *outbox) replyJoin(call CallID, r JoinResponse) {
	if call != 0 {
		o.out = append(o.out, ReplyJoin{Call: call, Response: r})
	}
}

func (o *outbox) failJoin(call CallID, member string, err error) {
	o.replyJoin(call, JoinResponse{Err: err, Member: member, Generation: NoGeneration})
}

func (o *outbox) replySync(call CallID, r SyncResponse) {
	if call != 0 {
		o.out = append(o.out, ReplySync{Call: call, Response: r})
	}
}

func (o *outbox) reply(call CallID, err error) {
	if call != 0 {
		o.out = append(o.out, Reply{Call: call, Err: err})
	}
}

func (o *outbox) replyEach(call CallID, each []error) {
	if call != 0 {
		o.out = append(o.out, Reply{Call: call, Each: each})
	}
}

// write emits records and keeps what is to be done when they are committed or refused.
func (o *outbox) write(records []Record, then func(now time.Time, err error)) {
	o.writeFor(nil, nil, records, then)
}

// writeFor is write as part of a producer's transaction, if there is one.
func (o *outbox) writeFor(p *Producer, v coordinator.Verified, records []Record, then func(now time.Time, err error)) {
	o.lastSeq++
	o.writes[o.lastSeq] = pendingWrite{records: records, producer: p, then: then}
	o.out = append(o.out, Write{Seq: o.lastSeq, Records: records, Producer: p, Verified: v})
}

// waiting returns the keys of offsets on their way to the log. They come after nothing that is written now, so whatever
// deletes offsets must delete these too.
func (o *outbox) waiting() map[OffsetKey]struct{} {
	keys := map[OffsetKey]struct{}{}
	o.eachWaiting(func(k OffsetKey, _ *Committed) { keys[k] = struct{}{} })
	return keys
}

// eachWaiting calls fn with the offsets on their way to the log, in no particular order.
func (o *outbox) eachWaiting(fn func(OffsetKey, *Committed)) {
	for _, w := range o.writes {
		for i := range w.records {
			if r := &w.records[i]; r.Key != nil && r.Offset != nil {
				fn(*r.Key, r.Offset)
			}
		}
	}
}

// settled ends a write.
func (o *outbox) settled(now time.Time, e Written) {
	if w, ok := o.writes[e.Seq]; ok {
		delete(o.writes, e.Seq)
		w.then(now, e.Err)
	}
}

// answer answers when the records, and all that were written for members before, are in the log. A nil reply is to nobody.
func (o *outbox) answer(reply Effect, records []Record) {
	if len(records) > 0 {
		o.lastMemberWrite = o.lastSeq + 1
		seq := o.lastMemberWrite
		o.write(records, func(_ time.Time, err error) {
			parked := o.parked[seq]
			delete(o.parked, seq)
			if err != nil {
				o.out = append(o.out, Reload{})
				return
			}
			o.out = append(o.out, parked...)
		})
	}
	if reply == nil {
		return
	}
	if _, under := o.writes[o.lastMemberWrite]; under {
		o.parked[o.lastMemberWrite] = append(o.parked[o.lastMemberWrite], reply)
		return
	}
	o.out = append(o.out, reply)
}

package coordinator

import (
	"errors"
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

// CallID names a request that waits for an answer, within its shard. Zero is none.
type CallID uint64

// Machine is the state of one key. E are its events, F its effects.
type Machine[E, F any] interface {
	// Step applies an event. The effects are valid until the next Step.
	Step(now time.Time, ev E) []F
	// Deadline is when the machine wants its next tick; zero if never. It may be early, never late. One that is past when
	// the machine was loaded gives it a first step: there it resumes what its predecessor left undone.
	Deadline() time.Time
	// Blank reports that the machine holds nothing that is worth keeping: it is dropped.
	Blank() bool
}

// Kind is what the runtime must know of a coordinator, whose machines are M.
type Kind[M Machine[E, F], E, F any] interface {
	// New is the machine of a key of which nothing is known.
	New(key string) M
	// NewLoader begins the replay of a partition.
	NewLoader() Loader[M]
	// Tick is the event by which due timers fire.
	Tick() E
	// Written is the event that ends a write: it is committed, or err tells why not.
	Written(seq uint64, err error) E
	// Action tells what the runtime does for an effect.
	Action(effect F) Action
	// Perform does what an effect with Action.Other wants. The shard's lock is held: it must not block nor call the runtime.
	// What it sets off reports back through Runtime.Tell.
	Perform(at Place, effect F)
}

// Action is what the runtime does for an effect. The zero value is nothing.
type Action struct {
	Reply  CallID // answers this call with the effect
	Write  *Write // appends records
	Forget bool   // drops the machine
	Reload bool   // reads the partition again: what the machines hold may be another than what the log holds
	Other  bool   // hands the effect to Kind.Perform
}

// Write is a change of durable state. Writes of one machine are appended in the order of the effects.
type Write struct {
	Seq  uint64 // what Kind.Written names it by
	Size int    // about the bytes of the records
	// Records gives each record to add; a nil value is a tombstone. It is called once, later, without a lock: what it reads
	// must not change any more.
	Records func(add func(key, value []byte))
	// Producer makes the records part of its transaction. They share no batch with other writes then. Its Sequence does not
	// matter. Nil: not transactional.
	Producer *batch.Producer
	// Verified is what Runtime.Verify gave for Producer, before its transaction's coordinator was asked.
	Verified Verified
}

// Place is where a machine is.
type Place struct {
	Partition int32
	Epoch     batch.Epoch
	Key       string
}

// Marker is the end of a producer's transaction in a partition.
type Marker struct {
	ProducerID int64
	Epoch      int16
	Commit     bool
}

// Loader replays the records of a partition, from the oldest to the newest.
type Loader[M any] interface {
	// Record replays a record of a batch with the given header. Key and value are only lent. ErrUnknownKind and all other
	// errors are counted, and the record is passed over: others must not suffer for what somebody wrote to the topic by hand.
	Record(h *batch.Header, key, value []byte) error
	// Marker replays the end of a transaction.
	Marker(m Marker)
	// Machines gives the result. Blank ones are dropped.
	Machines(now time.Time) map[string]M
}

// ErrUnknownKind is a Loader's answer to a record of another kind than it knows.
var ErrUnknownKind = errors.New("a record of an unknown kind")

package keeper

import (
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Op is what is asked of a keeper.
type Op uint8

// The operations. Read and Write are a leader's, the others an administrator's.
const (
	Read   Op = 1 // makes known the leader's epoch, and tells the state
	Write  Op = 2 // replaces the state
	Look   Op = 3 // tells the state
	Set    Op = 4 // forgets all but a new start
	Delete Op = 5 // forgets all
)

// Unset is the start of a share-partition that nobody has begun with.
const Unset batch.Offset = -1

// Request is asked of the keeper of a key.
type Request struct {
	Op          Op
	Key         share.Key
	LeaderEpoch batch.Epoch    `json:",omitempty"` // Read, Write
	State       *share.Durable `json:",omitempty"` // Write
	Start       batch.Offset   `json:",omitempty"` // Set
}

// stores tells that something is known after the request, so that there has to be a place for it.
func (q *Request) stores() bool { return q.Op != Look && q.Op != Delete }

// Event is what happens to a Machine: a Call, a Written, a Sweep or a Tick.
type Event interface{ event() }

// Call is a request.
type Call struct {
	ID      coordinator.CallID
	Request *Request
}

// Written ends a write.
type Written struct {
	Seq uint64
	Err error
}

// Sweep asks which topics are no more; their states go.
type Sweep struct {
	Gone func(replication.TopicID) bool
}

// Tick lets time pass, which has no meaning here.
type Tick struct{}

func (Call) event()    {}
func (Written) event() {}
func (Sweep) event()   {}
func (Tick) event()    {}

// Effect is a Reply or a Store.
type Effect interface{ effect() }

// Reply answers a call. State is nil after an error, and for a key of which nothing is known.
type Reply struct {
	Call  coordinator.CallID
	Err   error
	State *share.Durable
}

// Store writes a record; with a nil State a tombstone.
type Store struct {
	Seq    uint64
	Record Record
}

func (Reply) effect() {}
func (Store) effect() {}

// maxWaiting bounds the requests that wait for the write of one key. A leader has one at a time.
const maxWaiting = 16

// Machine keeps the state of one key. It is a coordinator.Machine.
type Machine struct {
	key     share.Key
	stored  *Stored // nil: nothing is known
	seq     uint64
	flight  *flight
	waiting []Call
	out     []Effect
}

// flight is a write under way; 0 is the call of none.
type flight struct {
	call coordinator.CallID
	next *Stored
}

// NewMachine is a machine for a key, with what the log says of it.
func NewMachine(key share.Key, stored *Stored) *Machine { return &Machine{key: key, stored: stored} }

// Deadline is never: nothing here depends on time.
func (m *Machine) Deadline() time.Time { return time.Time{} }

// Blank reports that nothing is known, and nothing under way.
func (m *Machine) Blank() bool { return m.stored == nil && m.flight == nil }

// Step applies an event.
func (m *Machine) Step(now time.Time, ev Event) []Effect {
	m.out = m.out[:0]
	switch ev := ev.(type) {
	case Call:
		m.call(now, ev)
	case Written:
		m.written(ev)
	case Sweep:
		if m.stored != nil && m.flight == nil && ev.Gone(m.key.Topic) {
			m.store(0, nil)
		}
	}
	for m.flight == nil && len(m.waiting) > 0 {
		next := m.waiting[0]
		m.waiting = m.waiting[1:]
		m.call(now, next)
	}
	return m.out
}

func (m *Machine) call(now time.Time, c Call) {
	switch {
	case m.flight == nil:
		m.serve(now, c)
	case len(m.waiting) < maxWaiting:
		m.waiting = append(m.waiting, c)
	default:
		m.reply(c.ID, broker.ErrCoordinatorLoading)
	}
}

func (m *Machine) reply(call coordinator.CallID, err error) {
	r := Reply{Call: call, Err: err}
	if err == nil && m.stored != nil {
		r.State = m.stored.durable()
	}
	if call != 0 {
		m.out = append(m.out, r)
	}
}

// store writes what is to be known from then on.
func (m *Machine) store(call coordinator.CallID, next *Stored) {
	m.seq++
	m.flight = &flight{call: call, next: next}
	m.out = append(m.out, Store{Seq: m.seq, Record: Record{Key: m.key, State: next}})
}

func (m *Machine) written(w Written) {
	f := m.flight
	if f == nil || w.Seq != m.seq {
		return
	}
	m.flight = nil
	if w.Err == nil {
		m.stored = f.next
	}
	m.reply(f.call, w.Err)
}

func (m *Machine) serve(now time.Time, c Call) {
	q := c.Request
	switch q.Op {
	case Look:
		m.reply(c.ID, nil)
	case Read:
		m.read(now, c)
	case Write:
		m.write(now, c)
	case Set:
		next := m.next(now)
		next.StateEpoch, next.Start, next.Runs = freshEpoch(now, next.StateEpoch), q.Start, nil
		m.store(c.ID, next)
	case Delete:
		if m.stored == nil {
			m.reply(c.ID, nil)
			return
		}
		m.store(c.ID, nil)
	default:
		m.reply(c.ID, fmt.Errorf("%w: operation %d", replication.ErrInvalidRequest, q.Op))
	}
}

// read is the first that a new leader does. Its epoch is written first: from then on the leader before can't write any more,
// whoever keeps the state then.
func (m *Machine) read(now time.Time, c Call) {
	if err := m.fence(c.Request.LeaderEpoch); err != nil {
		m.reply(c.ID, err)
		return
	}
	if m.stored != nil && m.stored.LeaderEpoch == c.Request.LeaderEpoch {
		m.reply(c.ID, nil)
		return
	}
	next := m.next(now)
	next.LeaderEpoch = c.Request.LeaderEpoch
	m.store(c.ID, next)
}

func (m *Machine) write(now time.Time, c Call) {
	q := c.Request
	if err := m.fence(q.LeaderEpoch); err != nil {
		m.reply(c.ID, err)
		return
	}
	switch {
	case q.State == nil || len(q.State.Runs) > share.MaxRuns:
		m.reply(c.ID, fmt.Errorf("%w: a write without a state, or with too large a one", replication.ErrInvalidRequest))
		return
	case m.stored == nil || q.State.StateEpoch != m.stored.StateEpoch || q.LeaderEpoch != m.stored.LeaderEpoch:
		m.reply(c.ID, share.ErrFencedStateEpoch) // the leader must read first
		return
	case q.State.Version == m.stored.Version: // the same write, once more
		m.reply(c.ID, nil)
		return
	case q.State.Version != m.stored.Version+1: // a late copy of an older one
		m.reply(c.ID, share.ErrFencedStateEpoch)
		return
	}
	next := m.next(now)
	next.Start, next.Runs = q.State.Start, q.State.Runs
	m.store(c.ID, next)
}

func (m *Machine) fence(leader batch.Epoch) error {
	if m.stored != nil && leader < m.stored.LeaderEpoch {
		return replication.ErrFencedLeaderEpoch
	}
	return nil
}

// next is the state that follows the present one, as yet without a difference.
func (m *Machine) next(now time.Time) *Stored {
	if m.stored == nil {
		return &Stored{StateEpoch: freshEpoch(now, 0), LeaderEpoch: batch.NoEpoch, Start: Unset, Created: now, Written: now}
	}
	next := *m.stored
	next.Version++
	next.Written = now
	return &next
}

// freshEpoch is larger than the state epoch before it. A key that was deleted starts with a larger one than it had, too: a
// leader that still remembers it is fenced.
func freshEpoch(now time.Time, before int32) int32 {
	const mask = 1<<31 - 1
	return max(before+1, int32(now.Unix()&mask))
}

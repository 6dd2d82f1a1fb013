package txn

import (
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
)

// Machine is one transactional id: its producer, and the transaction of this producer. It is pure, and so it belongs to
// whoever calls it: it is not safe for concurrent use.
//
// A change is written first and holds from then on; while one is under way any other request is answered
// CONCURRENT_TRANSACTIONS, which clients take as "a moment later", but for more partitions of the same transaction.
//
//	Empty ----------> Ongoing ------> PrepareCommit --> CompleteCommit --+
//	  ^                  |  ^-------------------------------------------+|   more partitions: Ongoing
//	  |                  +----------> PrepareAbort ---> CompleteAbort ---+   InitProducerId:  Empty
//
// Between Prepare and Complete the markers are written to the transaction's partitions. The decision is Prepare: it is
// never taken back, whoever coordinates.
type Machine struct {
	id     string
	limits *Limits
	// at is what is committed; head is what will be once all that is being written is. They differ while len(writes) > 0.
	at, head Metadata
	unmarked bool // the markers of at must be asked for (after loading)
	// retryAt is when a change that nobody waits for is tried again, after its write failed; zero: at once.
	retryAt time.Time
	outbox
}

// NewMachine returns a transactional id of which nothing is known.
func NewMachine(id string, limits *Limits) *Machine {
	return &Machine{id: id, limits: limits, at: blank(), head: blank(), outbox: outbox{writes: map[uint64]then{}}}
}

// Restore gives the machine what the log says of the id. A transaction whose end is decided goes on with its markers.
func (m *Machine) Restore(at Metadata) {
	m.at, m.head, m.unmarked = at, at, at.State.prepared()
}

// Blank tells that nothing is known of the id: the machine may be dropped.
func (m *Machine) Blank() bool { return m.at.ProducerID == None && len(m.writes) == 0 }

// Metadata is what is committed.
func (m *Machine) Metadata() Metadata {
	at := m.at
	at.Partitions = slices.Clone(at.Partitions)
	return at
}

// Deadline is when the machine wants a Tick; zero if it waits for nothing.
func (m *Machine) Deadline() time.Time {
	if len(m.writes) > 0 || m.at.ProducerID == None {
		return time.Time{}
	}
	due := time.Time{}
	switch {
	case m.at.State == Ongoing:
		due = m.at.Started.Add(m.at.Timeout)
	case !m.at.State.prepared():
		due = m.at.Updated.Add(m.limits.Expiration)
	case m.unmarked || len(m.at.Partitions) == 0:
		due = m.at.Updated
	default:
		return due // the markers are on their way
	}
	if due.Before(m.retryAt) {
		return m.retryAt
	}
	return due
}

// Step gives the machine an event and returns what it wants done, valid until the next Step.
func (m *Machine) Step(now time.Time, ev Event) []Effect {
	m.out = m.out[:0]
	switch e := ev.(type) {
	case InitProducer:
		m.initProducer(now, e)
	case AddPartitions:
		m.addPartitions(now, e)
	case End:
		m.end(now, e)
	case Marked:
		m.marked(now, e)
	case Tick:
		m.tick(now)
	case Written:
		m.written(now, e)
	}
	return m.out
}

// change writes what the id is to become. then hears of the end, after at has moved.
func (m *Machine) change(next Metadata, then func(now time.Time, err error)) {
	m.head = next
	m.write(Record{ID: m.id, Metadata: &next}, func(now time.Time, err error) {
		if err == nil {
			m.at, m.retryAt = next, time.Time{}
		}
		if len(m.writes) == 0 {
			m.head = m.at
		}
		then(now, err)
	})
}

// tick does what is due.
func (m *Machine) tick(now time.Time) {
	due := m.Deadline()
	switch {
	case due.IsZero() || now.Before(due):
	case m.at.State == Ongoing:
		m.fence(now, func(error) {})
	case !m.at.State.prepared():
		m.expire()
	case m.unmarked && len(m.at.Partitions) > 0:
		m.mark()
	default:
		m.complete(now)
	}
}

// later notes when what nobody waits for is tried again.
func (m *Machine) later(now time.Time, err error) {
	if err != nil {
		m.retryAt = now.Add(m.limits.RetryDelay)
	}
}

// expire forgets an id that nobody has used for long.
func (m *Machine) expire() {
	m.write(Record{ID: m.id}, func(now time.Time, err error) {
		m.later(now, err)
		if err == nil {
			m.at, m.head = blank(), blank()
			m.out = append(m.out, Forget{})
		}
	})
}

// addPartitions makes partitions part of the transaction, and begins it with the first.
func (m *Machine) addPartitions(now time.Time, e AddPartitions) {
	switch {
	case m.at.ProducerID != e.ProducerID || m.at.ProducerID == None:
		m.reply(e.Call, broker.ErrInvalidProducerIDMapping)
	case m.at.Epoch != e.Epoch || e.Epoch > lastEpoch: // there would be no epoch for the marker that ends it
		m.reply(e.Call, broker.ErrProducerFenced)
	case m.busy() && !m.adding(), m.at.State.prepared():
		m.reply(e.Call, broker.ErrConcurrentTransactions)
	case m.at.State == Ongoing && m.at.Partitions.hasAll(e.Partitions):
		m.reply(e.Call, nil)
	case len(m.head.Partitions)+len(e.Partitions) > m.limits.MaxPartitions:
		m.reply(e.Call, errTooManyPartitions)
	default:
		next := m.head
		if next.State != Ongoing {
			next.State, next.Started, next.Partitions = Ongoing, now, nil
		}
		next.Partitions = next.Partitions.with(e.Partitions)
		next.PreviousID, next.Updated, next.Version = next.ProducerID, now, e.Version
		m.change(next, func(_ time.Time, err error) { m.reply(e.Call, err) })
	}
}

func (m *Machine) busy() bool { return len(m.writes) > 0 }

// adding tells that all that is being written are partitions of a transaction that goes on. Each such record has those of
// the ones before, so whichever of them is stored, the last one says it all.
func (m *Machine) adding() bool {
	return m.head.State == Ongoing && m.head.ProducerID == m.at.ProducerID && m.head.Epoch == m.at.Epoch
}

// Verify tells for each partition whether data of the producer may be written there (KIP-890).
func (m *Machine) Verify(producer ProducerID, epoch Epoch, partitions []Partition) ([]error, error) {
	switch {
	case m.at.ProducerID != producer || m.at.ProducerID == None:
		return nil, broker.ErrInvalidProducerIDMapping
	case m.at.Epoch != epoch || epoch > lastEpoch:
		return nil, broker.ErrProducerFenced
	case m.at.State.prepared():
		return nil, broker.ErrConcurrentTransactions
	}
	each := make([]error, len(partitions))
	for i, p := range partitions {
		if m.at.State != Ongoing || !m.at.Partitions.has(p) {
			each[i] = broker.ErrTransactionAbortable
		}
	}
	return each, nil
}

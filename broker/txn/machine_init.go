package txn

import (
	"time"

	"github.com/quorlog/quorlog/broker"
)

// initProducer gives the id's producer an identity that nobody before it can use.
func (m *Machine) initProducer(now time.Time, e InitProducer) {
	switch {
	case m.busy():
		m.failIdentity(e.Call, broker.ErrConcurrentTransactions)
	case m.at.ProducerID != None && !m.known(e.Expected):
		m.failIdentity(e.Call, broker.ErrProducerFenced)
	case m.at.State.prepared():
		m.failIdentity(e.Call, broker.ErrConcurrentTransactions)
	case m.at.State == Ongoing:
		m.interrupt(now, e)
	default:
		m.identify(now, e)
	}
}

// known tells whether a producer that says who it is may be the id's: the one that has its producer id, or had the one
// before and may have missed the change.
func (m *Machine) known(expected Identity) bool {
	return expected == noIdentity || expected.ProducerID == m.at.ProducerID ||
		expected.ProducerID == m.at.PreviousID && exhausted(expected.Epoch)
}

// interrupt aborts the transaction that is going on. The client comes back, and then gets its identity.
func (m *Machine) interrupt(now time.Time, e InitProducer) {
	if e.Expected != noIdentity && e.Expected.Epoch != m.at.Epoch {
		m.failIdentity(e.Call, broker.ErrProducerFenced) // whoever lags behind ends nobody's transaction
		return
	}
	m.fence(now, func(err error) {
		if err == nil {
			err = broker.ErrConcurrentTransactions
		}
		m.failIdentity(e.Call, err)
	})
}

// identify bumps the epoch, or changes the producer id where no epoch is left.
func (m *Machine) identify(now time.Time, e InitProducer) {
	next := m.at
	asked := m.at.ProducerID != None && e.Expected != noIdentity
	// If the answer to this very request got lost, no other producer came in between, or LastEpoch would not be there.
	retry := asked && e.Expected.Epoch == m.at.LastEpoch && e.Expected.Epoch != m.at.Epoch
	switch {
	case retry && m.at.Epoch <= lastEpoch: // as it was answered
	case asked && !retry && e.Expected != Identity{m.at.ProducerID, m.at.Epoch}:
		m.failIdentity(e.Call, broker.ErrProducerFenced)
		return
	case m.at.ProducerID == None || exhausted(m.at.Epoch):
		if e.Fresh == None {
			m.needID(e.Call)
			return
		}
		next = m.at.renewed(e.Fresh)
	default:
		next.PreviousID, next.Epoch = m.at.ProducerID, m.at.Epoch+1
	}
	if next.LastEpoch = NoEpoch; asked {
		next.LastEpoch = e.Expected.Epoch
	}
	next.State, next.Partitions, next.Started, next.Updated, next.Timeout = Empty, nil, time.Time{}, now, e.Timeout
	m.change(next, func(_ time.Time, err error) { m.replyIdentity(e.Call, next.next(), err) })
}

package txn

import (
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
)

// fence aborts the transaction that is going on with an epoch that its producer does not have: a new producer came, or the
// time is up.
func (m *Machine) fence(now time.Time, then func(err error)) {
	next := m.at
	next.State, next.Updated, next.NextID = PrepareAbort, now, None
	next.LastEpoch = NoEpoch
	if m.at.Version >= V2 {
		next.LastEpoch = m.at.Epoch // its EndTxn would have had the same epoch for an answer
	}
	next.PreviousID, next.Epoch = m.at.ProducerID, min(m.at.Epoch, lastEpoch)+1
	m.prepare(next, then)
}

// prepare writes the decision and then has the markers written.
func (m *Machine) prepare(next Metadata, then func(err error)) {
	m.change(next, func(now time.Time, err error) {
		m.later(now, err)
		then(err)
		if err == nil {
			m.settle(now)
		}
	})
}

// settle goes on with a transaction whose end is decided.
func (m *Machine) settle(now time.Time) {
	if len(m.at.Partitions) == 0 {
		m.complete(now)
		return
	}
	m.mark()
}

// mark asks for the markers.
func (m *Machine) mark() {
	m.unmarked = false
	m.out = append(m.out, Mark{
		ProducerID: m.at.ProducerID, Epoch: m.at.Epoch, Commit: m.at.State == PrepareCommit, Version: m.at.Version,
		Partitions: slices.Clone(m.at.Partitions),
	})
}

// marked hears that a partition has its marker, or is no more.
func (m *Machine) marked(now time.Time, e Marked) {
	if !m.at.State.prepared() || m.at.ProducerID != e.ProducerID || m.at.Epoch != e.Epoch || !m.at.Partitions.has(e.Partition) {
		return
	}
	m.at.Partitions = m.at.Partitions.drop(e.Partition)
	if len(m.at.Partitions) == 0 && !m.busy() {
		m.complete(now)
	}
}

// complete writes that every partition has its marker.
func (m *Machine) complete(now time.Time) {
	m.unmarked = false
	next := completed(m.at, now)
	m.change(next, func(now time.Time, err error) { m.later(now, err) })
}

// completed is what a prepared transaction is at its end.
func completed(at Metadata, now time.Time) Metadata {
	next := at
	next.State = CompleteAbort
	if at.State == PrepareCommit {
		next.State = CompleteCommit
	}
	next.PreviousID, next.Partitions, next.Updated = at.ProducerID, nil, now
	if at.NextID != None {
		next.ProducerID, next.Epoch, next.NextID = at.NextID, 0, None
	}
	return next
}

// verdict is what is to be done with an EndTxn.
type verdict uint8

const (
	refuse      verdict = iota
	alreadyDone         // a retry: answered as the first time
	decide              // the transaction ends
	skip                // there is none; its epoch ends nevertheless (V2)
)

// end ends the transaction as its producer wants.
func (m *Machine) end(now time.Time, e End) {
	what, err := m.judge(&e)
	switch what {
	case refuse:
		m.failIdentity(e.Call, err)
		return
	case alreadyDone:
		m.again(now, &e)
		return
	}
	next := m.at
	next.State, next.PreviousID, next.Updated, next.Version, next.NextID = PrepareAbort, m.at.ProducerID, now, e.Version, None
	if e.Commit {
		next.State = PrepareCommit
	}
	if e.Version >= V2 {
		if exhausted(m.at.Epoch) {
			if e.Fresh == None {
				m.needID(e.Call)
				return
			}
			next.NextID = e.Fresh
		}
		next.LastEpoch, next.Epoch = m.at.Epoch, min(m.at.Epoch, lastEpoch)+1
	}
	answer := next.next()
	if what == skip {
		next.Started, next.Partitions = now, nil
		next = completed(next, now)
	}
	m.prepareOr(what, next, func(err error) { m.replyIdentity(e.Call, answer, err) })
}

// again answers an EndTxn that is a retry. Where the transaction was ended for its producer with the epoch that is for markers
// only, there is none to go on with: data in it could not be told from what the marker ended.
func (m *Machine) again(now time.Time, e *End) {
	if m.at.Epoch <= lastEpoch {
		m.replyIdentity(e.Call, m.at.next(), nil)
		return
	}
	if e.Fresh == None {
		m.needID(e.Call)
		return
	}
	next := m.at.renewed(e.Fresh)
	next.Updated, next.LastEpoch = now, e.Epoch
	m.change(next, func(_ time.Time, err error) { m.replyIdentity(e.Call, next.next(), err) })
}

func (m *Machine) prepareOr(what verdict, next Metadata, then func(err error)) {
	if what == skip {
		m.change(next, func(_ time.Time, err error) { then(err) })
		return
	}
	m.prepare(next, func(err error) {
		m.retryAt = time.Time{} // the client tries again, not we
		then(err)
	})
}

// judge decides an EndTxn by the tables of KIP-890.
func (m *Machine) judge(e *End) (verdict, error) {
	missed := m.at.PreviousID == e.ProducerID && m.at.ProducerID != e.ProducerID && e.Version >= V2 &&
		e.Epoch == lastEpoch && m.at.Epoch == 0 // it has not heard of its new producer id
	switch {
	case m.at.ProducerID == None || m.at.ProducerID != e.ProducerID && !missed:
		return refuse, broker.ErrInvalidProducerIDMapping
	case e.Version < V2:
		return m.judgeV1(e)
	}
	return m.judgeV2(e, missed || m.at.Epoch == e.Epoch+1)
}

// judgeV1: the epoch is the same from one transaction to the next, so a retry is told by what it asks for.
func (m *Machine) judgeV1(e *End) (verdict, error) {
	switch {
	case e.Epoch != m.at.Epoch:
		return refuse, broker.ErrProducerFenced
	case m.busy() || m.at.State.prepared():
		return refuse, broker.ErrConcurrentTransactions
	case m.at.State == Ongoing:
		return decide, nil
	case m.at.State == CompleteCommit && e.Commit, m.at.State == CompleteAbort && !e.Commit:
		return alreadyDone, nil
	}
	return refuse, broker.ErrInvalidTxnState
}

// judgeV2: the epoch tells a retry, whose epoch is one behind, from a request for the next transaction.
func (m *Machine) judgeV2(e *End, retry bool) (verdict, error) {
	current := e.Epoch == m.at.Epoch && e.ProducerID == m.at.ProducerID
	complete := m.at.State == CompleteCommit || m.at.State == CompleteAbort
	switch {
	case !current && !(retry && (complete || m.at.State.prepared())):
		return refuse, broker.ErrProducerFenced
	case m.busy() || m.at.State.prepared():
		return refuse, broker.ErrConcurrentTransactions
	case m.at.State == Ongoing:
		return decide, nil
	case current && !e.Commit:
		return skip, nil
	case retry && e.Commit == (m.at.State == CompleteCommit):
		return alreadyDone, nil
	}
	return refuse, broker.ErrInvalidTxnState
}

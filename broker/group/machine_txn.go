package group

import (
	"slices"

	"github.com/quorlog/quorlog/log/batch"
)

// Producer is a transactional producer, as far as a group needs to know it.
type Producer struct {
	ID    int64
	Epoch int16
}

// openTxn is what a producer's open transaction would commit to the group.
type openTxn struct {
	epoch   int16
	offsets offsetTable
}

// transactions holds the offsets that are in the log as part of transactions which have not ended. None of them is empty.
type transactions map[int64]*openTxn

// put adds an offset to a producer's transaction. Each has a place in the log: see end.
func (t transactions) put(p Producer, k OffsetKey, c Committed) {
	open := t[p.ID]
	if open == nil || open.epoch < p.Epoch {
		open = &openTxn{epoch: p.Epoch}
		t[p.ID] = open
	}
	open.offsets.put(k, c)
}

// drop forgets what transactions would commit for a partition: its tombstone comes behind them in the log.
func (t transactions) drop(k OffsetKey) {
	for id, open := range t {
		if open.offsets.drop(k); open.offsets.len() == 0 {
			delete(t, id)
		}
	}
}

// has tells whether a transaction would change the offset of a partition.
func (t transactions) has(k OffsetKey) bool {
	for _, open := range t {
		if _, ok := open.offsets.get(k); ok {
			return true
		}
	}
	return false
}

func (t transactions) len() (n int) {
	for _, open := range t {
		n += open.offsets.len()
	}
	return n
}

// keys adds the partitions of a topic, or of all if topic is empty, that transactions would change.
func (t transactions) keys(topic string) (out []OffsetKey) {
	for _, open := range t {
		out = append(out, open.offsets.keys(topic)...)
	}
	return out
}

// end applies a marker. An offset that was committed behind the transaction's, without one, stays: the log's order decides.
func (t transactions) end(p Producer, commit bool, to *offsetTable) {
	open := t[p.ID]
	if open == nil || open.epoch > p.Epoch {
		return // a marker of a transaction before
	}
	delete(t, p.ID)
	if !commit {
		return
	}
	for _, k := range open.offsets.keys("") {
		c, _ := open.offsets.get(k)
		if old, ok := to.get(k); !ok || old.place <= c.place {
			to.put(k, c)
		}
	}
}

// txnEnded is the end of a producer's transaction.
func (m *Machine) txnEnded(e TxnEnded) { m.txns.end(e.Producer, e.Commit, &m.offsets) }

// unstable tells whether the offset of a partition depends on a transaction that has not ended (KIP-447).
func (m *Machine) unstable(k OffsetKey) bool {
	if m.txns.has(k) {
		return true
	}
	for _, w := range m.writes {
		if w.producer != nil && slices.ContainsFunc(w.records, func(r Record) bool { return r.Key != nil && *r.Key == k }) {
			return true
		}
	}
	return false
}

// asBatch is the producer as batches name it.
func (p *Producer) asBatch() *batch.Producer {
	if p == nil {
		return nil
	}
	return &batch.Producer{ID: p.ID, Epoch: p.Epoch, Sequence: batch.NoSequence}
}

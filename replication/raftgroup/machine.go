package raftgroup

import (
	"errors"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

// errNoRestore: the log is the state; there is nothing that could be restored into it.
var errNoRestore = errors.New("raftgroup: the log is not restored from snapshots")

// machine is the state machine that Raft applies entries to: it moves the log's applied view.
type machine struct {
	group *Group
	in    *instance
	cut   bool // the instance ended before an entry could be read: what follows must not be applied either
}

// exhaustedPause lies between attempts to read what descriptors or mappings are missing for.
const exhaustedPause = 100 * time.Millisecond

// Apply implements raft.FSM. Raft calls ApplyBatch instead.
func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. The answer to an entry that was refused when it was stored is its *log.Refusal.
// Raft passes no no-ops and no barriers here, and once more what was applied before the start if the checkpoint is older.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	answers := make([]any, len(logs))
	epoch := log.Epoch(-1)
	var leader replication.ReplicaID
	for i, l := range logs {
		if m.cut || m.in.store.Failed() != nil {
			answers[i] = replication.ErrUnknownOutcome // the log is not what Raft thinks: nothing counts as applied any more
			continue
		}
		if log.Index(l.Index) <= m.in.floor {
			continue
		}
		l, err := m.fill(l)
		if err != nil {
			if m.cut = vfs.IsExhausted(err); !m.cut {
				m.in.store.Poison(err) // what is applied is committed: it can't be another
			}
			answers[i] = replication.ErrUnknownOutcome
			continue
		}
		e := log.Entry{Index: log.Index(l.Index), Term: log.Epoch(l.Term)}
		if l.Type == raft.LogCommand {
			e.Kind, e.Frame = log.KindOf(l.Data), l.Data
		}
		m.group.o.Log.Apply(e)
		switch e.Kind {
		case log.KindRefused:
			answers[i] = refusal(e.Frame)
		case log.KindEpoch:
			if r, err := decodeEpoch(e.Frame); err == nil {
				epoch, leader = e.Term, r
			}
		}
	}
	if err := m.group.o.Log.Err(); err != nil {
		m.in.store.Poison(err)
		return answers
	}
	if m.cut {
		return answers
	}
	m.group.o.Owner.Applied()
	if last := logs[len(logs)-1]; m.in.leading.Load() == last.Term && m.in.news.committed(last.Index, last.Term) {
		m.group.o.Herald.mark(m.in)
	}
	if epoch >= 0 {
		m.group.epochApplied(m.in, epoch, leader)
	} else {
		m.group.review(m.in)
	}
	return answers
}

// fill is Store.Fill for an entry that is committed. It can't be left out, so where descriptors or mappings are missing this waits for
// them, and Raft behind it, until the instance ends.
func (m *machine) fill(l *raft.Log) (*raft.Log, error) {
	for told := false; ; told = true {
		full, err := m.in.store.Fill(l)
		if !vfs.IsExhausted(err) {
			return full, err
		}
		if !told {
			m.group.logger.Error("committed entries can't be read", "index", l.Index, "error", err)
		}
		select {
		case <-time.After(exhaustedPause):
		case <-m.in.life.Done():
			return nil, err
		}
	}
}

// refusal is the answer that a refused frame holds.
func refusal(frame []byte) any {
	_, payload, err := log.ParseInternal(frame)
	if err != nil {
		return err
	}
	r, err := log.DecodeRefused(payload)
	if err != nil {
		return err
	}
	return &r
}

// Snapshot implements raft.FSM: there is never anything to take.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }

// Restore implements raft.FSM; nothing may come here.
func (m *machine) Restore(r io.ReadCloser) error { return errors.Join(errNoRestore, r.Close()) }

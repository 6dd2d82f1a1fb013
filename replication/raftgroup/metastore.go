package raftgroup

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication/raftlog"
	"github.com/quorlog/quorlog/replication/transport"
)

// metaMachine is the state machine that Raft sees.
type metaMachine struct{ m Machine }

// Apply implements raft.FSM.
func (m *metaMachine) Apply(l *raft.Log) any { return m.m.Apply(l.Index, l.Data) }

// Snapshot implements raft.FSM.
func (m *metaMachine) Snapshot() (raft.FSMSnapshot, error) {
	data, err := m.m.Snapshot()
	return metaSnapshot(data), err
}

// Restore implements raft.FSM.
func (m *metaMachine) Restore(r io.ReadCloser) error {
	data, err := io.ReadAll(io.LimitReader(r, maxMetaSnapshot))
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	return m.m.Restore(data)
}

// metaSnapshot is a snapshot on its way to the disk.
type metaSnapshot []byte

// Persist implements raft.FSMSnapshot.
func (s metaSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (metaSnapshot) Release() {}

// metaWire is the metadata group's place in the network. Raft handles all requests itself here, but for heartbeats while it follows
// who sends them; only the commit index that the others carry is held back.
type metaWire struct {
	transport.Whole
	transport.Endpoint
	group    *MetaGroup
	requests chan raft.RPC
	heard    atomic.Int64 // when the last AppendEntries came, in ticks

	peers isr // what they have confirmed in the term that this node won
}

// Receive implements transport.Handler.
func (w *metaWire) Receive(rpc raft.RPC) {
	if err := w.group.store.Failed(); err != nil {
		rpc.Respond(nil, err)
		return
	}
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		w.heard.Store(ticks())
		if fromTheFuture(req) {
			rpc.Respond(nil, errFuture)
			return
		}
		if !isHeartbeat(req) { // no further than it proves: see Group.filter
			clamped := *req
			clamped.LeaderCommitIndex = min(req.LeaderCommitIndex, transport.Confirmed(req))
			rpc.Command = &clamped
		}
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
		if node := w.group.node.Load(); node != nil {
			if leaderIsStale(node, ticks()-w.heard.Load(), w.group.o.Timing) {
				campaign(w.requests)
			}
			rpc = enfranchise(node, rpc)
		}
	}
	select {
	case w.requests <- rpc:
	default:
		rpc.Respond(nil, transport.ErrBusy)
	}
}

// Heartbeat implements transport.Beater: as link.Heartbeat, it answers in Raft's place, and at once. Raft's main goroutine may be waiting
// for bbolt's fsync, or be about to; where nodes share a disk, all followers wait at the same time, and for longer than the lease.
// The answer is that this replica follows that leader in that term, and confirms no entry.
//
// Raft is shown the heartbeat too, because of its timers, unless something waits for it already: while it is busy one is enough, and
// the queue is for what the leader has to say.
func (w *metaWire) Heartbeat(leader raft.ServerID, term uint64) (last uint64, ok bool) {
	g := w.group
	node := g.node.Load()
	// A term that could not be saved is shown all the same (metaStore.SetUint64): so the store is asked after Raft.
	if node == nil || !follows(node, leader, term) || g.store.Failed() != nil {
		return 0, false
	}
	w.heard.Store(ticks())
	if len(w.requests) == 0 {
		select {
		case w.requests <- answered(leader, term):
		default:
		}
	}
	return node.LastIndex(), true
}

// Matched implements transport.Handler.
func (w *metaWire) Matched(peer raft.ServerID, index uint64) {
	if node := w.group.node.Load(); node != nil {
		w.peers.matched(peer, raftIndex(index), raftIndex(node.LastIndex()), w.group.o.Now())
	}
}

// forget drops what was confirmed in another term: a follower may have dropped entries since.
func (w *metaWire) forget() { w.peers.begin(w.group.o.Now()) }

// Consumer implements raft.Transport.
func (w *metaWire) Consumer() <-chan raft.RPC { return w.requests }

// LocalAddr implements raft.Transport.
func (w *metaWire) LocalAddr() raft.ServerAddress {
	return raft.ServerAddress(w.group.o.Self.String())
}

// EncodePeer implements raft.Transport.
func (w *metaWire) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// DecodePeer implements raft.Transport.
func (w *metaWire) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport: see Heartbeat, and link.answerBusy for why Raft's own way is not used.
func (w *metaWire) SetHeartbeatHandler(func(raft.RPC)) {}

// InstallSnapshot implements raft.Transport.
func (w *metaWire) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(data, maxMetaSnapshot))
	if err != nil {
		return err
	}
	return w.Endpoint.InstallSnapshot(id, to, args, resp, b)
}

// Close implements raft.WithClose: Raft calls it when it has shut down.
func (w *metaWire) Close() error {
	w.Detach()
	return nil
}

// metaStore is raft-boltdb with fail-stop: the first error is reported, and ends all writing.
type metaStore struct {
	*raftboltdb.BoltStore
	path    string
	guard   func(op vfs.Op, path string, do func() error) error
	onFatal func(error)
	logger  *slog.Logger
	failure atomic.Pointer[error]
}

// Failed returns the failure that ended writing, nil while it works.
func (s *metaStore) Failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *metaStore) write(do func() error) error {
	if err := s.Failed(); err != nil {
		return err
	}
	var err error
	if s.guard != nil {
		err = s.guard(vfs.OpSync, s.path, do)
	} else {
		err = do()
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("metadata: %w", err)
	if s.failure.CompareAndSwap(nil, &err) {
		s.logger.Error("storage failed; the process must end", "error", err)
		if s.onFatal != nil {
			s.onFatal(err)
		}
	}
	return err
}

// StoreLog implements raft.LogStore.
func (s *metaStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *metaStore) StoreLogs(logs []*raft.Log) error {
	return s.write(func() error { return s.BoltStore.StoreLogs(logs) })
}

// DeleteRange implements raft.LogStore.
func (s *metaStore) DeleteRange(from, to uint64) error {
	return s.write(func() error { return s.BoltStore.DeleteRange(from, to) })
}

// Set implements raft.StableStore.
func (s *metaStore) Set(key, value []byte) error {
	return s.write(func() error { return s.BoltStore.Set(key, value) })
}

// SetUint64 implements raft.StableStore. As in raftlog.Stable, a term that can't be saved must not make Raft panic; the group
// hears nothing any more by then.
func (s *metaStore) SetUint64(key []byte, n uint64) error {
	err := s.write(func() error { return s.BoltStore.SetUint64(key, n) })
	if err != nil && string(key) == string(raftlog.KeyCurrentTerm) {
		return nil
	}
	return err
}

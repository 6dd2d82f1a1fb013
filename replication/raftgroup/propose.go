package raftgroup

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftlog"
)

// Proposal is a frame on its way through Raft. Wait must be called exactly once.
type Proposal struct {
	in     *instance
	future raft.ApplyFuture
	err    error
}

// Propose hands a frame to Raft. It waits while Raft's queue is full, but not for the disk. Frames proposed by one goroutine
// are stored in their order, as far as Raft accepts them.
func (g *Group) Propose(frame []byte) Proposal {
	g.mu.RLock()
	in := g.mu.instance
	if in == nil || in.closing.Load() || g.mu.closed {
		g.mu.RUnlock()
		return Proposal{err: errStopped}
	}
	if !in.intake.enter() {
		g.mu.RUnlock()
		return Proposal{err: errTransferring}
	}
	in.open.Add(1)
	g.mu.RUnlock()
	return Proposal{in: in, future: in.node.Load().ApplyLog(raft.Log{Data: frame, Extensions: raftlog.Local}, 0)}
}

// Wait returns once the frame was applied on this replica, or was not and why. A frame that the log refused when it was its
// turn is an answer, not an error. Errors: replication.ErrNotLeader is definite, replication.ErrUnknownOutcome is not.
func (p Proposal) Wait() (refused *log.Refusal, err error) {
	if p.err != nil {
		return nil, p.err
	}
	defer p.in.open.Done()
	defer p.in.intake.leave()
	if err := p.future.Error(); err != nil {
		return nil, outcome(err)
	}
	switch r := p.future.Response().(type) {
	case *log.Refusal:
		return r, nil
	case error:
		return nil, r
	}
	return nil, nil
}

// outcome tells what Raft's errors mean for what was proposed.
func outcome(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", replication.ErrNotLeader, err)
	}
	if mutation.On(mutation.RefuseUnknown) {
		return fmt.Errorf("%w: %w", replication.ErrNotLeader, err)
	}
	// ErrLeadershipLost, ErrRaftShutdown, ErrAbortedByRestore, and whatever StoreLogs failed with.
	return fmt.Errorf("%w: %w", replication.ErrUnknownOutcome, err)
}

// AddReplica adds a replica to the group: as a learner, which gets the log but has no vote, or as a voter. Only the leader
// can; it returns once the change is committed.
func (g *Group) AddReplica(r replication.ReplicaID, voter bool) error {
	node := g.running()
	if node == nil {
		return errStopped
	}
	id, addr := raft.ServerID(r.String()), raft.ServerAddress(r.String())
	if voter {
		return outcomeOf(node.AddVoter(id, addr, 0, 0))
	}
	return outcomeOf(node.AddNonvoter(id, addr, 0, 0))
}

// RemoveReplica takes a replica out of the group.
func (g *Group) RemoveReplica(r replication.ReplicaID) error {
	node := g.running()
	if node == nil {
		return errStopped
	}
	return outcomeOf(node.RemoveServer(raft.ServerID(r.String()), 0, 0))
}

func outcomeOf(f raft.Future) error {
	if err := f.Error(); err != nil {
		return outcome(err)
	}
	return nil
}

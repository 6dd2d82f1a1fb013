package partition

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftgroup"
)

// Pending is an append under way.
type Pending struct {
	done  chan struct{}
	frame []byte

	// Until done is closed, these belong to the partition's completion.
	proposal  raftgroup.Proposal
	header    batch.Header
	marker    *Marker       // set for a marker
	verified  *Verification // of a batch of a client's transaction; nil if it was not needed
	client    bool          // the batch must be verified or continue an open transaction
	continues bool          // see Batch.Continues
	anew      bool          // its producer is not known, and begins with another sequence than 0
	weight    int64
	same      []*Pending // duplicates that arrived meanwhile; guarded by flights.mu

	answer Appended // after done
	err    error
}

func newPending(frame []byte) *Pending {
	return &Pending{done: make(chan struct{}), frame: frame}
}

// Done is closed when the answer is known.
func (pd *Pending) Done() <-chan struct{} { return pd.done }

// Wait returns the answer, or the context's error: the append goes on then. Errors that mean that nothing was stored and
// nothing will be: replication.ErrNotLeader, ErrStorage, ErrNotEnoughReplicas, ErrOverloaded, ErrCorrupt and those about the
// producer. replication.ErrUnknownOutcome means what it says.
func (pd *Pending) Wait(ctx context.Context) (Appended, error) {
	select {
	case <-pd.done:
		return pd.answer, pd.err
	default:
	}
	select {
	case <-pd.done:
		return pd.answer, pd.err
	case <-ctx.Done():
		return Appended{}, ctx.Err()
	}
}

func (pd *Pending) finish(a Appended, err error) {
	pd.answer, pd.err = a, err
	close(pd.done)
}

// Append hands a batch over. It does not wait for the disk; it waits while the queue is full. The answer, whatever it is,
// comes through the Pending.
func (p *Partition) Append(b Batch) *Pending {
	pd := newPending(b.Frame)
	pd.verified, pd.client, pd.continues, pd.marker = b.Verified, b.Client, b.Continues, b.marker
	if err := p.enqueue(pd, &b); err != nil {
		p.flights.turnAway(&pd.header)
		p.traffic.appended(&pd.header, false, err)
		pd.finish(Appended{}, err)
	}
	return pd
}

// Refused tells of a batch that a client sent here and that never comes to Append: it is counted, and what follows it in its producer's
// sequence is no beginning.
func (p *Partition) Refused(frame []byte, err error) {
	p.traffic.appended(nil, false, err)
	if h, bad := batch.ParseHeader(frame); bad == nil {
		p.flights.turnAway(&h)
	}
}

// enqueue passes a batch to Raft, or finds its answer without. An error is its answer.
func (p *Partition) enqueue(pd *Pending, b *Batch) error {
	h, err := batch.ParseHeader(pd.frame)
	if err != nil || h.Size() != len(pd.frame) || h.IsInternal() {
		return fmt.Errorf("%w: not one batch: %w", replication.ErrCorrupt, err)
	}
	pd.header = h
	if err := p.acceptable(b.AnyISR); err != nil {
		return err
	}
	if err := p.reserve(pd); err != nil {
		return err
	}
	p.order.Lock()
	defer p.order.Unlock()
	lead := p.leader.Load()
	if !lead.local || b.Epoch > 0 && b.Epoch != lead.Epoch {
		p.release(pd)
		return replication.ErrNotLeader
	}
	sent, err := p.admit(pd)
	if err != nil || sent {
		p.release(pd)
		if err == nil {
			p.traffic.appended(&pd.header, false, nil)
		}
		return err
	}
	// The epoch in which the batch was checked. The log compares it with the term in which it is stored.
	unstamped := batch.Unstamped
	if pd.anew {
		unstamped = batch.UnstampedAnew
	}
	batch.Stamp(pd.frame, unstamped, lead.Epoch)
	pd.proposal = p.group.Propose(pd.frame)
	if p.flights.push(pd) {
		go p.complete()
	}
	return nil
}

// acceptable tells what speaks against any append at the moment.
func (p *Partition) acceptable(anyISR bool) error {
	if err := p.offlineErr(); err != nil {
		return err
	}
	if !p.Leading() {
		return replication.ErrNotLeader
	}
	if p.m.space.full() {
		return fmt.Errorf("%w: the disk is full", replication.ErrStorage)
	}
	if n, low := p.m.lowReplica(p.assignment.Load()); low {
		return fmt.Errorf("%w: the disk of node %d, which has a replica, is full", replication.ErrStorage, n)
	}
	if least := p.config.Load().MinInsyncReplicas; least > 1 && !anyISR {
		if n := len(p.group.InSync(p.m.o.ReplicaLag)); n < least {
			return fmt.Errorf("%w: %d of %d", replication.ErrNotEnoughReplicas, n, least)
		}
	}
	return nil
}

// lowReplica finds another node with a replica whose disk is nearly full. All that a leader stores, its followers must.
func (m *Manager) lowReplica(a *replication.Assignment) (replication.NodeID, bool) {
	if m.o.LowSpace == nil {
		return replication.NoNode, false
	}
	for _, r := range a.Replicas {
		if r.Node != m.o.Node && m.o.LowSpace(r.Node) {
			return r.Node, true
		}
	}
	return replication.NoNode, false
}

// minWeight is what a batch counts at least in the queue: a tiny one costs memory beside its bytes.
const minWeight = 1 << 10

// reserve waits for room in the partition's queue and the node's.
func (p *Partition) reserve(pd *Pending) error {
	w := min(max(int64(len(pd.frame)), minWeight), p.m.o.QueueBytes, p.m.o.NodeQueueBytes)
	p.m.space.spend(p.m, int64(len(pd.frame)))
	if p.queue.TryAcquire(w) {
		if p.m.queue.TryAcquire(w) {
			pd.weight = w
			return nil
		}
		p.queue.Release(w)
	}
	ctx, cancel := context.WithTimeout(p.m.ctx, p.m.o.QueueWait)
	defer cancel()
	if err := p.queue.Acquire(ctx, w); err != nil {
		return p.m.noRoom()
	}
	if err := p.m.queue.Acquire(ctx, w); err != nil {
		p.queue.Release(w)
		return p.m.noRoom()
	}
	pd.weight = w
	return nil
}

func (m *Manager) noRoom() error {
	if m.ctx.Err() != nil {
		return ErrClosed
	}
	return replication.ErrOverloaded
}

func (p *Partition) release(pd *Pending) {
	p.m.queue.Release(pd.weight)
	p.queue.Release(pd.weight)
	pd.weight = 0
}

// complete answers appends in the order in which they went to Raft, until none is under way.
func (p *Partition) complete() {
	for {
		pd := p.flights.pop()
		if pd == nil {
			return
		}
		refused, err := pd.proposal.Wait()
		if mutation.On(mutation.AckUnknown) && errors.Is(err, replication.ErrUnknownOutcome) {
			err = nil
		}
		p.release(pd)
		answer, err := p.answer(pd, refused, err)
		stored := err == nil && !answer.Duplicate
		if err != nil {
			p.flights.turnAway(&pd.header)
		}
		for _, d := range p.flights.land(pd, stored) {
			again := answer
			again.Duplicate = err == nil
			d.finish(again, err)
		}
		p.traffic.appended(&pd.header, stored, err)
		pd.finish(answer, err)
	}
}

// answer makes the answer of what Raft and the log said.
func (p *Partition) answer(pd *Pending, refused *log.Refusal, err error) (Appended, error) {
	if err != nil {
		return Appended{}, err
	}
	a := Appended{LogStart: p.log.Offsets().LogStart, Timestamp: batch.NoTimestamp}
	if refused != nil {
		if refused.Reason != log.RefusedDuplicate {
			return Appended{}, refusalError(refused.Reason)
		}
		a.Base, a.Last, a.Duplicate, a.Epoch = refused.Base, refused.Last, true, p.log.EpochOf(refused.Base)
		if pd.header.IsLogAppendTime() {
			a.Timestamp = refused.Timestamp
		}
		return a, nil
	}
	h, err := batch.ParseHeader(pd.frame)
	if err != nil {
		return Appended{}, fmt.Errorf("%w: %w", replication.ErrUnknownOutcome, err)
	}
	a.Base, a.Last, a.Epoch = h.BaseOffset, h.LastOffset(), h.LeaderEpoch
	if h.IsLogAppendTime() {
		a.Timestamp = h.MaxTimestamp
	}
	return a, nil
}

var errRefused = errors.New("refused")

// refusalError is what a refusal means to the producer.
func refusalError(r log.Reason) error {
	switch r {
	case log.RefusedTerm:
		return fmt.Errorf("%w: the leadership changed before the batch was stored", replication.ErrNotLeader)
	case log.RefusedSequence, log.RefusedUnknownProducer, log.RefusedForgotten:
		return replication.ErrOutOfOrderSequence
	case log.RefusedProducerEpoch:
		return replication.ErrInvalidProducerEpoch
	case log.RefusedInTransaction:
		return replication.ErrInvalidTxnState
	case log.RefusedCoordinator:
		return replication.ErrCoordinatorFenced
	}
	return fmt.Errorf("%w: %w: %v", replication.ErrNotLeader, errRefused, r)
}

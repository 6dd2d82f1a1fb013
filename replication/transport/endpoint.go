package transport

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// voteTimeout is how long a vote or TimeoutNow waits for its answer. A vote is fsynced.
	voteTimeout = time.Second
	// appendTimeout is how long an AppendEntries waits: as long as the watchdog lets a disk hang.
	appendTimeout = 10 * time.Second
	// snapshotTimeout bounds an InstallSnapshot: the receiver restarts its group.
	snapshotTimeout = time.Minute
	// holdTime is how long an AppendEntries waits for a connection. Raft would wait up to ten seconds after failing often, and a follower
	// that came back would be left alone for so long; a request that waits for a connection with few entries does not fail.
	holdTime = time.Minute
	// absentTime is how long it then waits for the replica; one that is removed meanwhile is waited for until then. It fails once the
	// replica is there, and Raft makes the next at once.
	absentTime = 10 * time.Second
	// Pauses between questions for a replica that is not there: besides, a quarter of the time for which it was not.
	absentFirst = 20 * time.Millisecond
	absentMost  = 2 * time.Second
	// maxHeld is up to how many bytes of entries a request keeps while it waits for a connection.
	maxHeld = 64 << 10
	// maxAppend is how many bytes of entries one message carries, unless a single one is larger.
	maxAppend = 4 << 20
	// maxFlying bounds the bytes of entries on their way to one node. Beyond, the groups' replication waits.
	maxFlying = 64 << 20
)

// netEnd is a replica's end of the network.
type netEnd struct {
	p       *Peers
	place   place
	handler Handler
	beater  Beater // the handler, nil if it is none
	ctx     context.Context
	cancel  context.CancelFunc

	mu struct {
		sync.Mutex
		routes map[raft.ServerAddress]*route
		under  context.Context // of requests under way
		cut    context.CancelFunc
	}
}

func newNetEnd(p *Peers, at place, h Handler) *netEnd {
	e := &netEnd{p: p, place: at, handler: h}
	e.beater, _ = h.(Beater)
	e.ctx, e.cancel = context.WithCancel(p.ctx)
	e.mu.routes = make(map[raft.ServerAddress]*route)
	e.mu.under, e.mu.cut = context.WithCancel(e.ctx)
	return e
}

// Detach implements Endpoint.
func (e *netEnd) Detach() {
	e.cancel()
	e.p.detach(e)
}

// Interrupt implements Endpoint.
func (e *netEnd) Interrupt() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.cut()
	e.mu.under, e.mu.cut = context.WithCancel(e.ctx)
}

// context is that of a request that begins now.
func (e *netEnd) context() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mu.under
}

func (e *netEnd) interrupted() <-chan struct{} { return e.context().Done() }

// route finds the way to a replica.
func (e *netEnd) route(to raft.ServerAddress) (*route, error) {
	e.mu.Lock()
	r := e.mu.routes[to]
	e.mu.Unlock()
	if r != nil && !r.peer.forgotten.Load() {
		return r, nil
	}
	node, err := nodeOf(string(to))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if node == e.p.o.Node {
		return nil, fmt.Errorf("%w: %s is this node", ErrUnreachable, to)
	}
	t, err := e.p.peer(node)
	if err != nil {
		return nil, err
	}
	r = &route{group: e.place.group, from: string(e.place.addr), to: string(to), peer: t}
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.mu.routes[to]; known != nil && known.peer == t {
		return known, nil
	}
	e.mu.routes[to] = r
	return r, nil
}

// reply is what a blocking request waits for.
type reply struct {
	answer answer
	err    error
}

// ask sends one request and waits for its answer.
func (e *netEnd) ask(to raft.ServerAddress, l lane, timeout time.Duration, build func(id, channel uint64) frame) (answer, *route, error) {
	r, err := e.route(to)
	if err != nil {
		return answer{}, nil, err
	}
	ctx, cancel := context.WithTimeout(e.context(), timeout)
	defer cancel()
	c, err := r.peer.lanes[l].get(ctx, false)
	if err != nil {
		return answer{}, r, e.detached(err)
	}
	channel, err := r.channel(c)
	if err != nil {
		return answer{}, r, err
	}
	got := make(chan reply, 1)
	w := &pending{id: c.ids.Add(1), done: func(a answer, err error) { got <- reply{a, err} }}
	if err := c.send(w, build(w.id, channel)); err != nil {
		return answer{}, r, err
	}
	select {
	case rep := <-got:
		return rep.answer, r, rep.err
	case <-ctx.Done():
		c.forget(w.id)
		return answer{}, r, e.detached(fmt.Errorf("%w: node %d does not answer", ErrUnreachable, r.peer.node))
	}
}

// detached is ErrDetached if this end was detached or interrupted, otherwise err.
func (e *netEnd) detached(err error) error {
	if e.ctx.Err() != nil {
		return ErrDetached
	}
	return err
}

// RequestVote implements Endpoint.
func (e *netEnd) RequestVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	flags := uint64(0)
	if args.LeadershipTransfer {
		flags = flagTransfer
	}
	a, r, err := e.ask(to, laneControl, voteTimeout, func(id, channel uint64) frame {
		return simple(kindVote, id, channel, args.Term, args.LastLogIndex, args.LastLogTerm, flags)
	})
	if err == nil {
		*resp = raft.RequestVoteResponse{RPCHeader: header(r.to), Term: a.term, Granted: a.yes()}
	}
	return err
}

// RequestPreVote implements Endpoint.
func (e *netEnd) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	a, r, err := e.ask(to, laneControl, voteTimeout, func(id, channel uint64) frame {
		return simple(kindPreVote, id, channel, args.Term, args.LastLogIndex, args.LastLogTerm)
	})
	if err == nil {
		*resp = raft.RequestPreVoteResponse{RPCHeader: header(r.to), Term: a.term, Granted: a.yes()}
	}
	return err
}

// InstallSnapshot implements Endpoint.
func (e *netEnd) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data []byte) error {
	if len(data) > maxBulkFrame-(1<<20) {
		return fmt.Errorf("%w: a snapshot of %d bytes", ErrTooLarge, len(data))
	}
	a, r, err := e.ask(to, laneBulk, snapshotTimeout, func(id, channel uint64) frame {
		return encodeSnapshot(id, channel, args, data)
	})
	if err == nil {
		*resp = raft.InstallSnapshotResponse{RPCHeader: header(r.to), Term: a.term, Success: a.yes()}
	}
	return err
}

// TimeoutNow implements Endpoint.
func (e *netEnd) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, _ *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	_, r, err := e.ask(to, laneControl, voteTimeout, func(id, channel uint64) frame { return simple(kindCampaign, id, channel) })
	if err == nil {
		*resp = raft.TimeoutNowResponse{RPCHeader: header(r.to)}
	}
	return err
}

package controller

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftgroup"
)

// Members changes who is in the metadata group; see *raftgroup.MetaGroup.
type Members interface {
	Self() replication.ReplicaID
	Members() raftgroup.MetaMembers
	Behind(replication.ReplicaID) (entries uint64, known bool)
	AddLearner(replication.ReplicaID) error
	Promote(replication.ReplicaID) error
	Demote(replication.ReplicaID) error
	Remove(replication.ReplicaID) error
	Transfer(to replication.ReplicaID) error
}

const (
	// reconcileEvery is how often the members are looked at if nobody asks for it.
	reconcileEvery = 500 * time.Millisecond
	// settledAfter is how long a node must have been alive until it is given a vote, or handed the leadership.
	settledAfter = time.Second
	// lostAfter is how long a voter must have been dead until another node votes in its place: a restart is no reason.
	lostAfter = 10 * time.Second
	// mostBehind is how many entries a replica may lack and be thought current. It catches up with them within a heartbeat.
	mostBehind = 256
	// transferPause keeps a leadership that nobody would take where it is for a while.
	transferPause = 5 * time.Second
)

// reconciler keeps the metadata group's members as the registered nodes want them, while this node leads it.
type reconciler struct {
	c       *Controller
	members Members
	logger  *slog.Logger
	wake    chan struct{}
	stop    chan struct{}
	stopped chan struct{}
	changes chan struct{} // holds a token while members or leadership are changed; one change at a time
	closing sync.Once

	// Only the loop's, or whoever holds the token.
	seen      map[replication.NodeID]presence
	lastMoved time.Time // when a transfer failed
}

// presence is since when a node is alive, or not.
type presence struct {
	alive bool
	since time.Time
}

func startReconciler(c *Controller, members Members, logger *slog.Logger) *reconciler {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	r := &reconciler{
		c: c, members: members, logger: logger, wake: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
		changes: make(chan struct{}, 1), seen: map[replication.NodeID]presence{},
	}
	go r.reconcileLoop()
	return r
}

func (r *reconciler) close() {
	r.closing.Do(func() { close(r.stop) })
	<-r.stopped
}

func (r *reconciler) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// reconcileLoop takes steps until there is nothing to do, and then waits. A step that fails is looked at again at the next tick.
func (r *reconciler) reconcileLoop() {
	defer close(r.stopped)
	defer r.c.Watch(func(_, _ *Image) { r.poke() })()
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-r.wake:
		case <-tick.C:
		}
		for r.step() {
			select {
			case <-r.stop:
				return
			default:
			}
		}
	}
}

// step takes the next step, if this node leads and there is one. It reports whether that was done.
func (r *reconciler) step() bool {
	r.changes <- struct{}{}
	defer func() { <-r.changes }()
	r.look()
	if !r.c.router.group.IsLeader() {
		return false
	}
	change := nextMetaChange(r.view())
	if change.kind == noChange {
		return false
	}
	if err := r.do(change); err != nil {
		r.logger.Warn("the metadata group's members could not be changed", "change", change.String(), "error", err)
		return false
	}
	r.logger.Info("the metadata group's members were changed", "change", change.String())
	return true
}

// look notes who is alive.
func (r *reconciler) look() {
	now := r.c.now()
	for id := range r.c.Image().Nodes {
		alive := r.c.router.around.isLive(id)
		if p, known := r.seen[id]; !known || p.alive != alive {
			r.seen[id] = presence{alive, now}
		}
	}
}

// view is the present state. A node counts as lost only if this node has seen it dead for long: after an election, that begins
// anew where it was not watched before, which all nodes do.
func (r *reconciler) view() membersView {
	im, now, m := r.c.Image(), r.c.now(), r.members.Members()
	v := membersView{self: r.members.Self(), voters: m.Voters, learners: m.Learners, nodes: make(map[replication.NodeID]memberState, len(im.Nodes))}
	v.leadershipMayMove = r.lastMoved.IsZero() || now.Sub(r.lastMoved) >= transferPause
	for id, n := range im.Nodes {
		p := r.seen[id]
		s := memberState{replica: im.Registrations[id].MetaReplica(id), rack: n.Rack, leaving: r.c.router.around.leaving(im, id)}
		s.here = p.alive
		s.alive = p.alive && (now.Sub(p.since) >= settledAfter || id == v.self.Node)
		s.lost = !p.alive && !p.since.IsZero() && now.Sub(p.since) >= lostAfter
		behind, known := r.members.Behind(s.replica)
		s.current = known && behind <= mostBehind
		v.nodes[id] = s
	}
	return v
}

func (r *reconciler) do(c memberChange) error {
	switch c.kind {
	case addLearner:
		return r.members.AddLearner(c.replica)
	case promote:
		return r.members.Promote(c.replica)
	case demote:
		return r.members.Demote(c.replica)
	case remove:
		return r.members.Remove(c.replica)
	case transfer:
		err := r.members.Transfer(c.replica)
		if err != nil {
			r.lastMoved = r.c.now()
		}
		return err
	}
	return nil
}

// handOver gives the leadership away, to any voter that will take it.
func (r *reconciler) handOver(ctx context.Context) error {
	select {
	case r.changes <- struct{}{}:
		defer func() { <-r.changes }()
	case <-ctx.Done():
		return ctx.Err()
	}
	r.look()
	v := r.view()
	var err error
	for r.c.router.group.IsLeader() && ctx.Err() == nil {
		heir, found := v.heir()
		if !found {
			return err
		}
		if err = r.members.Transfer(heir); err == nil {
			return nil
		}
		s := v.nodes[heir.Node]
		s.alive = false // it did not take it; perhaps another one does
		v.nodes[heir.Node] = s
	}
	return err
}

var changeNames = map[changeKind]string{addLearner: "add", promote: "promote", demote: "demote", remove: "remove", transfer: "hand over to"}

// String tells the change to people.
func (c memberChange) String() string {
	if c.kind == noChange {
		return "nothing"
	}
	return fmt.Sprintf("%s %s: %s", changeNames[c.kind], c.replica, c.why)
}

package partition

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorlog/quorlog/replication"
)

const (
	// catchUpEntries and catchUpBytes are how much a learner may lack of the leader's log when it gets its vote. From then on it is
	// not held back any more (quorlog.catchup.max.bytes.per.second), and may be needed for a majority.
	catchUpEntries = 256
	catchUpBytes   = 8 << 20
	// convergeParallel is how many partitions take a step at the same time.
	convergeParallel = 8
	// catchingUp bounds the partitions of which this node feeds new replicas at the same time.
	catchingUp = 16
	// catchUpTime is how long ago a learner may last have had all that its leader had. Under load it is always some entries behind.
	catchUpTime = time.Second
	// inTouch is for how long a learner counts as fed without a word from it: Raft asks again after 10 s at the latest.
	inTouch = 15 * time.Second
)

// stepKind is what a leader does next to bring its group in line with the assignment.
type stepKind uint8

const (
	stepDone       stepKind = iota // the group is what it is to be
	stepWait                       // for a learner to catch up, or for voters to be in sync
	stepAddLearner                 // a replica without a vote
	stepPromote                    // a learner that has caught up
	stepRemove                     // a replica that is not to be
	stepLeave                      // this replica is not to be: hand over, and let the next leader remove it
)

type step struct {
	kind    stepKind
	replica replication.ReplicaID
}

// member is a replica as its group's leader sees it.
type member struct {
	id       replication.ReplicaID
	voter    bool
	inSync   bool
	caughtUp bool // there, and close enough to the end of the leader's log to vote
}

// nextStep finds the next step from what a group is to what it is to be. One step changes one replica: Raft's rule for single
// changes. New replicas come before old ones go, and nothing goes without a majority of those in sync that stay.
func nextStep(self replication.ReplicaID, members []member, target []replication.ReplicaID) step {
	find := func(id replication.ReplicaID) (member, bool) {
		i := slices.IndexFunc(members, func(m member) bool { return m.id == id })
		if i < 0 {
			return member{}, false
		}
		return members[i], true
	}
	for _, m := range members {
		if !m.voter && !slices.Contains(target, m.id) {
			return step{stepRemove, m.id}
		}
	}
	waiting := false
	for _, id := range target {
		switch m, ok := find(id); {
		case !ok:
			return step{stepAddLearner, id}
		case !m.voter && m.caughtUp:
			return step{stepPromote, id}
		case !m.voter:
			waiting = true
		}
	}
	if waiting {
		return step{kind: stepWait}
	}
	return stepAway(self, members, target)
}

// stepAway removes voters that are not to be, once all that are to be have their votes.
func stepAway(self replication.ReplicaID, members []member, target []replication.ReplicaID) step {
	away := slices.DeleteFunc(slices.Clone(members), func(m member) bool { return slices.Contains(target, m.id) })
	if len(away) == 0 {
		return step{kind: stepDone}
	}
	// Those that are gone first, this replica last.
	slices.SortStableFunc(away, func(a, b member) int { return rank(a, self) - rank(b, self) })
	out := away[0]
	staying, inSync := 0, 0
	for _, m := range members {
		if m.voter && m.id != out.id {
			staying++
			if m.inSync {
				inSync++
			}
		}
	}
	switch {
	case inSync <= staying/2:
		return step{kind: stepWait}
	case out.id == self:
		return step{stepLeave, self}
	}
	return step{stepRemove, out.id}
}

func rank(m member, self replication.ReplicaID) int {
	switch {
	case m.id == self:
		return 2
	case m.inSync:
		return 1
	}
	return 0
}

// mover brings the replicas of a partition that this node leads, and its leadership, to where they are to be.
type mover struct{ *Partition }

// members describes the group of a partition that this replica leads.
func (p mover) members() []member {
	var all []member
	inSync := p.group.InSync(p.m.o.ReplicaLag)
	last := p.log.LastIndex()
	describe := func(ids []replication.ReplicaID, voter bool) {
		for _, id := range ids {
			match, contact, whole := p.group.Progress(id)
			now := p.m.o.Now()
			near := now.Sub(whole) <= catchUpTime
			if !near && match+catchUpEntries >= last {
				missing, err := p.log.BytesAfter(match)
				near = err == nil && missing <= catchUpBytes
			}
			all = append(all, member{
				id: id, voter: voter, inSync: slices.Contains(inSync, id), caughtUp: match > 0 && now.Sub(contact) <= inTouch && near,
			})
		}
	}
	describe(p.group.Voters(), true)
	describe(p.group.Learners(), false)
	return all
}

// converge takes steps until the group is what it is to be, or has to wait. Done tells that it is the former. Each new learner takes
// one from room.
func (p mover) converge(ctx context.Context, room *atomic.Int32) (done bool, err error) {
	for ctx.Err() == nil && p.Leading() {
		s := nextStep(p.self, p.members(), p.Assignment().Target())
		if s.kind == stepAddLearner && room.Add(-1) < 0 {
			return false, nil
		}
		switch s.kind {
		case stepDone:
			return true, nil
		case stepWait:
			return false, nil
		case stepAddLearner:
			err = p.group.AddReplica(s.replica, false)
		case stepPromote:
			err = p.group.AddReplica(s.replica, true)
		case stepRemove:
			err = p.group.RemoveReplica(s.replica)
		case stepLeave:
			return false, p.handOver(ctx, nil)
		}
		if err != nil {
			return false, fmt.Errorf("replica %s: %w", s.replica, err)
		}
		p.logger.Info("the group's replicas were changed", "change", s.kind.String(), "replica", s.replica.String())
	}
	return false, ctx.Err()
}

var stepNames = map[stepKind]string{stepAddLearner: "learner added", stepPromote: "vote given", stepRemove: "removed"}

// String names what a step has done.
func (k stepKind) String() string { return stepNames[k] }

// feeding is the number of partitions whose new replicas this node is bringing up to date. Replicas on nodes that are down do not
// count: they would keep others waiting for as long as they are.
func (m *Manager) feeding() (n int32) {
	for _, p := range m.All() {
		if !p.Leading() || p.offlineErr() != nil {
			continue
		}
		if slices.ContainsFunc(p.group.Learners(), func(r replication.ReplicaID) bool {
			_, contact, _ := p.group.Progress(r)
			return m.o.Now().Sub(contact) <= inTouch
		}) {
			n++
		}
	}
	return n
}

// Converge does one pass over the partitions that this node leads, and brings the replicas of each closer to its assignment. It
// calls reached for every partition whose group is what its assignment wants while that still names replicas that come or go.
func (m *Manager) Converge(ctx context.Context, reached func(id replication.PartitionID, voters []replication.ReplicaID)) {
	var g errgroup.Group
	g.SetLimit(convergeParallel)
	var room atomic.Int32
	counted := false
	for _, part := range m.All() {
		p := mover{part}
		if !p.Leading() || p.offlineErr() != nil || p.settled() {
			continue
		}
		if !counted {
			counted = true
			room.Store(catchingUp - m.feeding())
		}
		g.Go(func() error {
			done, err := p.converge(ctx, &room)
			switch {
			case err != nil && ctx.Err() == nil:
				p.logger.Info("the group's replicas were not changed; it is tried again", "error", err)
			case done && p.moving():
				reached(p.id, p.group.Voters())
			}
			return nil
		})
	}
	_ = g.Wait() // no error is returned
}

// moving tells that the assignment names replicas that come or go.
func (p mover) moving() bool {
	a := p.assignment.Load()
	return len(a.Adding)+len(a.Removing) > 0
}

// settled tells, cheaply, that there is nothing to converge.
func (p mover) settled() bool {
	if p.moving() {
		return false
	}
	target := p.assignment.Load().Target()
	voters := p.group.Voters()
	if len(voters) != len(target) || len(p.group.Learners()) > 0 {
		return false
	}
	for _, v := range voters {
		if !slices.Contains(target, v) {
			return false
		}
	}
	return true
}

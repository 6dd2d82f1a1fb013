package raftgroup

import (
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/replication"
)

// MetaMembers are the replicas of the metadata group by the newest configuration on this node.
type MetaMembers struct{ Voters, Learners []replication.ReplicaID }

// Members lists the metadata group's replicas. Only a group that never had a leader has none.
func (g *MetaGroup) Members() MetaMembers {
	var m MetaMembers
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		r, ok := parseReplica(s.ID)
		if !ok {
			continue
		}
		if s.Suffrage == raft.Voter {
			m.Voters = append(m.Voters, r)
		} else {
			m.Learners = append(m.Learners, r)
		}
	}
	return m
}

// Self is this node's replica.
func (g *MetaGroup) Self() replication.ReplicaID { return g.o.Self }

// AddLearner adds a replica without a vote. Like all changes of members it is the leader's, waits until the change is committed,
// and must not be called while another one is under way. Its error is replication.ErrNotLeader, or
// replication.ErrUnknownOutcome: then the members tell.
func (g *MetaGroup) AddLearner(r replication.ReplicaID) error {
	return outcomeOf(g.raft.AddNonvoter(serverID(r), raft.ServerAddress(r.String()), 0, 0))
}

// Promote gives a learner a vote.
func (g *MetaGroup) Promote(r replication.ReplicaID) error {
	return outcomeOf(g.raft.AddVoter(serverID(r), raft.ServerAddress(r.String()), 0, 0))
}

// Demote makes a voter a learner.
func (g *MetaGroup) Demote(r replication.ReplicaID) error {
	return outcomeOf(g.raft.DemoteVoter(serverID(r), 0, 0))
}

// Remove takes a replica out of the group.
func (g *MetaGroup) Remove(r replication.ReplicaID) error {
	return outcomeOf(g.raft.RemoveServer(serverID(r), 0, 0))
}

// Behind is how many entries a replica lacks of what this leader has; unknown before it has confirmed any to it.
func (g *MetaGroup) Behind(r replication.ReplicaID) (entries uint64, known bool) {
	if r == g.o.Self {
		return 0, true
	}
	match, contact, _ := g.wire.peers.progress(serverID(r))
	last := g.raft.LastIndex()
	return last - min(uint64(match), last), !contact.IsZero()
}

// Heard tells when a replica last confirmed anything to this leader, and when it last had all that this leader had; zero if not
// in this term.
func (g *MetaGroup) Heard(r replication.ReplicaID) (contact, caughtUp time.Time) {
	_, contact, caughtUp = g.wire.peers.progress(serverID(r))
	return contact, caughtUp
}

// MetaStatus describes the metadata group as this node sees it.
type MetaStatus struct {
	Term, Commit, Applied, Last uint64
	Leader                      replication.NodeID
	MetaMembers
}

// Status describes the group.
func (g *MetaGroup) Status() MetaStatus {
	return MetaStatus{
		Term: g.raft.CurrentTerm(), Commit: g.raft.CommitIndex(), Applied: g.raft.AppliedIndex(), Last: g.raft.LastIndex(),
		Leader: g.Leader(), MetaMembers: g.Members(),
	}
}

func serverID(r replication.ReplicaID) raft.ServerID { return raft.ServerID(r.String()) }

// applied notes that a proposal of this node was committed, and sees to it that followers hear of that soon.
//
// Raft tells followers the commit index with the next entries, or else after CommitTimeout, which is a second here, so that an
// idle cluster is quiet. But a change is answered only when all nodes have applied it.
func (g *MetaGroup) applied() {
	if servers := g.raft.GetConfiguration().Configuration().Servers; len(servers) < 2 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.closed || g.mu.telling {
		g.mu.untold = true
		return
	}
	g.mu.telling = true
	g.tasks.Add(1)
	go g.tellFollowers()
}

// tellFollowers writes barriers, one after the other, for as long as something was committed since the last: an entry carries
// the commit index at once.
func (g *MetaGroup) tellFollowers() {
	defer g.tasks.Done()
	for {
		err := g.raft.Barrier(0).Error()
		g.mu.Lock()
		if err != nil || !g.mu.untold {
			g.mu.telling, g.mu.untold = false, false
			g.mu.Unlock()
			return
		}
		g.mu.untold = false
		g.mu.Unlock()
	}
}

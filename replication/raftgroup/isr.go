package raftgroup

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication"
)

// isr is what the leader knows of how far its followers are. A follower is in sync while it has, within the last
// replica.lag.time.max.ms, held everything that the leader held: Kafka's rule.
type isr struct {
	mu    sync.Mutex
	since time.Time // when this replica last won an election; nobody is late before
	peers map[raft.ServerID]*peer
}

type peer struct {
	match    log.Index
	caughtUp time.Time
	// end and at are the leader's last index at the previous confirmation, and when that was. A follower under a steady load
	// never reaches the newest end; it is in sync if it reaches the end of a moment ago.
	end log.Index
	at  time.Time
	// proved is when it last confirmed a position of the log; zero since its node's process ended. A heartbeat confirms none: it is
	// answered as soon as the node is back, and then Raft may rest for seconds before it sends entries again.
	proved time.Time
}

// begin forgets what was true of another term.
func (i *isr) begin(now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.since = now
	clear(i.peers)
}

// matched notes what a follower confirmed.
func (i *isr) matched(id raft.ServerID, index, last log.Index, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	p := i.peers[id]
	if p == nil {
		p = &peer{}
		i.peers[id] = p
	}
	p.match = max(p.match, index)
	if index > 0 {
		p.proved = now
	}
	switch {
	case p.match >= last:
		p.caughtUp = now
	case p.end > 0 && p.match >= p.end && p.at.After(p.caughtUp):
		p.caughtUp = p.at
	}
	p.end, p.at = last, now
}

// confirmed is the log position that a follower has confirmed in this term; 0 if none.
func (i *isr) confirmed(id raft.ServerID) uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if p := i.peers[id]; p != nil {
		return uint64(p.match)
	}
	return 0
}

// gone notes that a node's process has ended.
func (i *isr) gone(node replication.NodeID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for id, p := range i.peers {
		if r, ok := parseReplica(id); ok && r.Node == node {
			p.proved = time.Time{}
		}
	}
}

// late reports whether a follower has been behind for longer than lag.
func (i *isr) late(id raft.ServerID, now time.Time, lag time.Duration) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	caughtUp := i.since
	if p := i.peers[id]; p != nil && p.caughtUp.After(caughtUp) {
		caughtUp = p.caughtUp
	}
	return now.Sub(caughtUp) > lag
}

// InSync lists the voters that are in sync: on the leader those that were within lag, elsewhere the replica itself.
func (g *Group) InSync(lag time.Duration) []replication.ReplicaID {
	in := g.current()
	if in == nil {
		return nil
	}
	if in.leading.Load() == 0 {
		return []replication.ReplicaID{g.o.Self}
	}
	var out []replication.ReplicaID
	now := g.o.Now()
	for _, s := range in.node.Load().GetConfiguration().Configuration().Servers {
		r, ok := parseReplica(s.ID)
		if ok && s.Suffrage == raft.Voter && (r == g.o.Self || !g.isr.late(s.ID, now, lag)) {
			out = append(out, r)
		}
	}
	return out
}

// Voters lists the group's voters by its newest configuration.
func (g *Group) Voters() []replication.ReplicaID { return g.members(raft.Voter) }

// Learners lists the replicas without a vote.
func (g *Group) Learners() []replication.ReplicaID { return g.members(raft.Nonvoter) }

func (g *Group) members(suffrage raft.ServerSuffrage) []replication.ReplicaID {
	node := g.running()
	if node == nil {
		return nil
	}
	var out []replication.ReplicaID
	for _, s := range node.GetConfiguration().Configuration().Servers {
		if r, ok := parseReplica(s.ID); ok && s.Suffrage == suffrage {
			out = append(out, r)
		}
	}
	return out
}

// Match is the log position that a follower has confirmed to this leader; 0 if none.
func (g *Group) Match(r replication.ReplicaID) log.Index {
	g.isr.mu.Lock()
	defer g.isr.mu.Unlock()
	if p := g.isr.peers[raft.ServerID(r.String())]; p != nil {
		return p.match
	}
	return 0
}

// Held is Match of a follower that has confirmed some position within that time, and whose node has not ended since; 0 of any other. So
// the follower is open, and has heard how far this leader has committed.
func (g *Group) Held(r replication.ReplicaID, within time.Duration) log.Index {
	g.isr.mu.Lock()
	defer g.isr.mu.Unlock()
	p := g.isr.peers[raft.ServerID(r.String())]
	if p == nil || g.o.Now().Sub(p.proved) > within {
		return 0
	}
	return p.match
}

// Progress is what this leader knows of a follower: the log position that it has confirmed, when it last confirmed one, and
// when it last held everything. The position is 0 if nothing is known.
func (g *Group) Progress(r replication.ReplicaID) (match log.Index, contact, caughtUp time.Time) {
	return g.isr.progress(raft.ServerID(r.String()))
}

func (i *isr) progress(id raft.ServerID) (match log.Index, contact, caughtUp time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	p := i.peers[id]
	if p == nil {
		return 0, time.Time{}, time.Time{}
	}
	return p.match, p.at, p.caughtUp
}

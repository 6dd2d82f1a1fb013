package leaders

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// NodeStatus is what a node tells of itself.
type NodeStatus struct {
	Node        replication.NodeID
	MetaApplied uint64 // index of the last metadata command that it has applied
	LowSpace    bool   // its disk is nearly full: it wants no more records
	Draining    bool   // it gives its leaderships away
	Version     string
	At          time.Time // when this node heard it, by its own clock
}

// node is what the table knows of another node.
type node struct {
	pusher *pusher // nil while the node is not connected
	status NodeStatus
	told   bool // status was told since the peer was last seen to be gone
	// hears are the nodes that it is connected to, as it says.
	hears []replication.NodeID
	// lost is when the node was last known to be alive, if it is not now.
	alive bool
	lost  time.Time
	from  receiver
	seq   atomic.Uint64 // of the last frame to it
}

func (t *Table) nodeLocked(id replication.NodeID) *node {
	n := t.mu.nodes[id]
	if n == nil {
		n = &node{lost: t.created}
		t.mu.nodes[id] = n
	}
	return n
}

// SetStatus tells the peers how this node is.
func (t *Table) SetStatus(s NodeStatus) {
	s.Node, s.At = t.node, t.now()
	t.mu.Lock()
	same := t.mu.self
	same.At = s.At
	if same == s {
		t.mu.Unlock()
		return
	}
	t.mu.self = s
	t.spreadStatusLocked()
	t.mu.Unlock()
}

// UpdateStatus changes this node's status by fn, which must not call the table.
func (t *Table) UpdateStatus(fn func(*NodeStatus)) {
	t.mu.Lock()
	s := t.mu.self
	before := s
	fn(&s)
	if s.Node, s.At = t.node, before.At; s == before {
		t.mu.Unlock()
		return
	}
	s.At = t.now()
	t.mu.self = s
	t.spreadStatusLocked()
	t.mu.Unlock()
}

// Status is what a connected node told last; of this node, what SetStatus was told.
func (t *Table) Status(id replication.NodeID) (NodeStatus, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if id == t.node {
		return t.mu.self, true
	}
	n := t.mu.nodes[id]
	if n == nil || n.pusher == nil || !n.told {
		return NodeStatus{Node: id}, false
	}
	return n.status, true
}

// AppliedOn is the index of the last metadata command that a connected node has applied.
func (t *Table) AppliedOn(id replication.NodeID) (uint64, bool) {
	s, ok := t.Status(id)
	return s.MetaApplied, ok
}

// Alive tells whether a node is there: it is this one, is connected to it, or to a node that is connected to this one. Two
// nodes that are cut from each other but not from the rest do not take each other for dead.
func (t *Table) Alive(id replication.NodeID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.aliveLocked(id)
}

// Silent is for how long a node has not been alive, as far as this node can tell; 0 if it is. Of a node that was never seen
// it is the age of the table.
func (t *Table) Silent(id replication.NodeID) time.Duration {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.aliveLocked(id) {
		return 0
	}
	since := t.created
	if n := t.mu.nodes[id]; n != nil {
		since = n.lost
	}
	return max(1, t.now().Sub(since))
}

// Up tells whether a node is connected to this one; of this one itself it is true.
func (t *Table) Up(id replication.NodeID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := t.mu.nodes[id]
	return id == t.node || n != nil && n.pusher != nil
}

// Live lists this node and those that are connected to it, in order.
func (t *Table) Live() []replication.NodeID {
	t.mu.RLock()
	defer t.mu.RUnlock()
	ids := append(t.upLocked(), t.node)
	slices.Sort(ids)
	return ids
}

func (t *Table) aliveLocked(id replication.NodeID) bool {
	if id == t.node {
		return true
	}
	n := t.mu.nodes[id]
	return n != nil && n.alive
}

// reviewLocked works out again which nodes are alive and returns the partitions that those lead which came or went: what
// Leader says of them has changed.
func (t *Table) reviewLocked() []replication.PartitionID {
	alive := make(map[replication.NodeID]bool, len(t.mu.nodes))
	for id, n := range t.mu.nodes {
		if n.pusher == nil {
			continue
		}
		alive[id] = true
		for _, h := range n.hears {
			if h != t.node {
				alive[h] = true
			}
		}
	}
	for id := range alive {
		t.nodeLocked(id)
	}
	turned := make(map[replication.NodeID]bool)
	for id, n := range t.mu.nodes {
		if n.alive == alive[id] {
			continue
		}
		if n.alive = alive[id]; !n.alive {
			n.lost = t.now()
		}
		turned[id] = true
	}
	if len(turned) == 0 {
		return nil
	}
	var changed []replication.PartitionID
	for id, e := range t.mu.entries {
		if turned[e.Leader.Node] {
			changed = append(changed, id)
		}
	}
	return changed
}

// upLocked are the nodes that are connected to this one, in order.
func (t *Table) upLocked() []replication.NodeID {
	var ids []replication.NodeID
	for id, n := range t.mu.nodes {
		if n.pusher != nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

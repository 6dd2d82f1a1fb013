package admin

import (
	"time"

	"github.com/quorlog/quorlog/replication"
)

// Leaders is the leadership table: who leads, and which nodes are there. *leaders.Table is one.
type Leaders interface {
	// Leader tells who leads a partition and which nodes have a replica in sync; false if nobody is known to lead. The epoch
	// is the newest one known in any case.
	Leader(id replication.PartitionID) (replication.Leader, []replication.NodeID, bool)
	// Alive tells whether a node is there, as far as this one can tell.
	Alive(id replication.NodeID) bool
	// Silent is for how long it has not been; 0 if it is.
	Silent(id replication.NodeID) time.Duration
}

// alone is the table of a node without peers: what its own replicas know.
type alone struct{ local Local }

func (a alone) Leader(id replication.PartitionID) (replication.Leader, []replication.NodeID, bool) {
	p, ok := a.local.Get(id)
	if !ok {
		return replication.NoLeader, nil, false
	}
	l := p.Leader()
	return l, p.ISR(), l.Node != replication.NoNode
}

func (alone) Alive(replication.NodeID) bool           { return true }
func (alone) Silent(replication.NodeID) time.Duration { return 0 }

// leader is what a table says of a partition; where this node leads, its replica knows best who is in sync.
func leader(t Leaders, local Local, id replication.PartitionID) (replication.Leader, []replication.NodeID) {
	l, isr, _ := t.Leader(id)
	if p, ok := local.Get(id); ok && p.Leading() {
		return p.Leader(), p.ISR()
	}
	return l, isr
}

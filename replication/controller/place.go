package controller

import (
	"github.com/quorlog/quorlog/replication"
)

// load is what is placed on a node.
type load struct {
	id       replication.NodeID
	rack     string
	replicas int
	leaders  int // partitions of which it has the first replica
	avoid    bool
}

// placer chooses nodes for new partitions. It counts what it places, so that it can place many in a row.
type placer struct{ nodes []load }

// newPlacer begins with what an image has placed. Nodes to avoid get something only where the others are too few.
func newPlacer(im *Image, avoid func(replication.NodeID) bool) *placer {
	p := &placer{nodes: im.replicaCounts()}
	for i := range p.nodes {
		p.nodes[i].avoid = avoid(p.nodes[i].id)
	}
	return p
}

// place chooses nodes for one partition; the first is to lead it. There are at least factor nodes.
//
// The leader is the node that leads least, so that leadership is even. Each other replica goes to a node in the rack that
// has fewest of this partition's replicas, and there to the node that has fewest replicas of all: so a partition survives
// the loss of a rack where that is possible, and the disks fill evenly. Ties go to fewer leaders, then to the lower id;
// nothing is random, so that a test and a plan can tell what will happen.
func (p *placer) place(factor int) []replication.NodeID {
	out := make([]replication.NodeID, 0, factor)
	chosen := make([]bool, len(p.nodes))
	racks := map[string]int{}
	for len(out) < factor {
		best := -1
		for i := range p.nodes {
			if !chosen[i] && (best < 0 || p.better(i, best, len(out) == 0, racks)) {
				best = i
			}
		}
		n := &p.nodes[best]
		if chosen[best] = true; len(out) == 0 {
			n.leaders++
		}
		n.replicas++
		racks[n.rack]++
		out = append(out, n.id)
	}
	return out
}

// better tells whether node a is the better choice. b has the lower id.
func (p *placer) better(a, b int, first bool, racks map[string]int) bool {
	x, y := &p.nodes[a], &p.nodes[b]
	if x.avoid != y.avoid {
		return y.avoid
	}
	if first {
		if x.leaders != y.leaders {
			return x.leaders < y.leaders
		}
		return x.replicas < y.replicas
	}
	if racks[x.rack] != racks[y.rack] {
		return racks[x.rack] < racks[y.rack]
	}
	if x.replicas != y.replicas {
		return x.replicas < y.replicas
	}
	return x.leaders < y.leaders
}

// placeAll chooses nodes for several partitions.
func (p *placer) placeAll(partitions, factor int) [][]replication.NodeID {
	out := make([][]replication.NodeID, partitions)
	for i := range out {
		out[i] = p.place(factor)
	}
	return out
}

// count adds a placement that somebody else chose.
func (p *placer) count(nodes []replication.NodeID) {
	for i, id := range nodes {
		for j := range p.nodes {
			if p.nodes[j].id == id {
				p.nodes[j].replicas++
				if i == 0 {
					p.nodes[j].leaders++
				}
			}
		}
	}
}

// defaultFactor is the replication factor where nobody chose one: the largest odd number up to 3 that the cluster has
// nodes for. An even one costs a replica and survives no more failures.
func defaultFactor(nodes int) int {
	if nodes >= 3 {
		return 3
	}
	return 1
}

package controller

import (
	"cmp"
	"slices"

	"github.com/quorlog/quorlog/replication"
)

// maxVoters is how many nodes vote in the metadata group. More make each change slower, and five survive two failures.
const maxVoters = 5

// memberState is what the metadata group's leader knows of a registered node.
type memberState struct {
	replica replication.ReplicaID // that the node is to have in the group
	rack    string
	here    bool // alive now
	alive   bool // now, and for long enough to be relied on
	lost    bool // not alive for so long that another one should vote in its place
	leaving bool // it is to lead nothing
	current bool // it has nearly all that the leader has
}

// membersView is what a decision about the metadata group's members is made from.
type membersView struct {
	self              replication.ReplicaID
	voters, learners  []replication.ReplicaID
	nodes             map[replication.NodeID]memberState
	leadershipMayMove bool // false for a while after a transfer that failed
}

// changeKind is a step of the metadata group's members.
type changeKind uint8

const (
	noChange changeKind = iota
	addLearner
	promote
	demote
	remove
	transfer
)

// memberChange is the next step, and why.
type memberChange struct {
	kind    changeKind
	replica replication.ReplicaID
	why     string
}

// nextMetaChange decides the one next step towards the members that the metadata group should have: every registered node's
// present replica, the largest odd number up to maxVoters of them with a vote, spread over racks. It is only asked on the leader.
//
// No step makes what is alive less than a majority, and a dead voter gives way only to somebody who takes its place: a node that
// is merely down keeps its vote, for the day on which the others are.
func nextMetaChange(v membersView) memberChange {
	for _, rule := range []func(membersView) memberChange{
		leaveLeadership, removeStale, addMissing, promoteOne, replaceLost, demoteSurplus, spreadRacks,
	} {
		if c := rule(v); c.kind != noChange {
			return c
		}
	}
	return memberChange{}
}

func wantedVoters(nodes int) int {
	n := min(nodes, maxVoters)
	return max(n-(n+1)%2, 1)
}

// state is that of a replica's node, if the replica is the one that the node is to have.
func (v membersView) state(r replication.ReplicaID) (memberState, bool) {
	s, ok := v.nodes[r.Node]
	return s, ok && s.replica == r
}

func (v membersView) aliveVoters() int {
	n := 0
	for _, r := range v.voters {
		if s, ok := v.state(r); r == v.self || ok && s.alive {
			n++
		}
	}
	return n
}

// canLose tells whether a vote fewer leaves a majority of the voters alive. alive tells whether the one that loses it is.
func (v membersView) canLose(alive bool) bool {
	left := v.aliveVoters()
	if alive {
		left--
	}
	voters := len(v.voters) - 1
	return voters > 0 && left > voters/2
}

// votersIn counts the voters in a rack.
func (v membersView) votersIn(rack string) int {
	n := 0
	for _, r := range v.voters {
		if s, ok := v.state(r); ok && s.rack == rack {
			n++
		}
	}
	return n
}

// leaveLeadership hands the leadership over if this node is to lead nothing, or is no longer the node's replica.
func leaveLeadership(v membersView) memberChange {
	s, ok := v.state(v.self)
	if ok && !s.leaving || !v.leadershipMayMove {
		return memberChange{}
	}
	if to, found := v.heir(); found {
		return memberChange{transfer, to, "the leader is to leave"}
	}
	return memberChange{}
}

// heir is who should lead after this node.
func (v membersView) heir() (replication.ReplicaID, bool) {
	return best(v.voters, func(r replication.ReplicaID) bool {
		s, ok := v.state(r)
		return ok && r != v.self && s.alive && s.current && !s.leaving
	}, func(a, b replication.ReplicaID) int { return 0 })
}

// removeStale takes out replicas of nodes that are not registered any more, or have another replica by now.
func removeStale(v membersView) memberChange {
	for _, r := range v.learners {
		if _, ok := v.state(r); !ok {
			return memberChange{remove, r, "the node has no such replica any more"}
		}
	}
	for _, r := range v.voters {
		if _, ok := v.state(r); !ok && r != v.self && v.canLose(false) {
			return memberChange{remove, r, "the node has no such replica any more"}
		}
	}
	return memberChange{}
}

// addMissing adds nodes that are there and not in the group. One that is not there would only be written to in vain.
func addMissing(v membersView) memberChange {
	var missing []replication.ReplicaID
	for _, s := range v.nodes {
		if s.here && !slices.Contains(v.voters, s.replica) && !slices.Contains(v.learners, s.replica) {
			missing = append(missing, s.replica)
		}
	}
	if r, ok := best(missing, func(replication.ReplicaID) bool { return true }, func(a, b replication.ReplicaID) int { return 0 }); ok {
		return memberChange{addLearner, r, "the node has joined"}
	}
	return memberChange{}
}

// candidates are the learners that may be given a vote.
func (v membersView) candidates() []replication.ReplicaID {
	var out []replication.ReplicaID
	for _, r := range v.learners {
		if s, ok := v.state(r); ok && s.alive && s.current && !s.leaving {
			out = append(out, r)
		}
	}
	return out
}

// promoteOne gives a vote to the learner in the rack with fewest. An odd number becomes even only if the next step can make it
// odd again: an even number of voters survives no more failures than one less, and has one more that may fail.
func promoteOne(v membersView) memberChange {
	ready := v.candidates()
	if len(v.voters) >= wantedVoters(len(v.nodes)) || len(ready) == 0 || len(v.voters)%2 == 1 && len(ready) < 2 {
		return memberChange{}
	}
	r, _ := best(ready, func(replication.ReplicaID) bool { return true }, v.byRack)
	return memberChange{promote, r, "there are too few voters"}
}

// byRack compares two candidates by how many voters are in their racks.
func (v membersView) byRack(a, b replication.ReplicaID) int {
	x, y := v.nodes[a.Node], v.nodes[b.Node]
	return cmp.Compare(v.votersIn(x.rack), v.votersIn(y.rack))
}

// replaceLost takes the vote of a node that is gone for long, where a learner can have it. The vote is taken first: with one
// more voter, the majority would have to be larger while one is missing.
func replaceLost(v membersView) memberChange {
	if len(v.candidates()) == 0 {
		return memberChange{}
	}
	for _, r := range v.voters {
		if s, ok := v.state(r); ok && s.lost && r != v.self && v.canLose(false) {
			return memberChange{demote, r, "the voter is gone, and another node can vote in its place"}
		}
	}
	return memberChange{}
}

// demoteSurplus takes votes where there are more than there should be: first from nodes that are gone or are to leave, then
// from the rack with most.
func demoteSurplus(v membersView) memberChange {
	if len(v.voters) <= wantedVoters(len(v.nodes)) {
		return memberChange{}
	}
	r, ok := best(v.voters, func(r replication.ReplicaID) bool {
		s, ok := v.state(r)
		return ok && r != v.self && v.canLose(s.alive)
	}, func(a, b replication.ReplicaID) int {
		x, y := v.nodes[a.Node], v.nodes[b.Node]
		return cmp.Or(falseFirst(x.alive, y.alive), falseFirst(!x.leaving, !y.leaving), v.byRack(b, a), cmp.Compare(b.Node, a.Node))
	})
	if !ok {
		return memberChange{}
	}
	return memberChange{demote, r, "there are too many voters"}
}

// spreadRacks takes the vote of one of several voters in a rack, if a learner can bring in a rack without any.
func spreadRacks(v membersView) memberChange {
	fresh := slices.ContainsFunc(v.candidates(), func(r replication.ReplicaID) bool { return v.votersIn(v.nodes[r.Node].rack) == 0 })
	if !fresh || len(v.voters) != wantedVoters(len(v.nodes)) || v.aliveVoters() < len(v.voters) {
		return memberChange{}
	}
	r, ok := best(v.voters, func(r replication.ReplicaID) bool {
		return r != v.self && v.votersIn(v.nodes[r.Node].rack) > 1 && v.canLose(true)
	}, func(a, b replication.ReplicaID) int { return cmp.Or(v.byRack(b, a), cmp.Compare(b.Node, a.Node)) })
	if !ok {
		return memberChange{}
	}
	return memberChange{demote, r, "another rack has no voter"}
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// best is the first by order of those that may be, and of equals the one with the lowest id.
func best(all []replication.ReplicaID, may func(replication.ReplicaID) bool, order func(a, b replication.ReplicaID) int) (replication.ReplicaID, bool) {
	var out replication.ReplicaID
	found := false
	for _, r := range all {
		if may(r) && (!found || cmp.Or(order(r, out), cmp.Compare(r.Node, out.Node), cmp.Compare(r.Incarnation, out.Incarnation)) < 0) {
			out, found = r, true
		}
	}
	return out, found
}

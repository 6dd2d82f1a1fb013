package controller

import (
	"slices"

	"github.com/quorlog/quorlog/replication"
)

// retarget is the assignment that leads from a to a target: what the target lacks is to go, what is new in it is to come. A
// replica that was on its way out and is wanted again counts as settled: it has its files and remembers its votes.
func retarget(a replication.Assignment, target []replication.ReplicaID) replication.Assignment {
	out := replication.Assignment{Initial: a.Initial}
	if out.Initial == nil {
		out.Initial = a.Replicas
	}
	for _, r := range target {
		out.Replicas = append(out.Replicas, r)
		if !slices.Contains(a.Replicas, r) || slices.Contains(a.Adding, r) {
			out.Adding = append(out.Adding, r)
		}
	}
	for _, r := range a.Replicas {
		if !slices.Contains(target, r) {
			out.Replicas, out.Removing = append(out.Replicas, r), append(out.Removing, r)
		}
	}
	return out
}

// moving tells whether a reassignment is under way.
func moving(a replication.Assignment) bool { return len(a.Adding)+len(a.Removing) > 0 }

// original is where a partition's replicas were before the reassignment under way. A replica that was replaced by a new
// incarnation on its node stays replaced: it is damaged, or its disk is gone.
func original(a replication.Assignment) []replication.ReplicaID {
	var out []replication.ReplicaID
	for _, r := range a.Replicas {
		if slices.Contains(a.Adding, r) {
			continue
		}
		if newest, _ := newestOn(a, r.Node); !slices.Contains(out, newest) {
			out = append(out, newest)
		}
	}
	return out
}

// newestOn is the last incarnation that an assignment has on a node: the only one that may still hold anything.
func newestOn(a replication.Assignment, node replication.NodeID) (newest replication.ReplicaID, found bool) {
	for _, r := range a.Replicas {
		if r.Node == node && (!found || r.Incarnation > newest.Incarnation) {
			newest, found = r, true
		}
	}
	return newest, found
}

// sameReplicas compares two lists without their order. Neither names a replica twice.
func sameReplicas(a, b []replication.ReplicaID) bool {
	if len(a) != len(b) {
		return false
	}
	for _, r := range a {
		if !slices.Contains(b, r) {
			return false
		}
	}
	return true
}

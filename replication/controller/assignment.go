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

// origin are the nodes that a partition's replicas were on before the reassignment under way.
func origin(a replication.Assignment) []replication.NodeID {
	if a.Origin != nil {
		return a.Origin
	}
	var out []replication.NodeID
	for _, r := range guessedOrigin(a) {
		out = append(out, r.Node)
	}
	return out
}

// guessedOrigin is what was done below levelOrigin. It is wrong after a second reassignment had changed the target of a first:
// what came and shall go again passes for what was there.
func guessedOrigin(a replication.Assignment) []replication.ReplicaID {
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

// without is an assignment without what was to go from a node.
func without(a replication.Assignment, node replication.NodeID) replication.Assignment {
	on := func(r replication.ReplicaID) bool { return r.Node == node }
	if !slices.ContainsFunc(a.Removing, on) {
		return a
	}
	out := replication.Assignment{Adding: a.Adding, Initial: a.Founders(), Origin: a.Origin}
	for _, r := range a.Replicas {
		if !on(r) {
			out.Replicas = append(out.Replicas, r)
		}
	}
	for _, r := range a.Removing {
		if !on(r) {
			out.Removing = append(out.Removing, r)
		}
	}
	if !moving(out) {
		out.Origin = nil
	}
	return out
}

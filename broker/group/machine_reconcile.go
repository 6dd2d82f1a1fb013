package group

import "time"

// reconcile brings a member a step nearer to the target. owned is what it says that it has; nil: it did not say. It reports
// whether anything changed.
//
// A member first gives up what is not its any more. While it has yet to, it stays in its epoch; only when it has said that it
// did, it goes on to the epoch of the target, and gets of its partitions those that nobody else still holds.
func (g *modern) reconcile(now time.Time, s *modernMember, owned partitionSet) bool {
	if g.share {
		return g.reconcileShare(s)
	}
	switch s.state {
	case stateStable:
		if s.epoch == g.assignmentEpoch {
			return false
		}
	case stateUnrevoked:
		if stillOwns(owned, s.revoking) {
			return false
		}
	}
	return g.advance(now, s, owned)
}

// stillOwns tells whether a member that owns these may still use any of the partitions.
func stillOwns(owned, partitions partitionSet) bool {
	if len(partitions) == 0 {
		return false
	}
	if owned == nil {
		return true
	}
	for p := range partitions {
		if owned.has(p) {
			return true
		}
	}
	return false
}

// advance computes a member's next assignment.
func (g *modern) advance(now time.Time, s *modernMember, owned partitionSet) bool {
	target := g.target[s.id]
	keep, revoke, add := partitionSet{}, partitionSet{}, partitionSet{}
	for p := range s.assigned {
		if target.has(p) {
			keep[p] = struct{}{}
		} else {
			revoke[p] = struct{}{}
		}
	}
	missing := false
	for p := range target {
		if keep.has(p) {
			continue
		}
		// What the member itself has just given up is free, too.
		if owner, held := g.owners[p]; held && owner != s.id {
			missing = true
			continue
		}
		add[p] = struct{}{}
	}
	next := modernMember{state: stateStable, epoch: g.assignmentEpoch, assigned: keep, revoking: partitionSet{}}
	switch {
	case stillOwns(owned, revoke):
		next.state, next.epoch, next.revoking = stateUnrevoked, s.epoch, revoke
	default:
		if missing {
			next.state = stateUnreleased
		}
		for p := range add {
			keep[p] = struct{}{}
		}
	}
	return g.move(now, s, &next)
}

// move takes over a member's next assignment.
func (g *modern) move(now time.Time, s, next *modernMember) bool {
	if next.state == s.state && next.epoch == s.epoch && next.assigned.equal(s.assigned) && next.revoking.equal(s.revoking) {
		return false
	}
	g.disown(s)
	// A member may repeat its last request, as its answer may have been lost: with the epoch before.
	s.previous, s.epoch = s.epoch, next.epoch
	s.state, s.assigned, s.revoking = next.state, next.assigned, next.revoking
	g.own(s)
	s.revokeBy = time.Time{}
	if s.state == stateUnrevoked {
		s.revokeBy = now.Add(s.rebalance)
	}
	return true
}

// reconcileShare gives a member its target at once: a partition of a share group may have several readers.
func (g *modern) reconcileShare(s *modernMember) bool {
	if s.epoch == g.assignmentEpoch {
		return false
	}
	s.previous, s.epoch, s.state = s.epoch, g.assignmentEpoch, stateStable
	s.assigned = partitionSet{}
	for p := range g.target[s.id] {
		s.assigned[p] = struct{}{}
	}
	return true
}

package controller

import (
	"math"
	"slices"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// partition finds a partition of the image in the making.
func (s *stepper) partition(topic []byte, index int32) (*Topic, replication.Assignment, error) {
	id, _ := toTopicID(topic)
	t := s.draft.next.ByID[id]
	if t == nil {
		return nil, replication.Assignment{}, replication.ErrUnknownTopicID
	}
	if index < 0 || int(index) >= len(t.Partitions) {
		return nil, replication.Assignment{}, failf(replication.ErrUnknownPartition, "topic %s has no partition %d", t.Name, index)
	}
	return t, t.Partitions[index], nil
}

// setPartition replaces one partition's assignment.
func (s *stepper) setPartition(t *Topic, index int32, a replication.Assignment) {
	next := *t
	next.Partitions = slices.Clone(t.Partitions)
	next.Partitions[index] = a
	s.draft.setTopic(&next)
	s.changed = true
}

func (s *stepper) reassignPartitions(c *metapb.ReassignPartitions) {
	s.result.Partitions = make([]error, len(c.GetPartitions()))
	for i, p := range c.GetPartitions() {
		s.result.Partitions[i] = s.reassign(p)
	}
}

func (s *stepper) reassign(p *metapb.PartitionReassignment) error {
	t, a, err := s.partition(p.GetTopicId(), p.GetPartition())
	if err != nil {
		return err
	}
	var target []replication.ReplicaID
	if p.GetTarget() == nil {
		if target, err = s.back(a); err != nil {
			return err
		}
		if !moving(a) || slices.Equal(target, a.Target()) {
			return failf(ErrNoReassignment, "%s-%d", t.Name, p.GetPartition())
		}
	} else if target, err = s.replicasOn(a, p.GetTarget().GetNodes()); err != nil {
		return err
	}
	if slices.Equal(target, a.Target()) {
		return nil
	}
	s.setPartition(t, p.GetPartition(), s.retarget(a, target))
	return nil
}

// retarget is the assignment that leads from a to a target, with the nodes that all began on.
func (s *stepper) retarget(a replication.Assignment, target []replication.ReplicaID) replication.Assignment {
	out := retarget(a, target)
	if s.level >= levelOrigin && moving(out) {
		out.Origin = origin(a)
	}
	return out
}

// back is the target that calling a reassignment off leads to. Nodes that are registered no more are left out.
func (s *stepper) back(a replication.Assignment) ([]replication.ReplicaID, error) {
	if s.level < levelOrigin {
		return guessedOrigin(a), nil
	}
	var nodes []int32
	for _, n := range origin(a) {
		if _, ok := s.draft.next.Registrations[n]; ok {
			nodes = append(nodes, int32(n))
		}
	}
	if len(nodes) == 0 {
		return nil, failf(replication.ErrInvalidReplicaAssignment, "none of the nodes that it was on is registered")
	}
	return s.replicasOn(a, nodes)
}

// replicasOn chooses a partition's replicas on the nodes of a target: those that it has there, and new ones.
func (s *stepper) replicasOn(a replication.Assignment, nodes []int32) ([]replication.ReplicaID, error) {
	if err := checkPlacement(nodes); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		r, ok := s.draft.next.Registrations[replication.NodeID(n)]
		if !ok {
			return nil, failf(replication.ErrInvalidReplicaAssignment, "node %d is not registered", n)
		}
		if r.NextIncarnation == math.MaxUint32 {
			return nil, failf(replication.ErrPolicyViolation, "node %d has used up its incarnations", n)
		}
	}
	target := make([]replication.ReplicaID, len(nodes))
	for i, n := range nodes {
		id := replication.NodeID(n)
		var found bool
		if target[i], found = newestOn(a, id); !found {
			target[i] = s.draft.incarnate(id)
		}
	}
	return target, nil
}

func (s *stepper) finishReassignment(c *metapb.FinishReassignment) {
	t, a, err := s.partition(c.GetTopicId(), c.GetPartition())
	if err != nil {
		s.refuse(err)
		return
	}
	if !sameReplicas(toReplicas(c.GetVoters()), a.Target()) {
		s.refuse(failf(replication.ErrInvalidRequest, "the voters are not what %s-%d is to have", t.Name, c.GetPartition()))
		return
	}
	if moving(a) {
		s.setPartition(t, c.GetPartition(), replication.Assignment{Replicas: a.Target(), Initial: a.Initial})
	}
}

// renewReplica begins a damaged replica again. To ask twice is harmless: the second answer is that of the first.
func (s *stepper) renewReplica(c *metapb.RenewReplica) {
	t, a, err := s.partition(c.GetTopicId(), c.GetPartition())
	if err != nil {
		s.refuse(err)
		return
	}
	old := toReplica(c.GetOld())
	target := slices.Clone(a.Target())
	at := slices.IndexFunc(target, func(r replication.ReplicaID) bool { return r.Node == old.Node })
	switch {
	case at >= 0 && target[at].Incarnation > old.Incarnation:
		s.result.Replica = target[at]
	case at < 0 || target[at] != old:
		s.refuse(failf(replication.ErrInvalidRequest, "%s-%d has no replica %s", t.Name, c.GetPartition(), old))
	case !slices.ContainsFunc(a.Replicas, func(r replication.ReplicaID) bool { return r.Node != old.Node }):
		s.refuse(failf(replication.ErrPolicyViolation, "%s-%d has no other replica that could restore this one", t.Name, c.GetPartition()))
	case s.draft.next.Registrations[old.Node].NextIncarnation == math.MaxUint32:
		s.refuse(failf(replication.ErrPolicyViolation, "node %d has used up its incarnations", old.Node))
	default:
		target[at] = s.draft.incarnate(old.Node)
		s.setPartition(t, c.GetPartition(), s.retarget(a, target))
		s.result.Replica, s.result.Renewed = target[at], true
	}
}

package controller

import (
	"cmp"
	"context"
	"slices"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// Reassignment asks for a partition's replicas to be on other nodes.
type Reassignment struct {
	Topic     string
	Partition int32
	// Replicas are the nodes, the preferred leader first. Nil calls off a reassignment that is under way.
	Replicas []replication.NodeID
}

// ReassignPartitions begins to move replicas, or calls that off. It returns once that is written down; the partitions' leaders do
// the moving. Each stands and falls alone; the errors are in the order of the reassignments.
func (c *Controller) ReassignPartitions(ctx context.Context, moves []Reassignment) []error {
	errs := make([]error, len(moves))
	im := c.Image()
	var index []int
	items := &metapb.ReassignPartitions{}
	for i, m := range moves {
		t, err := im.find(TopicRef{Name: m.Topic})
		if err != nil {
			errs[i] = err
			continue
		}
		item := &metapb.PartitionReassignment{TopicId: slices.Clone(t.ID[:]), Partition: m.Partition}
		if m.Replicas != nil {
			item.Target = toPlacement(m.Replicas)
		}
		items.Partitions, index = append(items.Partitions, item), append(index, i)
	}
	for len(index) > 0 {
		n := min(len(index), maxReassignments)
		now := &metapb.ReassignPartitions{Partitions: items.Partitions[:n]}
		r, err := c.submitSome(ctx, &metapb.Command{Kind: &metapb.Command_ReassignPartitions{ReassignPartitions: now}})
		for i := range n {
			if errs[index[i]] = err; err == nil {
				errs[index[i]] = unknownAs(TopicRef{Name: moves[index[i]].Topic}, r.Partitions[i])
			}
		}
		items.Partitions, index = items.Partitions[n:], index[n:]
	}
	return errs
}

// submitSome proposes a command of independent items unless all of them would be refused or do nothing.
func (c *Controller) submitSome(ctx context.Context, cmd *metapb.Command) (*Result, error) {
	if r := c.check(c.Image(), cmd); r.Err != nil || !r.Changed {
		return r, r.Err
	}
	r, err := c.propose(ctx, cmd)
	if err == nil && len(r.Partitions) != len(cmd.GetReassignPartitions().GetPartitions()) {
		return nil, failf(replication.ErrUnknownOutcome, "the controller answered for %d partitions", len(r.Partitions))
	}
	return r, err
}

// MovingPartition is a partition with a reassignment under way.
type MovingPartition struct {
	Topic      string
	ID         replication.PartitionID
	Assignment replication.Assignment
}

// ListReassignments lists the partitions with a reassignment under way, by topic and partition.
func (c *Controller) ListReassignments() []MovingPartition {
	var out []MovingPartition
	for _, t := range c.Image().Topics {
		for i, a := range t.Partitions {
			if moving(a) {
				out = append(out, MovingPartition{t.Name, replication.PartitionID{Topic: t.ID, Partition: int32(i)}, a})
			}
		}
	}
	slices.SortFunc(out, func(a, b MovingPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID.Partition, b.ID.Partition))
	})
	return out
}

// FinishReassignment tells that a partition's group has the voters that it is to have and no learners. The partition's leader
// calls it. If the target has moved meanwhile, the error is replication.ErrInvalidRequest, and the leader goes on.
func (c *Controller) FinishReassignment(ctx context.Context, id replication.PartitionID, voters []replication.ReplicaID) error {
	if t := c.Image().ByID[id.Topic]; t != nil && int(id.Partition) < len(t.Partitions) && !moving(t.Partitions[id.Partition]) {
		return nil
	}
	_, err := c.submitRepeatable(ctx, &metapb.Command{Kind: &metapb.Command_FinishReassignment{FinishReassignment: &metapb.FinishReassignment{
		TopicId: slices.Clone(id.Topic[:]), Partition: id.Partition, Voters: fromReplicas(voters),
	}}})
	return err
}

// RenewReplica begins a damaged replica of a partition again, as the incarnation that it returns. It is refused where no other
// replica could restore it. To ask twice for the same gives the same answer.
func (c *Controller) RenewReplica(ctx context.Context, id replication.PartitionID, old replication.ReplicaID) (replication.ReplicaID, error) {
	r, err := c.submitRepeatable(ctx, &metapb.Command{Kind: &metapb.Command_RenewReplica{RenewReplica: &metapb.RenewReplica{
		TopicId: slices.Clone(id.Topic[:]), Partition: id.Partition, Old: fromReplica(old),
	}}})
	if err != nil {
		return replication.ReplicaID{}, err
	}
	return r.Replica, nil
}

package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// Move asks for a partition's replicas to be on other nodes.
type Move struct {
	PartitionRef
	Replicas []replication.NodeID // the first is the preferred leader; nil cancels a move that is under way
}

// MoveRules bound what a request for moves may do.
type MoveRules struct {
	// SameFactor refuses to change the number of replicas.
	SameFactor bool
}

// Reassign begins to move partitions, or cancels that. The errors are in the order of the moves; nil means that it has begun.
func (s *Service) Reassign(ctx context.Context, moves []Move, rules MoveRules) []error {
	im := s.images.Image()
	errs := make([]error, len(moves))
	times := make(map[PartitionRef]int, len(moves))
	for i := range moves {
		times[moves[i].PartitionRef]++
	}
	var asked []controller.Reassignment
	var index []int
	for i := range moves {
		m := &moves[i]
		t := im.Topics[m.Topic]
		switch {
		case times[m.PartitionRef] > 1:
			errs[i] = fmt.Errorf("%w: the partition is named more than once", replication.ErrInvalidRequest)
		case t == nil || m.Partition < 0 || int(m.Partition) >= len(t.Partitions):
			errs[i] = replication.ErrUnknownPartition
		case rules.SameFactor && m.Replicas != nil && len(m.Replicas) != len(t.Partitions[m.Partition].Target()):
			errs[i] = fmt.Errorf("%w: %d replicas instead of %d, and the request does not allow another number",
				replication.ErrInvalidReplicationFactor, len(m.Replicas), len(t.Partitions[m.Partition].Target()))
		default:
			asked = append(asked, controller.Reassignment{Topic: m.Topic, Partition: m.Partition, Replicas: m.Replicas})
			index = append(index, i)
		}
	}
	if len(asked) == 0 {
		return errs
	}
	for i, err := range s.placement.ReassignPartitions(ctx, asked) {
		errs[index[i]] = err
	}
	return errs
}

// Reassignment is a move that is under way.
type Reassignment struct {
	PartitionRef
	Replicas, Adding, Removing []replication.NodeID
}

// Reassignments lists the moves that are under way, of the partitions named, or of all if wanted is nil, in order.
func (s *Service) Reassignments(wanted []PartitionRef) []Reassignment {
	im := s.images.Image()
	if wanted == nil {
		wanted = allPartitions(im)
	}
	var out []Reassignment
	for _, ref := range wanted {
		t := im.Topics[ref.Topic]
		if t == nil || ref.Partition < 0 || int(ref.Partition) >= len(t.Partitions) {
			continue
		}
		a := t.Partitions[ref.Partition]
		if len(a.Adding) == 0 && len(a.Removing) == 0 {
			continue
		}
		out = append(out, Reassignment{ref, nodesOf(a.Replicas), nodesOf(a.Adding), nodesOf(a.Removing)})
	}
	slices.SortStableFunc(out, func(a, b Reassignment) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}

// nodesOf are the nodes of replicas, each once: a replica that is begun again has two incarnations on its node meanwhile.
func nodesOf(replicas []replication.ReplicaID) []replication.NodeID {
	out := make([]replication.NodeID, 0, len(replicas))
	for _, r := range replicas {
		if !slices.Contains(out, r.Node) {
			out = append(out, r.Node)
		}
	}
	return out
}

// Unregister makes the cluster forget a node that is gone for good and hosts nothing any more.
func (s *Service) Unregister(ctx context.Context, id replication.NodeID) error {
	return s.placement.UnregisterNode(ctx, id)
}

// errNoPlacement: this node was built without Options.Placement.
var errNoPlacement = errors.New("this node can't reach the placement of replicas")

// noPlacement stands in where none is given.
type noPlacement struct{}

func (noPlacement) ReassignPartitions(_ context.Context, moves []controller.Reassignment) []error {
	errs := make([]error, len(moves))
	for i := range errs {
		errs[i] = errNoPlacement
	}
	return errs
}

func (noPlacement) UnregisterNode(context.Context, replication.NodeID) error { return errNoPlacement }

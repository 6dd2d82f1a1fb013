package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// Errors of elections.
var (
	// ErrElectionNotNeeded: the partition has the leader that is asked for (ELECTION_NOT_NEEDED).
	ErrElectionNotNeeded = errors.New("no election is needed")
	// ErrPreferredLeaderNotAvailable: the preferred replica can't lead now (PREFERRED_LEADER_NOT_AVAILABLE).
	ErrPreferredLeaderNotAvailable = errors.New("the preferred leader is not available")
	// ErrEligibleLeadersNotAvailable: no replica may lead (ELIGIBLE_LEADERS_NOT_AVAILABLE).
	ErrEligibleLeadersNotAvailable = errors.New("no replica may be elected: a majority of them is needed")
)

// errNoGroups: this node was built without Options.Groups.
var errNoGroups = errors.New("this node's groups can't be reached")

// Groups reaches the Raft groups on this node. An answer for a group that this node does not lead is
// replication.ErrNotLeader.
type Groups interface {
	// Transfer hands the leadership of a partition to another node; it returns once it has gone.
	Transfer(ctx context.Context, id replication.PartitionID, to replication.NodeID) error
	// Quorum describes a partition's group.
	Quorum(id replication.PartitionID) (Quorum, error)
	// MetadataQuorum describes the metadata group.
	MetadataQuorum() (Quorum, error)
}

// noGroups stands in where none are given.
type noGroups struct{}

func (noGroups) Transfer(context.Context, replication.PartitionID, replication.NodeID) error {
	return errNoGroups
}
func (noGroups) Quorum(replication.PartitionID) (Quorum, error) { return Quorum{}, errNoGroups }
func (noGroups) MetadataQuorum() (Quorum, error)                { return Quorum{}, errNoGroups }

// ElectionKind says which election is asked for; the numbers are Kafka's.
type ElectionKind int8

// The kinds of elections (KIP-460).
const (
	PreferredElection ElectionKind = 0
	UncleanElection   ElectionKind = 1
)

// PartitionRef names a partition by its topic's name.
type PartitionRef struct {
	Topic     string
	Partition int32
}

// Election is what became of one election.
type Election struct {
	PartitionRef
	Err error
}

// electionsAtOnce bounds how many leaderships are moved at a time: each move is an election on three nodes.
const electionsAtOnce = 16

// ElectLeaders makes the preferred replicas of partitions their leaders, and waits until they are. Without partitions it
// means all of which another replica leads; then only those are in the result. An unclean election, of a replica that
// may lack committed records, is never done: a group that has lost its majority is repaired offline, knowingly.
func (s *Service) ElectLeaders(ctx context.Context, kind ElectionKind, wanted []PartitionRef) ([]Election, error) {
	if kind != PreferredElection && kind != UncleanElection {
		return nil, fmt.Errorf("%w: unknown kind of election %d", replication.ErrInvalidRequest, kind)
	}
	all := wanted == nil
	im := s.images.Image()
	if all {
		wanted = allPartitions(im)
	}
	results := make([]Election, len(wanted))
	el := election{service: s, image: im, kind: kind}
	room := make(chan struct{}, electionsAtOnce)
	var under sync.WaitGroup
	for i, ref := range wanted {
		results[i].PartitionRef = ref
		room <- struct{}{}
		under.Go(func() {
			results[i].Err = el.run(ctx, ref)
			<-room
		})
	}
	under.Wait()
	if all {
		results = slices.DeleteFunc(results, func(e Election) bool { return errors.Is(e.Err, ErrElectionNotNeeded) })
	}
	return results, nil
}

// allPartitions are those of all topics, in order.
func allPartitions(im *controller.Image) []PartitionRef {
	refs := make([]PartitionRef, 0, im.Partitions())
	for _, t := range im.Topics {
		for i := range t.Partitions {
			refs = append(refs, PartitionRef{t.Name, int32(i)})
		}
	}
	slices.SortFunc(refs, func(a, b PartitionRef) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return refs
}

// election is what all elections of a request have in common.
type election struct {
	service *Service
	image   *controller.Image
	kind    ElectionKind
}

// run makes a partition's preferred replica its leader, and waits until this node knows it.
func (el *election) run(ctx context.Context, ref PartitionRef) error {
	s := el.service
	t := el.image.Topics[ref.Topic]
	if t == nil || ref.Partition < 0 || int(ref.Partition) >= len(t.Partitions) {
		return replication.ErrUnknownPartition
	}
	id := replication.PartitionID{Topic: t.ID, Partition: ref.Partition}
	now, isr := leader(s.leaders, s.local, id)
	if el.kind == UncleanElection {
		if now.Node == replication.NoNode {
			return ErrEligibleLeadersNotAvailable
		}
		return ErrElectionNotNeeded
	}
	preferred := preferredOf(t.Partitions[ref.Partition])
	switch {
	case preferred == now.Node:
		return ErrElectionNotNeeded
	case now.Node == replication.NoNode:
		return fmt.Errorf("%w: there is no leader that could hand over", ErrPreferredLeaderNotAvailable)
	case !s.leaders.Alive(preferred):
		return fmt.Errorf("%w: node %d is not there", ErrPreferredLeaderNotAvailable, preferred)
	case !slices.Contains(isr, preferred):
		return fmt.Errorf("%w: node %d is not in sync", ErrPreferredLeaderNotAvailable, preferred)
	case el.image.Draining(preferred):
		return fmt.Errorf("%w: node %d is drained", ErrPreferredLeaderNotAvailable, preferred)
	}
	if err := el.transfer(ctx, now.Node, id, preferred); err != nil {
		return err
	}
	return el.awaitLeader(ctx, id, preferred)
}

// preferredOf is the node of a partition's preferred leader: the first replica that is to stay.
func preferredOf(a replication.Assignment) replication.NodeID {
	for _, r := range a.Replicas {
		if !slices.Contains(a.Removing, r) {
			return r.Node
		}
	}
	return replication.NoNode
}

// transfer asks the node that leads a partition to hand over.
func (el *election) transfer(ctx context.Context, from replication.NodeID, id replication.PartitionID, to replication.NodeID) error {
	s := el.service
	if from == s.node {
		return s.groups.Transfer(ctx, id, to)
	}
	_, err := callPeer[struct{}](ctx, s.call, from, transferCall, transferQuery{id, to})
	return err
}

// awaitLeader waits until this node knows that a node leads a partition.
func (el *election) awaitLeader(ctx context.Context, id replication.PartitionID, node replication.NodeID) error {
	ticker := time.NewTicker(leaderPoll)
	defer ticker.Stop()
	for {
		if l, _ := leader(el.service.leaders, el.service.local, id); l.Node == node {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

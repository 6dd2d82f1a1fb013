package admin

import (
	"context"
	"fmt"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication"
)

// Quorum is how a Raft group stands, as its leader sees it. Of a partition, positions are Kafka offsets; of the metadata
// group they are Raft indexes.
type Quorum struct {
	Leader        replication.Leader
	HighWatermark int64
	Voters        []QuorumReplica
	Observers     []QuorumReplica // learners
}

// QuorumReplica is a member of a Raft group. Times are Unix milliseconds, -1 where they are not known.
type QuorumReplica struct {
	Replica   replication.ReplicaID
	Directory [16]byte // of its node's data; zero if not known
	LogEnd    int64    // up to where it has the leader's log; -1 if not known
	Contact   int64    // when the leader last heard from it
	CaughtUp  int64    // when it last had all of the leader's log
}

// DescribeQuorum tells how a partition's group stands, or the metadata group for partition 0 of __cluster_metadata. It asks
// the node that leads the group.
func (s *Service) DescribeQuorum(ctx context.Context, ref PartitionRef) (Quorum, error) {
	if ref.Topic == broker.MetadataTopic {
		return s.metadataQuorum(ctx, ref)
	}
	im := s.images.Image()
	t := im.Topics[ref.Topic]
	if t == nil || ref.Partition < 0 || int(ref.Partition) >= len(t.Partitions) {
		return Quorum{}, replication.ErrUnknownPartition
	}
	id := replication.PartitionID{Topic: t.ID, Partition: ref.Partition}
	l, _ := leader(s.leaders, s.local, id)
	switch l.Node {
	case replication.NoNode:
		return Quorum{}, ErrLeaderNotAvailable
	case s.node:
		q, err := s.groups.Quorum(id)
		return s.withDirectories(q), err
	}
	q, err := callPeer[Quorum](ctx, s.call, l.Node, partitionQuorum, id)
	return s.withDirectories(q), err
}

func (s *Service) metadataQuorum(ctx context.Context, ref PartitionRef) (Quorum, error) {
	if ref.Partition != 0 {
		return Quorum{}, fmt.Errorf("%w: the metadata has one partition", replication.ErrUnknownPartition)
	}
	var q Quorum
	var err error
	switch node := s.images.ControllerNode(); node {
	case replication.NoNode:
		return Quorum{}, ErrLeaderNotAvailable
	case s.node:
		q, err = s.groups.MetadataQuorum()
	default:
		q, err = callPeer[Quorum](ctx, s.call, node, metadataQuorumCall, struct{}{})
	}
	return s.withDirectories(q), err
}

// withDirectories adds the ids of the data directories, which the metadata knows.
func (s *Service) withDirectories(q Quorum) Quorum {
	im := s.images.Image()
	for _, list := range [][]QuorumReplica{q.Voters, q.Observers} {
		for i := range list {
			list[i].Directory = im.Registrations[list[i].Replica.Node].Directory
		}
	}
	return q
}

package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/replication"
)

// Peers reaches the same service on other nodes.
type Peers interface {
	Markers
	// AddPartitions is Service.AddPartitions of another node, or of this one.
	AddPartitions(ctx context.Context, to replication.NodeID, r AddRequest) ([]error, error)
}

// How long a broker asks the coordinator again before it leaves that to its client. The markers of the transaction before take
// about as long as a commit; a coordinator that moves, longer.
const (
	joinPatience = time.Second
	firstPause   = 2 * time.Millisecond
	longestPause = 50 * time.Millisecond
)

// Join is AddPartitions for the node that a client writes to: it asks the coordinator, wherever it is, and asks again for a
// moment where that is all that is needed.
func (s *Service) Join(ctx context.Context, r AddRequest) ([]error, error) {
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	for wait := firstPause; ; wait = min(2*wait, longestPause) {
		each, err := s.join(ctx, r)
		if !passing(err) {
			return each, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait):
		}
	}
}

func (s *Service) join(ctx context.Context, r AddRequest) ([]error, error) {
	p, err := s.partition(r.ID)
	if err != nil {
		return nil, err
	}
	node, ok := s.cluster.Coordinator(p, "")
	if !ok {
		return nil, broker.ErrCoordinatorNotAvailable
	}
	return s.peers.AddPartitions(ctx, node.ID, r)
}

// passing tells errors that a moment may cure.
func passing(err error) bool {
	return errors.Is(err, broker.ErrConcurrentTransactions) || errors.Is(err, broker.ErrNotCoordinator) ||
		errors.Is(err, broker.ErrCoordinatorLoading) || errors.Is(err, broker.ErrCoordinatorNotAvailable) ||
		errors.Is(err, replication.ErrUnknownPartition) // the broker that is written to knows it; the coordinator will
}

// GroupPartition is the partition of __consumer_offsets that has a group's offsets, once that topic exists.
func (s *Service) GroupPartition(group string) (Partition, error) {
	t, ok := s.cluster.Topic(broker.OffsetsTopic)
	if !ok || t.Partitions <= 0 {
		return Partition{}, broker.ErrCoordinatorNotAvailable
	}
	return Partition{Topic: broker.OffsetsTopic, Index: coordinator.PartitionOf(group, t.Partitions)}, nil
}

// Exists tells whether there is such a partition.
func (s *Service) Exists(p Partition) bool {
	t, ok := s.cluster.Topic(p.Topic)
	return ok && p.Index >= 0 && p.Index < t.Partitions
}

// WriteMarkers writes markers into partitions that this node leads, for whoever asks; each gets an error, or nil.
func (s *Service) WriteMarkers(ctx context.Context, markers []Marker) []error {
	ctx, cancel := context.WithTimeout(ctx, s.limits.MarkerTimeout)
	defer cancel()
	each, err := s.peers.WriteMarkers(ctx, s.node, markers)
	if err == nil && len(each) == len(markers) {
		return each
	}
	each = make([]error, len(markers))
	for i := range each {
		each[i] = fmt.Errorf("%w: %w", replication.ErrUnknownOutcome, err)
	}
	return each
}

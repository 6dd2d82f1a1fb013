package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
	"github.com/quorlog/quorlog/replication/raftgroup"
)

// groups lets the administrative service reach this node's Raft groups. It is an admin.Groups.
type groups struct {
	partitions *partition.Manager
	meta       *raftgroup.MetaGroup
	now        func() time.Time
}

// led finds a partition that this node leads.
func (g *groups) led(id replication.PartitionID) (*partition.Partition, error) {
	p, ok := g.partitions.Get(id)
	if !ok || !p.Leading() {
		return nil, replication.ErrNotLeader
	}
	return p, nil
}

// Transfer hands a partition's leadership to another node.
func (g *groups) Transfer(ctx context.Context, id replication.PartitionID, to replication.NodeID) error {
	p, err := g.led(id)
	if err != nil {
		return err
	}
	err = p.TransferLeadership(ctx, to)
	if errors.Is(err, partition.ErrNoHeir) {
		return fmt.Errorf("%w: node %d has no vote in the partition's group", admin.ErrPreferredLeaderNotAvailable, to)
	}
	if err != nil && !errors.Is(err, replication.ErrNotLeader) && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", replication.ErrUnknownOutcome, err)
	}
	return err
}

// Quorum describes a partition's group.
func (g *groups) Quorum(id replication.PartitionID) (admin.Quorum, error) {
	p, err := g.led(id)
	if err != nil {
		return admin.Quorum{}, err
	}
	status := p.Status()
	q := admin.Quorum{Leader: p.Leader(), HighWatermark: int64(status.Offsets.HighWatermark)}
	for _, r := range status.Replicas {
		out := admin.QuorumReplica{Replica: r.ID, LogEnd: int64(r.LogEnd), Contact: millis(r.Contact), CaughtUp: millis(r.CaughtUp)}
		if r.ID == status.Self {
			g.own(&out, int64(status.Offsets.LogEnd))
		}
		if r.Voter {
			q.Voters = append(q.Voters, out)
		} else {
			q.Observers = append(q.Observers, out)
		}
	}
	return q, nil
}

// millis is a time as Kafka tells it; -1 for none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}

// own fills in what holds for a leader: it is in touch with itself and has all that it has.
func (g *groups) own(r *admin.QuorumReplica, end int64) {
	now := g.now().UnixMilli()
	r.LogEnd, r.Contact, r.CaughtUp = end, now, now
}

// MetadataQuorum describes the metadata group.
func (g *groups) MetadataQuorum() (admin.Quorum, error) {
	if !g.meta.IsLeader() {
		return admin.Quorum{}, replication.ErrNotLeader
	}
	s := g.meta.Status()
	q := admin.Quorum{Leader: replication.Leader{Node: s.Leader, Epoch: batch.Epoch(s.Term)}, HighWatermark: int64(s.Commit)}
	q.Voters, q.Observers = g.metaMembers(s.Voters, s.Last), g.metaMembers(s.Learners, s.Last)
	return q, nil
}

func (g *groups) metaMembers(replicas []replication.ReplicaID, last uint64) []admin.QuorumReplica {
	out := make([]admin.QuorumReplica, len(replicas))
	for i, r := range replicas {
		out[i] = admin.QuorumReplica{Replica: r, LogEnd: -1, Contact: -1, CaughtUp: -1}
		behind, known := g.meta.Behind(r)
		switch {
		case r == g.meta.Self():
			g.own(&out[i], int64(last))
		case known:
			contact, caughtUp := g.meta.Heard(r)
			out[i].LogEnd, out[i].Contact, out[i].CaughtUp = int64(last-min(behind, last)), millis(contact), millis(caughtUp)
		}
	}
	return out
}

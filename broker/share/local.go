package share

import (
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// Lookup finds the partitions of this node, and who leads those of others; see Logs. *admin.Partitions is one.
type Lookup interface {
	LookupID(id replication.TopicID, partition int32) (*partition.Partition, error)
	LeaderOf(topic string, id replication.TopicID, partition int32) replication.Leader
}

// Local makes the partitions of this node Logs.
func Local(l Lookup) Logs { return local{l} }

type local struct{ lookup Lookup }

func (l local) Find(tp TopicPartition) (Log, error) {
	p, err := l.lookup.LookupID(tp.Topic, tp.Partition)
	if err != nil {
		return nil, err
	}
	return replica{p}, nil
}

func (l local) LeaderOf(tp TopicPartition) replication.Leader {
	return l.lookup.LeaderOf("", tp.Topic, tp.Partition)
}

// replica is a partition of this node.
type replica struct{ *partition.Partition }

func (r replica) Read(from batch.Offset, maxBytes int, readCommitted bool, epoch batch.Epoch) (Chunk, error) {
	got, err := r.Partition.Read(partition.ReadRequest{
		Offset: from, MaxBytes: maxBytes, AtLeastOne: true, ReadCommitted: readCommitted, CurrentEpoch: epoch, LastFetchedEpoch: batch.NoEpoch,
	})
	if err != nil {
		return Chunk{}, err
	}
	out := Chunk{Aborted: got.Aborted, Offsets: got.Offsets}
	if got.Range == nil {
		return out, nil
	}
	out.Records = got.Range
	return out, nil
}

func (r replica) OffsetForTimestamp(ts time.Time, epoch batch.Epoch) (batch.Offset, error) {
	o, err := r.Offsets(epoch)
	if err != nil {
		return 0, err
	}
	f, err := r.Partition.OffsetForTimestamp(ts.UnixMilli(), o.HighWatermark, epoch)
	return f.Offset, err
}

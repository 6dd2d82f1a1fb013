package fetch

import (
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// Lookup finds the partitions of this node; see Partitions for its errors.
type Lookup interface {
	Lookup(topic string, partition int32) (*partition.Partition, error)
	LookupID(id replication.TopicID, partition int32) (*partition.Partition, error)
}

// Local makes the partitions of this node readable by a Service.
func Local(l Lookup) Partitions { return localPartitions{l} }

type localPartitions struct{ lookup Lookup }

func (l localPartitions) Lookup(topic string, index int32) (Partition, error) {
	p, err := l.lookup.Lookup(topic, index)
	if err != nil {
		return nil, err
	}
	return local{p}, nil
}

func (l localPartitions) LookupID(id replication.TopicID, index int32) (Partition, error) {
	p, err := l.lookup.LookupID(id, index)
	if err != nil {
		return nil, err
	}
	return local{p}, nil
}

// local is a partition of this node.
type local struct{ *partition.Partition }

func (l local) Read(r partition.ReadRequest) (Read, error) {
	got, err := l.Partition.Read(r)
	if err != nil {
		return Read{}, err
	}
	out := Read{Offsets: got.Offsets, Aborted: got.Aborted}
	if got.Range != nil {
		out.Records = got.Range
	}
	if got.Diverging != nil {
		out.Diverging = &Diverging{Epoch: got.Diverging.Epoch, End: got.Diverging.End}
	}
	return out, nil
}

func (l local) OffsetForTimestamp(ts int64, below batch.Offset, current batch.Epoch) (Found, error) {
	f, err := l.Partition.OffsetForTimestamp(ts, below, current)
	return found(f), err
}

func (l local) MaxTimestamp(below batch.Offset, current batch.Epoch) (Found, error) {
	f, err := l.Partition.MaxTimestamp(below, current)
	return found(f), err
}

func found(f partition.Found) Found {
	if f.Offset < 0 {
		return nothing
	}
	return Found{Offset: f.Offset, Timestamp: f.Timestamp, Epoch: f.Epoch}
}

func (l local) EndOffsetForEpoch(e, current batch.Epoch) (Diverging, error) {
	end, err := l.Partition.EndOffsetForEpoch(e, current)
	return Diverging{Epoch: end.Epoch, End: end.End}, err
}

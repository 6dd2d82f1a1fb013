package fetch

import (
	"fmt"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Timestamp is what ListOffsets asks for: a time in Unix milliseconds, or one of the special values below.
type Timestamp int64

// Special timestamps.
const (
	Latest                Timestamp = -1 // the offset that the next record gets, as far as the isolation level may look
	Earliest              Timestamp = -2 // the log start offset
	MaxTimestamp          Timestamp = -3 // the record with the highest timestamp
	EarliestLocal         Timestamp = -4 // the first offset that is stored on this node: all are
	LatestTiered          Timestamp = -5 // the last offset in tiered storage: there is none
	EarliestPendingUpload Timestamp = -6 // the first offset that is not in tiered storage yet: there is none
)

// OffsetQuery asks for an offset of a partition.
type OffsetQuery struct {
	Key
	CurrentEpoch  batch.Epoch // fences, as in Params
	Timestamp     Timestamp
	ReadCommitted bool
}

// Found is an offset, the timestamp of its record and its leader epoch; each is -1 where there is none.
type Found struct {
	Offset    batch.Offset
	Timestamp int64
	Epoch     batch.Epoch
}

var nothing = Found{Offset: -1, Timestamp: -1, Epoch: batch.NoEpoch}

// ListOffset answers one partition of a ListOffsets request. What does not exist is no error: all of Found is -1 then.
func (s *Service) ListOffset(q OffsetQuery) (Found, error) {
	p, err := s.partitions.Lookup(q.Topic, q.Partition)
	if err != nil {
		return nothing, err
	}
	offsets, err := p.Offsets(q.CurrentEpoch)
	if err != nil {
		return nothing, err
	}
	end := offsets.HighWatermark
	if q.ReadCommitted {
		end = offsets.LastStable
	}
	switch q.Timestamp {
	case Latest:
		return Found{Offset: end, Timestamp: -1, Epoch: p.Leader().Epoch}, nil
	case Earliest, EarliestLocal:
		return Found{Offset: offsets.LogStart, Timestamp: -1, Epoch: p.EpochOf(offsets.LogStart)}, nil
	case LatestTiered, EarliestPendingUpload:
		return nothing, nil
	case MaxTimestamp:
		return p.MaxTimestamp(end, q.CurrentEpoch)
	}
	if q.Timestamp < 0 {
		return nothing, fmt.Errorf("%w: timestamp %d", replication.ErrInvalidRequest, q.Timestamp)
	}
	return p.OffsetForTimestamp(int64(q.Timestamp), end, q.CurrentEpoch)
}

// EpochEnd returns the largest epoch at or below the given one that the partition has records of, and the offset at which
// it ends; both are -1 if there is none.
func (s *Service) EpochEnd(k Key, current, epoch batch.Epoch) (Diverging, error) {
	none := Diverging{Epoch: batch.NoEpoch, End: -1}
	p, err := s.partitions.Lookup(k.Topic, k.Partition)
	if err != nil {
		return none, err
	}
	end, err := p.EndOffsetForEpoch(epoch, current)
	if err != nil {
		return none, err
	}
	return end, nil
}

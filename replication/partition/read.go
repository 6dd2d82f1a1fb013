package partition

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// fence compares the epoch that a client knows with ours (KIP-320), and then asks whether this replica leads.
func (p *Partition) fence(current batch.Epoch) (*leadership, error) {
	if err := p.offlineErr(); err != nil {
		return nil, err
	}
	l := p.leader.Load()
	switch {
	case current > batch.NoEpoch && current < l.Epoch:
		return l, replication.ErrFencedLeaderEpoch
	case current > l.Epoch:
		return l, replication.ErrUnknownLeaderEpoch
	case !l.local:
		return l, replication.ErrNotLeader
	}
	return l, nil
}

// Read returns committed batches from an offset on. Only the leader answers, unless the request says that any replica may.
func (p *Partition) Read(r ReadRequest) (ReadResult, error) {
	l, err := p.fence(r.CurrentEpoch)
	follower := errors.Is(err, replication.ErrNotLeader) && r.AnyReplica
	if err != nil && !follower {
		return ReadResult{}, err
	}
	o := p.log.Offsets()
	if follower && (l.Node == replication.NoNode || r.Offset > o.LogEnd) {
		return ReadResult{}, replication.ErrOffsetNotAvailable // the leader may well have it
	}
	if follower && r.Offset > o.HighWatermark {
		// It is stored here, and this replica has not heard yet whether it is committed: the reader waits for that, as at Kafka's
		// followers. Whether the two logs part can't be told before, since this one may yet be cut.
		return ReadResult{Range: &Range{Next: r.Offset}, Offsets: o}, nil
	}
	if r.Offset < o.LogStart {
		return ReadResult{Offsets: o}, outOfRange(r.Offset, o)
	}
	// Before the log's end is looked at: a reader beyond it may be there because its log has parted from this one, and
	// then it is to hear from where on, not to begin anew.
	if r.LastFetchedEpoch > batch.NoEpoch {
		end, err := diverging(p.log, r)
		if err != nil || end != nil {
			return ReadResult{Offsets: o, Diverging: end}, err
		}
	}
	if r.Offset > o.LogEnd {
		return ReadResult{Offsets: o}, outOfRange(r.Offset, o)
	}
	return p.read(r, o)
}

func outOfRange(offset batch.Offset, o Offsets) error {
	return fmt.Errorf("%w: %d is not within %d..%d", replication.ErrOffsetOutOfRange, offset, o.LogStart, o.LogEnd)
}

// diverging finds out whether the reader's log parted from this one (KIP-595).
func diverging(l *log.Log, r ReadRequest) (*EpochEnd, error) {
	epoch, end := l.EndOffsetForEpoch(r.LastFetchedEpoch)
	if epoch < 0 || end < 0 {
		return nil, fmt.Errorf("%w: nothing is known of epoch %d", replication.ErrOffsetOutOfRange, r.LastFetchedEpoch)
	}
	if epoch < r.LastFetchedEpoch || end < r.Offset {
		return &EpochEnd{Epoch: epoch, End: end}, nil
	}
	return nil, nil
}

func (p *Partition) read(r ReadRequest, o Offsets) (ReadResult, error) {
	below := o.HighWatermark
	if r.ReadCommitted {
		below = o.LastStable
	}
	if mutation.On(mutation.DirtyRead) {
		below = o.LogEnd
	}
	for {
		swaps := p.log.Stats().Swaps
		rg, err := p.log.Read(r.Offset, below, r.MaxBytes, r.AtLeastOne)
		if err != nil {
			return ReadResult{}, p.readError(err)
		}
		res := ReadResult{Range: rg, Offsets: o}
		if !r.ReadCommitted || rg.Len() == 0 {
			return res, nil
		}
		res.Aborted, err = p.log.Aborted(r.Offset, rg.Next)
		// Retention takes a segment's list of aborted transactions with it, while the range keeps its bytes; but not before the
		// log start has passed the segment. So the list was whole if the log start is not behind the offset now.
		start := p.log.Offsets().LogStart
		if err == nil && start <= r.Offset && swaps == p.log.Stats().Swaps {
			return res, nil
		}
		rg.Release()
		if err != nil {
			return ReadResult{}, p.readError(err)
		}
		if start > r.Offset {
			return ReadResult{Offsets: p.log.Offsets()}, fmt.Errorf("%w: the log starts at %d, behind %d", replication.ErrOffsetOutOfRange, start, r.Offset)
		}
		// Compaction came between the two: the transactions may be those of batches that are gone.
	}
}

// readError translates the log's errors. Damage takes the replica offline: it must not lead with it.
func (p *Partition) readError(err error) error {
	switch {
	case errors.Is(err, log.ErrOffsetOutOfRange):
		return fmt.Errorf("%w: %w", replication.ErrOffsetOutOfRange, err)
	case errors.Is(err, log.ErrClosed):
		return fmt.Errorf("%w: %w", replication.ErrNotLeader, err)
	case isDamage(err):
		p.damaged(err)
	}
	return fmt.Errorf("%w: %w", replication.ErrStorage, err)
}

// damaged takes the replica offline, once.
func (p *Partition) damaged(err error) {
	if p.offlineErr() == nil {
		p.Failed(err)
	}
}

// Offsets tells where the partition stands, if this replica leads it in the given epoch.
func (p *Partition) Offsets(current batch.Epoch) (Offsets, error) {
	if _, err := p.fence(current); err != nil {
		return Offsets{}, err
	}
	return p.log.Offsets(), nil
}

// OffsetForTimestamp finds the first record below an offset that is not older than ts.
func (p *Partition) OffsetForTimestamp(ts int64, below batch.Offset, current batch.Epoch) (Found, error) {
	if _, err := p.fence(current); err != nil {
		return Found{}, err
	}
	return p.found(p.log.OffsetForTimestamp(ts, below))
}

// MaxTimestamp finds the record below an offset with the highest timestamp.
func (p *Partition) MaxTimestamp(below batch.Offset, current batch.Epoch) (Found, error) {
	if _, err := p.fence(current); err != nil {
		return Found{}, err
	}
	return p.found(p.log.MaxTimestamp(below))
}

func (p *Partition) found(off batch.Offset, ts int64, ok bool, err error) (Found, error) {
	if err != nil {
		return Found{}, p.readError(err)
	}
	if !ok {
		return Found{Offset: -1, Timestamp: batch.NoTimestamp, Epoch: batch.NoEpoch}, nil
	}
	return Found{Offset: off, Timestamp: ts, Epoch: p.log.EpochOf(off)}, nil
}

// EndOffsetForEpoch answers OffsetForLeaderEpoch: the largest known epoch at or below e, and where it ends; -1, -1 for an
// epoch newer than all.
func (p *Partition) EndOffsetForEpoch(e, current batch.Epoch) (EpochEnd, error) {
	if _, err := p.fence(current); err != nil {
		return EpochEnd{}, err
	}
	epoch, end := p.log.EndOffsetForEpoch(e)
	return EpochEnd{Epoch: epoch, End: end}, nil
}

// EpochOf is the epoch under which an offset was written; batch.NoEpoch if that is not known.
func (p *Partition) EpochOf(o batch.Offset) batch.Epoch {
	if p.log == nil {
		return batch.NoEpoch
	}
	return p.log.EpochOf(o)
}

// DeleteRecords advances the log start to an offset, -1 for the high watermark, on all replicas, and returns the log start
// once it is applied here.
func (p *Partition) DeleteRecords(ctx context.Context, before batch.Offset) (batch.Offset, error) {
	if _, err := p.fence(batch.NoEpoch); err != nil {
		return 0, err
	}
	o := p.log.Offsets()
	if before == -1 {
		before = o.HighWatermark
	}
	if before < 0 || before > o.HighWatermark {
		return 0, fmt.Errorf("%w: %d is not within %d..%d", replication.ErrOffsetOutOfRange, before, o.LogStart, o.HighWatermark)
	}
	if before > o.LogStart {
		if err := p.propose(ctx, log.InternalFrame(log.KindLogStart, log.EncodeLogStart(before))); err != nil {
			return 0, err
		}
	}
	return p.log.Offsets().LogStart, nil
}

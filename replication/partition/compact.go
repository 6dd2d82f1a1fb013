package partition

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication"
)

// Stored is a place in a partition's log up to which something is known to be stored. Only replicas understand it.
type Stored uint64

// CleanOptions say how partitions are compacted.
type CleanOptions struct {
	MapBytes int64 // memory for the keys of one partition
	// Pace is called with bytes that are about to be read or written. It may wait until ctx ends; its error ends the pass.
	Pace func(ctx context.Context, bytes int) error
	// Everywhere asks the node that leads a partition for Compactor.Everywhere. Where it fails, tombstones and markers stay
	// until the next pass.
	Everywhere func(ctx context.Context, leader replication.NodeID, id replication.PartitionID) (Stored, error)
}

// Compaction counts what compaction has done on this node since it started.
type Compaction struct {
	Passes   int64
	Failures int64 // passes that ended with an error
	Segments int64 // that were replaced
	Before   int64 // their bytes
	After    int64 // their successors' bytes
	Read     int64 // bytes
	Written  int64 // bytes
	Records  int64 // looked at
	Kept     int64 // of those
}

// compaction is the counts while they are added to.
type compaction struct {
	passes, failures, segments, before, after, read, written, records, kept atomic.Int64
}

func (c *compaction) add(r log.CleanResult, failed bool) {
	c.passes.Add(1)
	if failed {
		c.failures.Add(1)
	}
	c.segments.Add(int64(r.Segments))
	c.before.Add(r.Before)
	c.after.Add(r.After)
	c.read.Add(r.Read)
	c.written.Add(r.Written)
	c.records.Add(r.Records)
	c.kept.Add(r.Kept)
}

// Compactor compacts the partitions of a node. Several goroutines may use it at the same time, each for another partition.
type Compactor struct {
	m     *Manager
	count compaction
}

// NewCompactor makes the compactor of a manager's partitions.
func NewCompactor(m *Manager) *Compactor { return &Compactor{m: m} }

// Counts returns what was done so far.
func (k *Compactor) Counts() Compaction {
	c := &k.count
	return Compaction{
		Passes: c.passes.Load(), Failures: c.failures.Load(), Segments: c.segments.Load(), Before: c.before.Load(), After: c.after.Load(),
		Read: c.read.Load(), Written: c.written.Load(), Records: c.records.Load(), Kept: c.kept.Load(),
	}
}

// cleaner is a partition's part in compaction.
type cleaner struct {
	*log.Cleaner
	busy   atomic.Bool
	rest   atomic.Int64 // no pass before this time, ms: the last one failed, or did nothing
	ctx    context.Context
	cancel context.CancelFunc
}

func (c *cleaner) start(l *log.Log) {
	c.Cleaner = log.NewCleaner(l)
	c.ctx, c.cancel = context.WithCancel(context.Background())
}

// stop ends the pass that is under way. The log may be closed and its files removed after it.
func (c *cleaner) stop() {
	if c.Cleaner != nil {
		c.cancel()
		c.Close()
	}
}

// cleanRest is how long a partition is left alone after a pass that failed or did nothing.
const cleanRest = 5 * time.Minute

// CleanDirtiest does one pass over the partition that needs compaction most, and tells whether there was one: of those whose
// dirty share is above min.cleanable.dirty.ratio, or with dirty records older than max.compaction.lag.ms, the one with the
// largest share.
func (k *Compactor) CleanDirtiest(ctx context.Context, o CleanOptions) bool {
	p := k.dirtiest()
	if p == nil || ctx.Err() != nil || !p.clean.busy.CompareAndSwap(false, true) {
		return false
	}
	defer p.clean.busy.Store(false)
	cfg := p.config.Load()
	r, err := p.clean.Clean(log.CleanOptions{
		MinLag: cfg.MinCompactionLag, DeleteRetention: cfg.DeleteRetention, MapBytes: o.MapBytes, Everywhere: k.everywhere(ctx, p, o),
		Pace: func(n int) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return o.Pace(p.clean.ctx, n)
		},
	})
	k.count.add(r, err != nil)
	if p.clean.ctx.Err() != nil || ctx.Err() != nil {
		return false
	}
	if err != nil || r.Segments == 0 {
		p.clean.rest.Store(k.m.o.Now().Add(cleanRest).UnixMilli())
	}
	switch {
	case err == nil:
		p.logger.Info("compacted", "segments", r.Segments, "before", r.Before, "after", r.After, "records", r.Records, "kept", r.Kept, "keys", r.Keys)
	case errors.Is(err, syscall.ENOSPC) || !p.maintenanceFailed(err):
		p.logger.Warn("compaction", "error", err)
	}
	return true
}

// dirtiest finds the partition that needs compaction most; nil where none does. A node whose disk is nearly full compacts
// nothing: a pass needs room for the successor of a segment before the segment goes.
func (k *Compactor) dirtiest() (found *Partition) {
	m := k.m
	if m.Full() {
		return nil
	}
	now, most := m.o.Now(), -1.0
	for _, p := range m.All() {
		cfg := p.config.Load()
		if cfg.CleanupPolicy&replication.CleanupCompact == 0 || p.log == nil || p.offlineErr() != nil || p.clean.busy.Load() || now.UnixMilli() < p.clean.rest.Load() {
			continue
		}
		d, err := p.clean.Dirt(now, cfg.MinCompactionLag)
		if err != nil {
			if !p.maintenanceFailed(err) {
				p.logger.Warn("compaction", "error", err)
			}
			continue
		}
		late := d.DirtyBytes > 0 && d.Oldest >= 0 && d.Oldest < now.Add(-cfg.MaxCompactionLag).UnixMilli()
		if ratio := d.Ratio(); (late || ratio > cfg.MinCleanableRatio) && ratio > most {
			found, most = p, ratio
		}
	}
	return found
}

// Everywhere tells up to where all replicas of a partition, learners too, are known to hold its log: 0 where this node does not
// lead it.
func (k *Compactor) Everywhere(id replication.PartitionID) Stored {
	p, ok := k.m.Get(id)
	if !ok || p.group == nil || !p.Leading() {
		return 0
	}
	least := p.log.AppliedIndex()
	for _, r := range append(p.group.Voters(), p.group.Learners()...) {
		if r != p.self {
			least = min(least, p.group.Match(r))
		}
	}
	return Stored(least)
}

// everywhere is Everywhere, asked of whoever leads.
func (k *Compactor) everywhere(ctx context.Context, p *Partition, o CleanOptions) log.Index {
	if p.Leading() {
		return log.Index(k.Everywhere(p.id))
	}
	leader := p.Leader().Node
	if leader == replication.NoNode || o.Everywhere == nil {
		return 0
	}
	s, err := o.Everywhere(ctx, leader, p.id)
	if err != nil {
		return 0
	}
	return log.Index(s)
}

// segmentLimits are those of a configuration. A compacted segment is closed before its records are too old to be dirty.
func segmentLimits(cfg *replication.TopicConfig) log.SegmentLimits {
	age := cfg.SegmentAge
	if cfg.CleanupPolicy&replication.CleanupCompact != 0 {
		age = min(age, cfg.MaxCompactionLag)
	}
	return log.SegmentLimits{SegmentBytes: cfg.SegmentBytes, SegmentIndexBytes: cfg.SegmentIndexBytes, SegmentAge: age}
}

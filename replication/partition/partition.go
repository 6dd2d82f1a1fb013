package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftgroup"
)

// Partition is this node's replica of a partition. It may be used by any number of goroutines.
type Partition struct {
	counted
	m      *Manager
	id     replication.PartitionID
	topic  string
	self   replication.ReplicaID
	dir    string
	logger *slog.Logger

	// log and group are set before the partition is found by anyone, and nil if its files are damaged.
	log   *log.Log
	group *raftgroup.Group
	clean cleaner

	config     atomic.Pointer[replication.TopicConfig]
	assignment atomic.Pointer[replication.Assignment]
	leader     atomic.Pointer[leadership]
	offline    atomic.Pointer[error]

	queue    *semaphore.Weighted
	order    sync.Mutex // the append lock: batches reach Raft in the order in which they were checked
	flights  flights
	watchers watchers

	started chan struct{} // closed when start has returned
	closing atomic.Bool
	ended   chan struct{} // closed when close is done; then closed is set
	closed  error
	given   struct {
		sync.Mutex
		yes bool // the manager gives this partition out; before that, nobody is told of its leadership
	}
}

// leadership is who leads, and whether that is this replica.
type leadership struct {
	replication.Leader
	local bool
}

func newPartition(m *Manager, id replication.PartitionID, topic string, self replication.ReplicaID, a replication.Assignment, cfg replication.TopicConfig) *Partition {
	p := &Partition{
		m: m, id: id, topic: topic, self: self, dir: path.Join(m.root(), id.String()),
		logger: m.o.Logger.With("topic", topic, "partition", id.Partition),
		queue:  semaphore.NewWeighted(m.o.QueueBytes), started: make(chan struct{}), ended: make(chan struct{}),
	}
	p.config.Store(&cfg)
	p.assignment.Store(&a)
	p.leader.Store(&leadership{Leader: replication.NoLeader})
	return p
}

// start opens the replica's files and runs its group.
func (p *Partition) start(a replication.Assignment) error {
	defer close(p.started)
	want := metaFile{Topic: p.topic, TopicID: p.id.Topic.Hex(), Partition: p.id.Partition, Node: p.self.Node, Incarnation: p.self.Incarnation}
	if founders := a.Founders(); slices.Contains(founders, p.self) {
		want.Voters = founders // anybody else waits to be added
	}
	meta, err := p.m.identify(p, want)
	if err != nil {
		return err
	}
	limits := segmentLimits(p.config.Load())
	p.log, err = log.Open(log.Options{
		FS: p.m.o.FS, Dir: p.dir, Now: p.m.o.Now, Logger: p.logger, Tail: p.m.tail,
		SegmentBytes: limits.SegmentBytes, SegmentIndexBytes: limits.SegmentIndexBytes, SegmentAge: limits.SegmentAge,
		CheckpointBytes: p.m.o.CheckpointBytes, ProducerExpiry: p.m.o.ProducerExpiry,
	})
	if err != nil {
		return err
	}
	p.clean.start(p.log)
	// As in raftgroup: the epoch of what is applied already.
	epoch := p.log.EpochOf(p.log.Offsets().HighWatermark)
	p.leader.Store(&leadership{Leader: replication.Leader{Node: replication.NoNode, Epoch: epoch}})
	name := p.id.String()
	p.group, err = raftgroup.Open(raftgroup.Options{
		Name: name, Self: p.self, Log: p.log, Stable: p.m.votes.Group(voteGroup(name, p.self.Incarnation)), Network: p.m.o.Network,
		Owner: p, Bootstrap: meta.Voters, Timing: p.m.o.Timing, Patrol: p.m.patrol, Herald: p.m.herald, Pace: p.m.o.Pace, Now: p.m.o.Now, Logger: p.logger,
	})
	if err != nil {
		return errors.Join(err, p.log.Close())
	}
	return nil
}

// ID names the partition.
func (p *Partition) ID() replication.PartitionID { return p.id }

// Topic is the topic's name.
func (p *Partition) Topic() string { return p.topic }

// Config is the topic's configuration in effect.
func (p *Partition) Config() replication.TopicConfig { return *p.config.Load() }

// Assignment lists the partition's replicas, as the controller placed them.
func (p *Partition) Assignment() replication.Assignment { return *p.assignment.Load() }

// Leader tells who leads; Node is NoNode while nobody is known to.
func (p *Partition) Leader() replication.Leader { return p.leader.Load().Leader }

// Leading reports whether this replica leads.
func (p *Partition) Leading() bool { return p.leader.Load().local }

// ISR lists the nodes with a replica in sync, as far as this one knows: all of them where it leads.
func (p *Partition) ISR() []replication.NodeID {
	if p.group == nil {
		return nil
	}
	var nodes []replication.NodeID
	for _, r := range p.group.InSync(p.m.o.ReplicaLag) {
		nodes = append(nodes, r.Node)
	}
	return nodes
}

// Group is the replica's Raft group, for figures and tests; nil if the partition is offline.
func (p *Partition) Group() *raftgroup.Group { return p.group }

// Size is the bytes of the stored batches.
func (p *Partition) Size() int64 {
	if p.log == nil {
		return 0
	}
	return p.log.Size()
}

// Producers lists what is known of producer ids.
func (p *Partition) Producers() []ProducerState {
	if p.log == nil {
		return nil
	}
	return p.log.Producers()
}

func (p *Partition) setConfig(cfg replication.TopicConfig) {
	p.config.Store(&cfg)
	if p.log != nil {
		p.log.SetLimits(segmentLimits(&cfg))
	}
}

// Err returns why the partition is offline, nil while it is not.
func (p *Partition) Err() error { return p.offlineErr() }

func (p *Partition) offlineErr() error {
	if err := p.offline.Load(); err != nil {
		return *err
	}
	return nil
}

// goOffline notes an error after which this replica serves no more; false if the error is none of that kind.
func (p *Partition) goOffline(err error) bool {
	if !isFatal(err) && !isDamage(err) {
		return false
	}
	wrapped := fmt.Errorf("%w: %w", replication.ErrStorage, err)
	if p.offline.CompareAndSwap(nil, &wrapped) {
		p.logger.Error("partition is offline", "dir", p.dir, "error", err)
		p.watchers.notify()
	}
	if isFatal(err) {
		p.m.die(err)
	}
	return true
}

// Applied implements raftgroup.Owner.
func (p *Partition) Applied() { p.watchers.notify() }

// Led implements raftgroup.Owner.
func (p *Partition) Led(l replication.Leader, local bool) {
	if l.Node == replication.NoNode {
		l.Epoch = max(l.Epoch, p.leader.Load().Epoch)
		if mutation.On(mutation.EpochForgotten) {
			l.Epoch = 0
		}
	}
	p.given.Lock()
	p.leader.Store(&leadership{Leader: l, local: local})
	if p.given.yes {
		p.m.changes.add(LeaderChange{ID: p.id, Leader: l, Local: local})
	}
	p.given.Unlock()
	p.watchers.notify()
}

// give makes the partition one that is told about: who hears of its leadership can find it.
func (p *Partition) give() {
	p.given.Lock()
	defer p.given.Unlock()
	p.given.yes = true
	if l := p.leader.Load(); l.Node != replication.NoNode {
		p.m.changes.add(LeaderChange{ID: p.id, Leader: l.Leader, Local: l.local})
	}
}

// Failed implements raftgroup.Owner. It is called on Raft's goroutines, so the group is closed on another one.
func (p *Partition) Failed(err error) {
	if !isFatal(err) && !isDamage(err) {
		err = fmt.Errorf("%w: %w", log.ErrCorrupt, err) // what Raft was given does not fit the log
	}
	p.goOffline(err)
	p.m.mu.RLock()
	defer p.m.mu.RUnlock()
	if !p.m.mu.closed { // otherwise Close closes this partition too
		p.m.tasks.Add(1)
		go p.retire()
	}
}

// retire closes the group of a partition that has gone offline.
func (p *Partition) retire() {
	defer p.m.tasks.Done()
	<-p.started
	if err := p.close(); err != nil {
		p.logger.Debug("closing an offline partition", "error", err)
	}
}

// close ends group and log. Appends under way are answered. Who comes second waits for the first, on a channel: a lock would
// stop the time of simulations.
func (p *Partition) close() error {
	if p.closing.Swap(true) {
		<-p.ended
		return p.closed
	}
	defer close(p.ended)
	p.clean.stop()
	if p.group != nil {
		p.closed = p.group.Close()
	}
	if p.log != nil {
		p.closed = errors.Join(p.closed, p.log.Close())
	}
	p.watchers.notify()
	return p.closed
}

// propose replicates an internal entry and waits until it is applied.
func (p *Partition) propose(ctx context.Context, frame []byte) error {
	done := make(chan error, 1)
	go func() {
		_, err := p.group.Propose(frame).Wait()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watchers are told when something moves.
type watchers struct {
	mu  sync.Mutex
	set map[chan<- struct{}]int
}

func (w *watchers) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.set {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Watch sends on w, without waiting, whenever watermark, log start or leadership moves, until cancel. w should have room for
// one; what is sent says nothing but "look again".
func (p *Partition) Watch(w chan<- struct{}) (cancel func()) {
	p.watchers.mu.Lock()
	defer p.watchers.mu.Unlock()
	if p.watchers.set == nil {
		p.watchers.set = make(map[chan<- struct{}]int)
	}
	p.watchers.set[w]++
	var once sync.Once
	return func() { once.Do(func() { p.watchers.remove(w) }) }
}

func (w *watchers) remove(c chan<- struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set[c]--; w.set[c] == 0 {
		delete(w.set, c)
	}
}

// Replica is this node's replica of the partition.
func (p *Partition) Replica() replication.ReplicaID { return p.self }

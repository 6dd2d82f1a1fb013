package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
)

// Options make a Runtime.
type Options[M Machine[E, F], E, F any] struct {
	Topic  string        // needed, for messages
	Logs   Logs          // needed
	Kind   Kind[M, E, F] // needed
	Limits Limits        // the zero value stands for DefaultLimits
	// KeysSetting is what Limits.MaxKeys is called by those who may change it; empty if nobody may.
	KeysSetting string
	// Sweep is given to every machine each SweepEvery; 0: never.
	Sweep      E
	SweepEvery time.Duration
	Logger     *slog.Logger
}

// Runtime has the machines of those partitions of a topic that this node leads, as LeaderChanged tells it; for all others
// it answers broker.ErrNotCoordinator.
type Runtime[M Machine[E, F], E, F any] struct {
	o       Options[M, E, F]
	keys    atomic.Int64   // in all shards
	running sync.WaitGroup // the shards' goroutines

	refusals struct {
		sync.Mutex
		told  time.Time
		since int // that time
	}

	mu struct {
		sync.Mutex
		shards map[int32]*shard[M, E, F]
		closed bool
	}
}

// ErrOptions means that Options lack something.
var ErrOptions = errors.New("coordinator: Topic, Logs and Kind are needed")

// New returns a runtime that coordinates nothing yet.
func New[M Machine[E, F], E, F any](o Options[M, E, F]) (*Runtime[M, E, F], error) {
	if o.Topic == "" || o.Logs == nil || o.Kind == nil {
		return nil, ErrOptions
	}
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	r := &Runtime[M, E, F]{o: o}
	r.mu.shards = map[int32]*shard[M, E, F]{}
	return r, nil
}

// LeaderChanged tells that this node began (local) or ceased to lead a partition of the topic. It does not block.
func (r *Runtime[M, E, F]) LeaderChanged(partition int32, epoch batch.Epoch, local bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.mu.shards[partition]
	if old != nil && local && old.epoch == epoch {
		return
	}
	if old != nil {
		old.stop()
		delete(r.mu.shards, partition)
	}
	if !local || r.mu.closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	sh := newShard(r, partition, epoch, cancel)
	r.mu.shards[partition] = sh
	r.running.Add(1)
	go sh.run(ctx)
}

// Do gives an event to a key's machine and waits for the effect that answers the call. A key of which nothing is known gets a
// new machine. Without an effect the error is broker.ErrNotCoordinator, broker.ErrCoordinatorLoading,
// broker.ErrCoordinatorNotAvailable (too many keys) or the context's; it came before the event did anything, but for the
// context's, and for ErrNotCoordinator when the leadership was lost on the way.
func (r *Runtime[M, E, F]) Do(ctx context.Context, partition int32, key string, event func(CallID) E) (F, error) {
	sh, err := r.shard(partition)
	if err != nil {
		var none F
		return none, err
	}
	return sh.do(ctx, key, event)
}

// View lets fn look at a key's machine, under the shard's lock; known is false if there is none. The errors are Do's.
func (r *Runtime[M, E, F]) View(partition int32, key string, fn func(m M, known bool)) error {
	sh, err := r.shard(partition)
	if err != nil {
		return err
	}
	return sh.view(key, fn)
}

// Verify is Log.Verify of a partition that this node leads. What is written with it is refused once a marker of the producer has
// come, however long it waits here: a marker does not wait in this queue. The errors are Do's.
func (r *Runtime[M, E, F]) Verify(partition int32, p batch.Producer) (Verified, error) {
	sh, err := r.shard(partition)
	if err != nil {
		return nil, err
	}
	if err := sh.open(); err != nil {
		return nil, err
	}
	log, err := r.o.Logs.Open(partition, sh.epoch)
	if err != nil {
		return nil, writeError(err)
	}
	return log.Verify(p), nil
}

// Each lets fn look at every machine of this node, under the locks of the shards, one after the other. With
// broker.ErrCoordinatorLoading some are missing.
func (r *Runtime[M, E, F]) Each(fn func(key string, m M)) (err error) {
	for _, sh := range r.all() {
		if sh.each(fn) == loading {
			err = broker.ErrCoordinatorLoading
		}
	}
	return err
}

// Whole is Each, and tells of which partitions fn has seen all machines.
func (r *Runtime[M, E, F]) Whole(fn func(key string, m M)) (partitions []int32) {
	for _, sh := range r.all() {
		if sh.each(fn) == ready {
			partitions = append(partitions, sh.partition)
		}
	}
	return partitions
}

// Tell gives an event to a machine that is still where it was; it reports whether it is.
func (r *Runtime[M, E, F]) Tell(at Place, event E) bool {
	sh, err := r.shard(at.Partition)
	return err == nil && sh.epoch == at.Epoch && sh.tell(at.Key, event)
}

// TellAll gives an event to every machine of this node, one at a time.
func (r *Runtime[M, E, F]) TellAll(event E) {
	now := time.Now()
	for _, sh := range r.all() {
		sh.tellAll(now, event)
	}
}

// Ended tells that a marker was committed to a partition, and waits until every machine of it has had the event: behind the
// ends of those writes that are in front of the marker in the log, and ahead of those behind it. A partition that is being
// read learns it from the log. The errors are Do's.
func (r *Runtime[M, E, F]) Ended(ctx context.Context, partition int32, m Marker, event E) error {
	sh, err := r.shard(partition)
	if err != nil {
		return err
	}
	return sh.ended(ctx, m, event)
}

// Close gives up all machines and waits for the goroutines to end. Requests that wait are answered
// broker.ErrNotCoordinator.
func (r *Runtime[M, E, F]) Close() {
	r.mu.Lock()
	r.mu.closed = true
	for p, sh := range r.mu.shards {
		sh.stop()
		delete(r.mu.shards, p)
	}
	r.mu.Unlock()
	r.running.Wait()
}

func (r *Runtime[M, E, F]) shard(partition int32) (*shard[M, E, F], error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sh := r.mu.shards[partition]; sh != nil {
		return sh, nil
	}
	return nil, broker.ErrNotCoordinator
}

func (r *Runtime[M, E, F]) all() []*shard[M, E, F] {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*shard[M, E, F], 0, len(r.mu.shards))
	for _, sh := range r.mu.shards {
		out = append(out, sh)
	}
	return out
}

func (r *Runtime[M, E, F]) admitKey() bool {
	if r.keys.Add(1) > int64(r.o.Limits.MaxKeys) {
		r.keys.Add(-1)
		return false
	}
	return true
}

// refusalPause is how often it is told at most that keys are refused: clients come again several times a second.
const refusalPause = time.Minute

// refused tells that a new key was turned away.
func (r *Runtime[M, E, F]) refused(now time.Time) {
	n := &r.refusals
	n.Lock()
	n.since++
	count := n.since
	tell := now.Sub(n.told) >= refusalPause
	if tell {
		n.told, n.since = now, 0
	}
	n.Unlock()
	if tell {
		r.o.Logger.Warn("This node coordinates as many keys as it may; new ones are refused.", "topic", r.o.Topic,
			"most", r.o.Limits.MaxKeys, "setting", r.o.KeysSetting, "refused", count)
	}
}

func (r *Runtime[M, E, F]) addKeys(n int) { r.keys.Add(int64(n)) }

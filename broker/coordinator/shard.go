package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// phase is how far a shard is.
type phase uint8

const (
	loading phase = iota // the partition is being read: COORDINATOR_LOAD_IN_PROGRESS
	ready
	gone // the leadership is lost, or the runtime is closed: NOT_COORDINATOR
)

// shard is one partition of the topic that this node leads, with the machines of the keys that hash to it.
type shard[M Machine[E, F], E, F any] struct {
	partition int32
	epoch     batch.Epoch
	runtime   *Runtime[M, E, F]
	logger    *slog.Logger
	cancel    context.CancelFunc
	wake      chan struct{} // holds one token at most: there is something to do, or an earlier deadline

	mu struct {
		sync.Mutex
		phase       phase
		machines    map[string]*entry[M]
		deadlines   deadlines[M]
		calls       map[CallID]chan answer[F]
		lastCall    CallID
		queue       []queued[M]
		queuedBytes int // of queue and of the batch under way
		ends        []end[E]
		reload      bool // a machine asked for it
	}
}

// entry is a machine with its place among the deadlines.
type entry[M any] struct {
	key      string
	machine  M
	deadline time.Time
	place    int // in deadlines; -1 if there is no deadline
}

// answer ends a call.
type answer[F any] struct {
	effect F
	err    error
}

// end is a marker that the machines must hear of. While the partition is read, done is nil and only the marker counts.
type end[E any] struct {
	marker Marker
	event  E
	done   chan error
}

func newShard[M Machine[E, F], E, F any](r *Runtime[M, E, F], partition int32, epoch batch.Epoch, cancel context.CancelFunc) *shard[M, E, F] {
	sh := &shard[M, E, F]{
		partition: partition, epoch: epoch, runtime: r, cancel: cancel, wake: make(chan struct{}, 1),
		logger: r.o.Logger.With("topic", r.o.Topic, "partition", partition, "epoch", epoch),
	}
	sh.mu.machines = map[string]*entry[M]{}
	sh.mu.calls = map[CallID]chan answer[F]{}
	return sh
}

// run is the shard's goroutine.
func (sh *shard[M, E, F]) run(ctx context.Context) {
	defer sh.retire()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		if sh.load(ctx) {
			sh.serve(ctx, timer)
			sh.unload(loading)
		}
	}
}

// serve writes and watches the time until the context ends or the state of the log became uncertain.
func (sh *shard[M, E, F]) serve(ctx context.Context, timer *time.Timer) {
	sweep := sh.nextSweep(time.Now())
	var flight inFlight[M]
	for !sh.mustReload() {
		if flight.pending == nil {
			flight = sh.flush()
		}
		timer.Reset(time.Until(sh.nextWake(sweep)))
		select {
		case <-ctx.Done():
			return
		case <-sh.wake:
		case now := <-timer.C:
			sh.fire(now)
			if !now.Before(sweep) {
				sh.tellAll(now, sh.runtime.o.Sweep)
				sweep = sh.nextSweep(now)
			}
		case <-flight.done():
		}
		// Markers come behind what is in front of them in the log: that has ended when they were committed.
		ends := sh.takeEnds()
		if flight.isDone() {
			err := flight.pending.Err()
			if errors.Is(err, replication.ErrUnknownOutcome) {
				sh.logger.Warn("The outcome of a write is not known; reading the partition again.", "error", err)
				answerEnds(ends, broker.ErrCoordinatorLoading)
				return
			}
			sh.settle(flight, err)
			flight = inFlight[M]{}
		}
		for i := range ends {
			sh.tellAll(time.Now(), ends[i].event)
		}
		answerEnds(ends, nil)
	}
}

// never is far enough.
const never = 1000 * time.Hour

func (sh *shard[M, E, F]) nextSweep(now time.Time) time.Time {
	if every := sh.runtime.o.SweepEvery; every > 0 {
		return now.Add(every)
	}
	return now.Add(never)
}

// nextWake is when the next timer is due.
func (sh *shard[M, E, F]) nextWake(sweep time.Time) time.Time {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.mu.deadlines) > 0 && sh.mu.deadlines[0].deadline.Before(sweep) {
		return sh.mu.deadlines[0].deadline
	}
	return sweep
}

// fire ticks the machines that are due.
func (sh *shard[M, E, F]) fire(now time.Time) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	// One that asks for a time that is past, again and again, must not keep the others from their turn.
	for turns := len(sh.mu.deadlines); turns > 0 && len(sh.mu.deadlines) > 0 && !now.Before(sh.mu.deadlines[0].deadline); turns-- {
		sh.stepLocked(sh.mu.deadlines[0], now, sh.runtime.o.Kind.Tick())
	}
}

func (sh *shard[M, E, F]) open() error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.openLocked()
}

// openLocked refuses work that the shard can't do now.
func (sh *shard[M, E, F]) openLocked() error {
	switch sh.mu.phase {
	case ready:
		return nil
	case loading:
		return broker.ErrCoordinatorLoading
	default:
		return broker.ErrNotCoordinator
	}
}

// poke wakes the shard's goroutine.
func (sh *shard[M, E, F]) poke() {
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// ended hands a marker to the goroutine and waits until all machines had it.
func (sh *shard[M, E, F]) ended(ctx context.Context, m Marker, event E) error {
	e := end[E]{marker: m, event: event, done: make(chan error, 1)}
	sh.mu.Lock()
	if sh.mu.phase == gone {
		sh.mu.Unlock()
		return broker.ErrNotCoordinator
	}
	if len(sh.mu.ends) >= sh.runtime.o.Limits.MaxCalls {
		sh.mu.Unlock()
		return broker.ErrCoordinatorLoading
	}
	// A marker that was written while the partition is read may be behind the end that is read to.
	wait := sh.mu.phase == ready
	if !wait {
		e.done = nil
	}
	sh.mu.ends = append(sh.mu.ends, e)
	sh.mu.Unlock()
	if !wait {
		return nil
	}
	sh.poke()
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (sh *shard[M, E, F]) takeEnds() []end[E] {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ends := sh.mu.ends
	sh.mu.ends = nil
	return ends
}

func answerEnds[E any](ends []end[E], err error) {
	for i := range ends {
		if ends[i].done != nil {
			ends[i].done <- err
		}
	}
}

// unload drops all machines; who waits is told to look for the coordinator again.
func (sh *shard[M, E, F]) unload(next phase) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.mu.phase != gone {
		sh.mu.phase = next
	}
	var none F
	for _, ch := range sh.mu.calls {
		ch <- answer[F]{none, broker.ErrNotCoordinator}
	}
	clear(sh.mu.calls)
	sh.runtime.addKeys(-len(sh.mu.machines))
	sh.mu.machines = map[string]*entry[M]{}
	sh.mu.deadlines = nil
	sh.mu.queue, sh.mu.queuedBytes = nil, 0
	answerEnds(sh.mu.ends, broker.ErrNotCoordinator)
	sh.mu.ends, sh.mu.reload = nil, false
}

// mustReload tells whether a machine asked for that.
func (sh *shard[M, E, F]) mustReload() bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.mu.reload
}

// stop ends the shard. It does not wait for its goroutine.
func (sh *shard[M, E, F]) stop() {
	sh.cancel()
	sh.unload(gone)
}

func (sh *shard[M, E, F]) retire() {
	sh.unload(gone)
	sh.runtime.running.Done()
}

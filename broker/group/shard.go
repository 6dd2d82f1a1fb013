package group

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
)

// phase is how far a shard is.
type phase uint8

const (
	loading phase = iota // the partition is being read: COORDINATOR_LOAD_IN_PROGRESS
	ready
	gone // the leadership is lost, or the service is closed: NOT_COORDINATOR
)

// shard is one partition of __consumer_offsets that this node leads, with the groups that hash to it.
type shard struct {
	partition int32
	epoch     batch.Epoch
	service   *Service
	logger    *slog.Logger
	cancel    context.CancelFunc
	wake      chan struct{} // holds one token at most: there is something to write, or an earlier deadline

	mu struct {
		sync.Mutex
		phase       phase
		groups      map[string]*entry
		deadlines   deadlines
		calls       map[CallID]chan answer
		lastCall    CallID
		queue       []queued
		queuedBytes int // of queue and of the batch under way
	}
}

// entry is a group with its place among the deadlines.
type entry struct {
	machine  *Machine
	deadline time.Time
	place    int // in deadlines; -1 if there is no deadline
}

// answer ends a call.
type answer struct {
	effect Effect
	err    error
}

// queued is a write that waits for its turn, or is under way.
type queued struct {
	group   *entry
	seq     uint64
	records []Record
	size    int
}

func newShard(s *Service, partition int32, epoch batch.Epoch, cancel context.CancelFunc) *shard {
	sh := &shard{
		partition: partition, epoch: epoch, service: s, cancel: cancel, wake: make(chan struct{}, 1),
		logger: s.logger.With("topic", broker.OffsetsTopic, "partition", partition, "epoch", epoch),
	}
	sh.mu.groups = map[string]*entry{}
	sh.mu.calls = map[CallID]chan answer{}
	return sh
}

// run is the shard's goroutine.
func (sh *shard) run(ctx context.Context) {
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
func (sh *shard) serve(ctx context.Context, timer *time.Timer) {
	sweep := time.Now().Add(sh.service.limits.RetentionCheck)
	var flight inFlight
	for {
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
				sh.sweep(now)
				sweep = now.Add(sh.service.limits.RetentionCheck)
			}
		case <-flight.done():
			err := flight.pending.Err()
			if uncertain(err) {
				sh.logger.Warn("The outcome of a write is not known; reading the groups again.", "error", err)
				return
			}
			sh.settle(flight, err)
			flight = inFlight{}
		}
	}
}

// nextWake is when the next timer is due.
func (sh *shard) nextWake(sweep time.Time) time.Time {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.mu.deadlines) > 0 && sh.mu.deadlines[0].deadline.Before(sweep) {
		return sh.mu.deadlines[0].deadline
	}
	return sweep
}

// fire ticks the machines that are due.
func (sh *shard) fire(now time.Time) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for len(sh.mu.deadlines) > 0 && !now.Before(sh.mu.deadlines[0].deadline) {
		sh.stepLocked(sh.mu.deadlines[0], now, Tick{})
	}
}

// sweep lets each group expire its offsets. The lock is given away between groups.
func (sh *shard) sweep(now time.Time) { sh.stepAll(now, Sweep{}) }

// stepAll gives an event to all groups, one at a time.
func (sh *shard) stepAll(now time.Time, ev Event) {
	sh.mu.Lock()
	all := make([]*entry, 0, len(sh.mu.groups))
	for _, e := range sh.mu.groups {
		all = append(all, e)
	}
	sh.mu.Unlock()
	for _, e := range all {
		sh.mu.Lock()
		if sh.mu.groups[e.machine.id] == e {
			sh.stepLocked(e, now, ev)
		}
		sh.mu.Unlock()
	}
}

// errTooManyGroups is told as "try again": groups come and go.
var errTooManyGroups = broker.ErrCoordinatorNotAvailable

// do gives an event to a group and waits for the answer.
func (sh *shard) do(ctx context.Context, group string, event func(CallID) Event) (Effect, error) {
	ch := make(chan answer, 1)
	call, err := sh.begin(group, event, ch)
	if err != nil {
		return nil, err
	}
	select {
	case a := <-ch:
		return a.effect, a.err
	case <-ctx.Done():
		sh.mu.Lock()
		delete(sh.mu.calls, call)
		sh.mu.Unlock()
		return nil, ctx.Err()
	}
}

func (sh *shard) begin(group string, event func(CallID) Event, ch chan answer) (CallID, error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if err := sh.openLocked(); err != nil {
		return 0, err
	}
	if len(sh.mu.calls) >= sh.service.limits.MaxCalls || sh.mu.queuedBytes >= sh.service.limits.MaxQueuedBytes {
		return 0, broker.ErrCoordinatorLoading // what makes a client wait and ask again, here
	}
	e := sh.mu.groups[group]
	if e == nil {
		if !sh.service.admitGroup() {
			return 0, errTooManyGroups
		}
		e = &entry{machine: NewMachine(group, &sh.service.limits), place: -1}
		sh.mu.groups[group] = e
	}
	sh.mu.lastCall++
	call := sh.mu.lastCall
	sh.mu.calls[call] = ch
	sh.stepLocked(e, time.Now(), event(call))
	return call, nil
}

// openLocked refuses work that the shard can't do now.
func (sh *shard) openLocked() error {
	switch sh.mu.phase {
	case ready:
		return nil
	case loading:
		return broker.ErrCoordinatorLoading
	default:
		return broker.ErrNotCoordinator
	}
}

// view lets fn look at a group; m is nil if there is none.
func (sh *shard) view(group string, fn func(m *Machine)) error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if err := sh.openLocked(); err != nil {
		return err
	}
	if e := sh.mu.groups[group]; e != nil {
		fn(e.machine)
	} else {
		fn(nil)
	}
	return nil
}

// stepLocked gives an event to a group and does what it wants.
func (sh *shard) stepLocked(e *entry, now time.Time, ev Event) {
	for _, effect := range e.machine.Step(now, ev) {
		switch f := effect.(type) {
		case ReplyJoin:
			sh.answerLocked(f.Call, f)
		case ReplySync:
			sh.answerLocked(f.Call, f)
		case Reply:
			sh.answerLocked(f.Call, f)
		case Write:
			sh.enqueueLocked(e, f)
		case Forget:
			sh.forgetLocked(e)
		}
	}
	if e.machine.Blank() {
		sh.forgetLocked(e)
	}
	sh.scheduleLocked(e)
}

func (sh *shard) answerLocked(call CallID, f Effect) {
	if ch, ok := sh.mu.calls[call]; ok {
		delete(sh.mu.calls, call)
		ch <- answer{effect: f}
	}
}

func (sh *shard) forgetLocked(e *entry) {
	if sh.mu.groups[e.machine.id] == e {
		delete(sh.mu.groups, e.machine.id)
		sh.service.releaseGroups(1)
	}
}

// scheduleLocked puts the group where its deadline belongs.
func (sh *shard) scheduleLocked(e *entry) {
	deadline := e.machine.Deadline()
	if sh.mu.groups[e.machine.id] != e {
		deadline = time.Time{}
	}
	if deadline.Equal(e.deadline) && (e.place >= 0) == !deadline.IsZero() {
		return
	}
	e.deadline = deadline
	switch {
	case deadline.IsZero():
		if e.place >= 0 {
			heap.Remove(&sh.mu.deadlines, e.place)
		}
		return
	case e.place < 0:
		heap.Push(&sh.mu.deadlines, e)
	default:
		heap.Fix(&sh.mu.deadlines, e.place)
	}
	if e.place == 0 {
		sh.poke()
	}
}

// poke wakes the shard's goroutine.
func (sh *shard) poke() {
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// unload drops all groups; who waits is told to look for the coordinator again.
func (sh *shard) unload(next phase) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.mu.phase != gone {
		sh.mu.phase = next
	}
	for _, ch := range sh.mu.calls {
		ch <- answer{err: broker.ErrNotCoordinator}
	}
	clear(sh.mu.calls)
	sh.service.releaseGroups(len(sh.mu.groups))
	sh.mu.groups = map[string]*entry{}
	sh.mu.deadlines = nil
	sh.mu.queue, sh.mu.queuedBytes = nil, 0
}

// stop ends the shard. It does not wait for its goroutine.
func (sh *shard) stop() {
	sh.cancel()
	sh.unload(gone)
}

func (sh *shard) retire() {
	sh.unload(gone)
	sh.service.running.Done()
}

// uncertain tells errors after which the log may or may not hold the batch.
func uncertain(err error) bool { return errors.Is(err, errUnknownOutcome) }

// deadlines is a heap of groups by their next deadline.
type deadlines []*entry

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].deadline.Before(d[j].deadline) }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push is part of heap.Interface.
func (d *deadlines) Push(x any) {
	e := x.(*entry)
	e.place = len(*d)
	*d = append(*d, e)
}

// Pop is part of heap.Interface.
func (d *deadlines) Pop() any {
	old := *d
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	e.place = -1
	return e
}

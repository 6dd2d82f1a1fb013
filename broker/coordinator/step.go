package coordinator

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker"
)

// errTooManyKeys is told as "try again": keys come and go.
var errTooManyKeys = fmt.Errorf("%w: it has as many keys as it may", broker.ErrCoordinatorNotAvailable)

// do gives an event to a machine and waits for the answer.
func (sh *shard[M, E, F]) do(ctx context.Context, key string, event func(CallID) E) (F, error) {
	ch := make(chan answer[F], 1)
	var none F
	call, err := sh.begin(key, event, ch)
	if errors.Is(err, errTooManyKeys) {
		sh.runtime.refused(time.Now())
	}
	if err != nil {
		return none, err
	}
	select {
	case a := <-ch:
		return a.effect, a.err
	case <-ctx.Done():
		sh.mu.Lock()
		delete(sh.mu.calls, call)
		sh.mu.Unlock()
		return none, ctx.Err()
	}
}

func (sh *shard[M, E, F]) begin(key string, event func(CallID) E, ch chan answer[F]) (CallID, error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if err := sh.openLocked(); err != nil {
		return 0, err
	}
	if len(sh.mu.calls) >= sh.runtime.o.Limits.MaxCalls || sh.mu.queuedBytes >= sh.runtime.o.Limits.MaxQueuedBytes {
		return 0, broker.ErrCoordinatorLoading // what makes a client wait and ask again, here
	}
	e := sh.mu.machines[key]
	if e == nil {
		if !sh.runtime.admitKey() {
			return 0, errTooManyKeys
		}
		e = &entry[M]{key: key, machine: sh.runtime.o.Kind.New(key), place: -1}
		sh.mu.machines[key] = e
	}
	sh.mu.lastCall++
	call := sh.mu.lastCall
	sh.mu.calls[call] = ch
	sh.stepLocked(e, time.Now(), event(call))
	return call, nil
}

func (sh *shard[M, E, F]) view(key string, fn func(m M, known bool)) error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if err := sh.openLocked(); err != nil {
		return err
	}
	if e := sh.mu.machines[key]; e != nil {
		fn(e.machine, true)
	} else {
		var none M
		fn(none, false)
	}
	return nil
}

// each shows all machines, and tells how far the shard was by then.
func (sh *shard[M, E, F]) each(fn func(key string, m M)) phase {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for key, e := range sh.mu.machines {
		fn(key, e.machine)
	}
	return sh.mu.phase
}

// tell gives an event to a machine, if it is there.
func (sh *shard[M, E, F]) tell(key string, event E) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.mu.machines[key]
	if sh.mu.phase != ready || e == nil {
		return false
	}
	sh.stepLocked(e, time.Now(), event)
	return true
}

// tellAll gives an event to all machines, one at a time. The lock is given away between them.
func (sh *shard[M, E, F]) tellAll(now time.Time, event E) {
	sh.mu.Lock()
	all := make([]*entry[M], 0, len(sh.mu.machines))
	for _, e := range sh.mu.machines {
		all = append(all, e)
	}
	sh.mu.Unlock()
	for _, e := range all {
		sh.mu.Lock()
		if sh.mu.machines[e.key] == e {
			sh.stepLocked(e, now, event)
		}
		sh.mu.Unlock()
	}
}

// stepLocked gives an event to a machine and does what it wants.
func (sh *shard[M, E, F]) stepLocked(e *entry[M], now time.Time, event E) {
	kind := sh.runtime.o.Kind
	for _, effect := range e.machine.Step(now, event) {
		a := kind.Action(effect)
		if a.Reply != 0 {
			sh.answerLocked(a.Reply, effect)
		}
		if a.Write != nil {
			sh.enqueueLocked(e, a.Write)
		}
		if a.Other {
			kind.Perform(Place{Partition: sh.partition, Epoch: sh.epoch, Key: e.key}, effect)
		}
		if a.Forget {
			sh.forgetLocked(e)
		}
		if a.Reload {
			sh.mu.reload = true
			sh.poke()
		}
	}
	if e.machine.Blank() {
		sh.forgetLocked(e)
	}
	sh.scheduleLocked(e)
}

func (sh *shard[M, E, F]) answerLocked(call CallID, effect F) {
	if ch, ok := sh.mu.calls[call]; ok {
		delete(sh.mu.calls, call)
		ch <- answer[F]{effect: effect}
	}
}

func (sh *shard[M, E, F]) forgetLocked(e *entry[M]) {
	if sh.mu.machines[e.key] == e {
		delete(sh.mu.machines, e.key)
		sh.runtime.addKeys(-1)
	}
}

// scheduleLocked puts the machine where its deadline belongs.
func (sh *shard[M, E, F]) scheduleLocked(e *entry[M]) {
	deadline := e.machine.Deadline()
	if sh.mu.machines[e.key] != e {
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

// deadlines is a heap of machines by their next deadline.
type deadlines[M any] []*entry[M]

func (d deadlines[M]) Len() int           { return len(d) }
func (d deadlines[M]) Less(i, j int) bool { return d[i].deadline.Before(d[j].deadline) }
func (d deadlines[M]) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push is part of heap.Interface.
func (d *deadlines[M]) Push(x any) {
	e := x.(*entry[M])
	e.place = len(*d)
	*d = append(*d, e)
}

// Pop is part of heap.Interface.
func (d *deadlines[M]) Pop() any {
	old := *d
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	e.place = -1
	return e
}

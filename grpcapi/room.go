package grpcapi

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// room is a bound on what calls hold of something, places or bytes. Who finds too little left waits, but not for somebody who has
// held theirs for longer than patience: whoever has for the longest is evicted. Those who send or read slowly so lose what they
// hold when it is needed, and only then.
type room struct {
	most     int64
	patience time.Duration

	mu struct {
		sync.Mutex
		taken int64
		held  list.List     // of *hold, the oldest first
		freed chan struct{} // closed when something is given back; nil while nobody waits
	}
}

// hold is what a call holds.
type hold struct {
	n     int64
	since time.Time
	evict func()
	place *list.Element // nil once it is given back; guarded by room.mu
}

func newRoom(most int64, patience time.Duration) *room { return &room{most: most, patience: patience} }

// take waits for n, or for all that there is if that is less, and returns what gives it back, which may be called more than once.
// evict is called if somebody else needs it more; it must not block. Without patience take never waits.
func (r *room) take(ctx context.Context, n int64, evict func()) (give func(), err error) {
	h := &hold{n: min(n, r.most), evict: evict}
	for {
		over, freed, wait := r.enter(h)
		switch {
		case over != nil:
			over.evict()
			continue
		case freed == nil:
			return func() { r.give(h) }, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-freed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// enter takes what h needs, if there is as much. If not, it returns who is to be evicted, whose part is free by then, or what to
// wait for and for how long.
func (r *room) enter(h *hold) (over *hold, freed <-chan struct{}, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.taken+h.n <= r.most {
		h.since = time.Now()
		h.place = r.mu.held.PushBack(h)
		r.mu.taken += h.n
		return nil, nil, 0
	}
	oldest, _ := r.mu.held.Front().Value.(*hold) // somebody holds something, or h would fit
	if wait = r.patience - time.Since(oldest.since); wait <= 0 {
		r.giveLocked(oldest)
		return oldest, nil, 0
	}
	if r.mu.freed == nil {
		r.mu.freed = make(chan struct{})
	}
	return nil, r.mu.freed, wait
}

func (r *room) give(h *hold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.giveLocked(h)
}

func (r *room) giveLocked(h *hold) {
	if h.place == nil {
		return
	}
	r.mu.held.Remove(h.place)
	h.place = nil
	r.mu.taken -= h.n
	if r.mu.freed != nil {
		close(r.mu.freed)
		r.mu.freed = nil
	}
}

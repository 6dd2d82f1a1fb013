// Package turns keeps work that takes a processor for milliseconds at a stretch from taking all processors.
package turns

import (
	"context"
	"runtime"

	"golang.org/x/sync/semaphore"
)

// Turns lets heavy work have half of the processors at most. While all of them are busy Go looks only every 10 ms whether something has
// come from the network, and each request of other clients waits that long, again and again. A node has one for all such work; Do may
// be called from any goroutine.
type Turns struct {
	free *semaphore.Weighted
	of   *Turns // whose line this is
}

// New returns turns for half of the processors, for one at least.
func New() *Turns { return &Turns{free: semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/2)))} }

// Line returns a line for work of one kind. Lines are served in turn: who waits in one has before him those of his own line, and for each
// of them one of each other line, however many wait there.
func (t *Turns) Line() *Turns {
	line := New()
	line.of = t
	return line
}

// Do works when it has its turn: first come, first served. Its errors are the work's, and the cause of ctx's end if that comes first.
func (t *Turns) Do(ctx context.Context, work func() error) error {
	if err := t.free.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer t.free.Release(1)
	if t.of != nil {
		return t.of.Do(ctx, work)
	}
	return work()
}

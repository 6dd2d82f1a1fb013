package conn

import (
	"context"
	"sync"
	"time"

	"github.com/quorlog/quorlog/kafkaproto"
)

// request is a request between its arrival and its answer.
type request struct {
	header   kafkaproto.RequestHeader
	body     []byte
	arrived  time.Time
	size     int  // bytes of the frame
	counted  bool // size was taken from the server's request memory
	overlaps bool
	started  bool // call is there
	call     Call
	ctx      context.Context // of the call
	end      func(error)     // is told its outcome
}

// queue holds the unanswered requests of a connection. The reader adds at the end, the writer takes from the head.
//
// Invariants: the started requests come first, and if there is more than one, all of them overlap;
// unstarted == the number of those that are not; exclusive == the number of those that do not overlap.
type queue struct {
	mu sync.Mutex

	items     []*request
	bytes     int
	unstarted int
	exclusive int
	closed    bool // the reader adds nothing more
	failed    bool // the writer takes nothing more

	arrived sync.Cond // an item, or closed; the writer waits
	left    sync.Cond // room, or failed; the reader waits
}

func (q *queue) init() { q.arrived.L, q.left.L = &q.mu, &q.mu }

// waitRoom waits until a request of size bytes may be in flight; false if the writer has failed.
func (q *queue) waitRoom(size, maxItems, maxBytes int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.failed && len(q.items) > 0 && (len(q.items) >= maxItems || q.bytes+size > maxBytes) {
		q.left.Wait()
	}
	return !q.failed
}

// startable tells the reader whether it may start a request before adding it. The answer stays true: only the reader
// adds, and what the writer takes away can't be in the way.
func (q *queue) startable(overlaps bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return overlaps && q.unstarted == 0 && q.exclusive == 0
}

func (q *queue) add(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, r)
	q.bytes += r.size
	if !r.started {
		q.unstarted++
	}
	if !r.overlaps {
		q.exclusive++
	}
	q.arrived.Signal()
}

// head returns the request whose answer is next. It is nil if there is none yet, or, where wait is set, none ever.
func (q *queue) head(wait bool) *request {
	q.mu.Lock()
	defer q.mu.Unlock()
	for wait && len(q.items) == 0 && !q.closed {
		q.arrived.Wait()
	}
	if len(q.items) == 0 {
		return nil
	}
	return q.items[0]
}

// next returns the first unstarted request if it may be started now, else nil. Only the writer asks.
func (q *queue) next() *request {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, r := range q.items {
		switch {
		case !r.started && (i == 0 || r.overlaps):
			return r
		case !r.started || !r.overlaps:
			return nil
		}
	}
	return nil
}

// started records that the writer has started a request.
func (q *queue) started(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r.started = true
	q.unstarted--
}

// pop removes the head.
func (q *queue) pop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.items[0]
	n := copy(q.items, q.items[1:])
	q.items[n] = nil
	q.items = q.items[:n]
	q.bytes -= r.size
	if !r.started {
		q.unstarted--
	}
	if !r.overlaps {
		q.exclusive--
	}
	if n == 0 && cap(q.items) > keepItems {
		q.items = nil
	}
	q.left.Signal()
}

// keepItems is the room that an idle connection's queue keeps.
const keepItems = 4

// close says that no more requests will come.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.arrived.Signal()
}

// fail says that no more answers will go.
func (q *queue) fail() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.failed = true
	q.left.Signal()
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) == 0
}

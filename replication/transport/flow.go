package transport

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// windowBytes is how many bytes of entries of one pipeline may be unanswered: two full messages.
	windowBytes = 2 * maxAppend
	// maxLanded is how many answers Raft may leave lying. It takes them as they come.
	maxLanded = 8 * window
)

// flow is a pipeline to one replica, over one connection. It starts no goroutine: answers are handed to Raft, in the order
// of the requests, by the connection's reader.
type flow struct {
	end    *netEnd
	id     raft.ServerID
	route  *route
	conn   *outConn
	ctx    context.Context
	cancel context.CancelFunc
	done   chan raft.AppendFuture
	room   chan struct{} // has room for one: a request was answered

	mu      sync.Mutex
	flying  []*flight
	bytes   int
	broken  bool       // a request failed; what comes after it would be refused
	handing sync.Mutex // held while answers are handed over, so that they keep their order
}

// AppendEntriesPipeline implements Endpoint.
func (e *netEnd) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	r, err := e.route(to)
	if err != nil {
		return nil, err
	}
	f := &flow{end: e, id: id, route: r, done: make(chan raft.AppendFuture, maxLanded), room: make(chan struct{}, 1)}
	f.ctx, f.cancel = context.WithCancel(e.context())
	ctx, cancel := context.WithTimeout(f.ctx, voteTimeout)
	defer cancel()
	if f.conn, err = r.peer.lanes[laneBulk].get(ctx, false); err != nil {
		f.cancel()
		return nil, e.detached(err)
	}
	return f, nil
}

// Consumer implements raft.AppendPipeline.
func (f *flow) Consumer() <-chan raft.AppendFuture { return f.done }

// Close implements raft.AppendPipeline.
func (f *flow) Close() error {
	f.cancel()
	return nil
}

// AppendEntries implements raft.AppendPipeline. It waits while too much is unanswered.
func (f *flow) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	a := &flight{req: req, resp: resp, began: time.Now(), size: entriesSize(req), ready: make(chan struct{}), landed: f.landed}
	for !f.enter(a) {
		if f.over() {
			return nil, raft.ErrPipelineShutdown
		}
		select {
		case <-f.room:
		case <-f.ctx.Done():
		}
	}
	if err := a.launch(f.ctx, f.conn, f.route); err != nil {
		f.abort()
		return nil, err
	}
	return a, nil
}

func (f *flow) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken || f.ctx.Err() != nil
}

// abort ends the pipeline: Raft goes back to asking one by one.
func (f *flow) abort() {
	f.mu.Lock()
	f.broken = true
	f.mu.Unlock()
	f.cancel()
}

// enter takes a request in if the window has room.
func (f *flow) enter(a *flight) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken || f.ctx.Err() != nil || len(f.flying) >= window || len(f.flying) > 0 && f.bytes+a.size > windowBytes {
		return false
	}
	f.flying = append(f.flying, a)
	f.bytes += a.size
	return true
}

// landed hands over all answers up to the first that is still to come.
func (f *flow) landed(a *flight) {
	close(a.ready)
	f.handing.Lock()
	defer f.handing.Unlock()
	for {
		f.mu.Lock()
		var next *flight
		if len(f.flying) > 0 {
			select {
			case <-f.flying[0].ready:
				next = f.flying[0]
				f.flying[0] = nil
				f.flying = f.flying[1:]
				f.bytes -= next.size
			default:
			}
		}
		f.mu.Unlock()
		if next == nil {
			return
		}
		f.handOver(next)
		select {
		case f.room <- struct{}{}:
		default:
		}
	}
}

// handOver gives one answer to Raft. It must not wait: it is called on the connection's reader.
func (f *flow) handOver(a *flight) {
	if a.err == nil && a.resp.Success {
		f.end.handler.Matched(f.id, Confirmed(a.req))
	} else {
		f.mu.Lock()
		f.broken = true
		f.mu.Unlock()
	}
	select {
	case f.done <- a:
	default:
		f.abort() // Raft has stopped listening
	}
}

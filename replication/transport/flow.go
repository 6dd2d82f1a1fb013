package transport

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// windowBytes is how many bytes of entries of one pipeline may be unanswered: two full messages.
	windowBytes = 2 * maxAppend
	// smallWindow is how many requests of a pipeline may be unanswered unless they are full, which one of so many entries or
	// bytes is.
	smallWindow = 2
	fullEntries = 128
	fullBytes   = 512 << 10
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
	term   atomic.Uint64 // of its requests; 0 before the first
	heard  atomic.Int64  // when a heartbeat that stands was last answered, ns
	there  atomic.Pointer[flight]

	mu      sync.Mutex
	flying  []*flight
	bytes   int
	broken  bool       // a request failed; what comes after it would be refused
	told    *flight    // the last request that succeeded, while nothing is under way
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
	r.mu.Lock()
	r.mu.flow = f
	r.mu.Unlock()
	return f, nil
}

// contact tells Raft that the follower was heard of, through the pipeline: an answer to a request that says nothing. False
// if the pipeline is over. On a nil flow it is false.
func (f *flow) contact(now time.Time) bool {
	if f == nil || f.over() {
		return false
	}
	f.heard.Store(now.UnixNano())
	if len(f.done) > 0 {
		return true // it has enough to read
	}
	term := f.term.Load()
	there := f.there.Load()
	if there == nil || there.req.Term != term {
		there = &flight{
			began: now, req: &raft.AppendEntriesRequest{Term: term}, resp: &raft.AppendEntriesResponse{Term: term, Success: true}, ready: closed,
		}
		f.there.Store(there) // Raft only reads it, so the same one serves always
	}
	f.deliver(there)
	return true
}

// closed is the ready channel of flights that never left.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// repeats answers a request without entries that says what the follower has confirmed before, while heartbeats that stand
// show that it is still there: Raft makes one for each group and follower every second or two.
func (f *flow) repeats(req *raft.AppendEntriesRequest, now time.Time) *flight {
	if len(req.Entries) > 0 || now.UnixNano()-f.heard.Load() > 2*int64(f.end.p.o.Beat) || f.over() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.told == nil || len(f.flying) > 0 {
		return nil
	}
	was := f.told.req
	if Confirmed(was) != req.PrevLogEntry || was.LeaderCommitIndex != req.LeaderCommitIndex || was.Term != req.Term {
		return nil
	}
	return &flight{began: now, req: req, resp: f.told.resp, ready: closed}
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
	a := &flight{req: req, resp: resp, filler: f.end.handler, began: time.Now(), size: entriesSize(f.end.handler, req), ready: make(chan struct{}), landed: f.landed}
	f.term.Store(req.Term)
	if same := f.repeats(req, a.began); same != nil {
		*resp = *same.resp
		same.resp = resp
		f.end.handler.Matched(f.id, Confirmed(req))
		f.deliver(same)
		return same, nil
	}
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

// over reports whether nothing comes through any more. Nobody tells a flow of its connection's end while nothing is under way, and the
// next connection carries the heartbeats of the same replica: of another process, perhaps, that knows less than this flow has told.
func (f *flow) over() bool {
	select {
	case <-f.conn.done:
		return true
	default:
	}
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

// limit is how many requests may be unanswered with this one: more if it is full. While a few are under way, Raft collects what
// comes, and the next is larger; that is worth more than sending each of the small ones at once.
func (f *flow) limit(a *flight) int {
	if len(a.req.Entries) >= fullEntries || a.size >= fullBytes {
		return window
	}
	return smallWindow
}

// enter takes a request in if the window has room.
func (f *flow) enter(a *flight) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken || f.ctx.Err() != nil || len(f.flying) >= f.limit(a) || len(f.flying) > 0 && f.bytes+a.size > windowBytes {
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
				f.tellLocked(next)
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
	f.deliver(a)
}

// tellLocked remembers what the follower knows, without the entries.
func (f *flow) tellLocked(a *flight) {
	if a.err != nil || !a.resp.Success {
		f.told = nil
		return
	}
	was := *a.req
	was.PrevLogEntry, was.Entries = Confirmed(a.req), nil
	f.told = &flight{req: &was, resp: &raft.AppendEntriesResponse{RPCHeader: a.resp.RPCHeader, Term: a.resp.Term, LastLog: a.resp.LastLog, Success: true}}
}

func (f *flow) deliver(a *flight) {
	select {
	case f.done <- a:
	default:
		f.abort() // Raft has stopped listening
	}
}

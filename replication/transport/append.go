package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ErrTooLarge: a message is larger than a peer takes.
var ErrTooLarge = errors.New("transport: message is too large")

// AppendEntries implements Endpoint. While there is no connection, a request other than a heartbeat waits for one, and may
// lose its entries meanwhile: what waits for a node that is down must not keep the log in memory.
func (e *netEnd) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	r, err := e.route(to)
	if err != nil {
		return err
	}
	if isHeartbeat(args) {
		err = e.heartbeat(r, args, resp)
	} else {
		err = e.appendPatiently(id, r, args, resp)
	}
	if err != nil {
		return e.detached(err)
	}
	if resp.Success {
		e.handler.Matched(id, Confirmed(args))
	}
	return nil
}

// appendPatiently waits while the node is there, but not the replica: a node that was started opens its replicas one after the
// other. What it asks meanwhile has no entries; they stay in memory if they are few. The request fails as soon as there is
// somebody to take it, and Raft makes the next at once.
func (e *netEnd) appendPatiently(id raft.ServerID, r *route, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	ctx, cancel := context.WithTimeout(e.context(), holdTime)
	defer cancel()
	err := e.appendNow(ctx, id, r, args, resp)
	if !errors.Is(err, ErrAbsent) {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, absentTime)
	defer cancel()
	lighten(args)
	probe := *args
	probe.Entries = nil
	for began := time.Now(); errors.Is(err, ErrAbsent); {
		timer := time.NewTimer(min(absentFirst+time.Since(began)/4, absentMost))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		err = e.appendNow(ctx, id, r, &probe, &raft.AppendEntriesResponse{})
	}
	if err == nil {
		err = fmt.Errorf("%w: replica %s was, until now", ErrUnreachable, r.to)
	}
	return err
}

// lighten takes the entries off a request that has to wait, if they are many. It reports whether it did. Such a request must not
// succeed: whoever made it may count them as stored.
func lighten(args *raft.AppendEntriesRequest) bool {
	if entriesSize(Whole{}, args) <= maxHeld { // what is left out takes no memory
		return false
	}
	args.Entries = nil
	return true
}

func (e *netEnd) appendNow(ctx context.Context, id raft.ServerID, r *route, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	c, err := e.hold(ctx, r, args)
	if err != nil {
		return err
	}
	got := make(chan struct{})
	f := &flight{req: args, resp: resp, filler: e.handler, began: time.Now(), landed: func(*flight) { close(got) }}
	waiting, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	if err := f.launch(waiting, c, r); err != nil {
		return err
	}
	select {
	case <-got:
		return f.err
	case <-waiting.Done():
		f.abandon(c, r) // args and resp are the caller's again
		return fmt.Errorf("%w: node %d does not answer", ErrUnreachable, r.peer.node)
	}
}

// hold waits for a connection. The entries are dropped from a request that has to wait with many; then it fails as soon as
// there is one, and Raft makes the next at once.
func (e *netEnd) hold(ctx context.Context, r *route, args *raft.AppendEntriesRequest) (*outConn, error) {
	d := r.peer.lanes[laneBulk]
	if c, err := d.get(ctx, false); err == nil {
		return c, nil
	}
	light := lighten(args)
	c, err := d.get(ctx, true)
	if err == nil && light {
		err = fmt.Errorf("%w: node %d was, until now", ErrUnreachable, r.peer.node)
	}
	return c, err
}

// flight is an AppendEntries under way: one message, or several for a request of more than maxAppend bytes. It implements
// raft.AppendFuture.
type flight struct {
	began  time.Time
	req    *raft.AppendEntriesRequest
	resp   *raft.AppendEntriesResponse
	filler Filler
	size   int           // bytes of entries
	ready  chan struct{} // nil outside of pipelines; closed when the answer is there
	err    error
	landed func(*flight) // called once

	mu   sync.Mutex
	left int // answers that are to come; 0 when it is over
	sent []part
}

// part is one message of a flight.
type part struct{ id, size uint64 }

// Error waits for the answer.
func (f *flight) Error() error {
	<-f.ready
	return f.err
}

// Start is when the request was sent.
func (f *flight) Start() time.Time { return f.began }

// Request is what was asked.
func (f *flight) Request() *raft.AppendEntriesRequest { return f.req }

// Response is the answer.
func (f *flight) Response() *raft.AppendEntriesResponse { return f.resp }

// launch sends the messages, one after the other, when there is room for them. An error means that landed is not called.
func (f *flight) launch(ctx context.Context, c *outConn, r *route) error {
	parts, err := split(f.filler, f.req)
	if err != nil {
		return err
	}
	channel, err := r.channel(c)
	if err != nil {
		return err
	}
	f.left = len(parts)
	for i, req := range parts {
		size := min(entriesSize(f.filler, req), maxFlying)
		if size > 0 { // without entries it must not queue behind those that have some
			err = r.peer.room.Acquire(ctx, int64(size))
		}
		if err == nil {
			err = f.sendPart(c, r, channel, req, int64(size))
		}
		if err != nil {
			if f.drop(len(parts)-i, err) {
				return fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			return nil // the answers to the parts before end it
		}
	}
	return nil
}

func (f *flight) sendPart(c *outConn, r *route, channel uint64, req *raft.AppendEntriesRequest, size int64) error {
	req, err := fill(f.filler, req)
	if err != nil {
		r.peer.room.Release(size)
		return err
	}
	w := &pending{id: c.ids.Add(1)}
	w.done = func(a answer, err error) {
		r.peer.room.Release(size)
		f.answered(r, a, err)
	}
	f.mu.Lock()
	f.sent = append(f.sent, part{w.id, uint64(size)})
	f.mu.Unlock()
	if err = c.send(w, encodeAppend(w.id, channel, req)); err != nil {
		r.peer.room.Release(size)
	}
	return err
}

// drop gives up the last parts of a flight, which were not sent. It reports whether no answer is to come: then landed will
// not be called.
func (f *flight) drop(parts int, err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		return false // ended by an answer
	}
	f.err = err
	f.left -= parts
	return f.left == 0
}

// answered takes the answer to one part. The first that is no success is the answer to the whole; otherwise the last is.
func (f *flight) answered(r *route, a answer, err error) {
	f.mu.Lock()
	if f.left == 0 {
		f.mu.Unlock()
		return
	}
	f.left--
	switch {
	case f.err != nil:
	case err != nil:
		f.err = err
	case !a.yes():
		f.left = 0
	}
	over := f.left == 0
	if over && f.err == nil {
		*f.resp = raft.AppendEntriesResponse{
			RPCHeader: header(r.to), Term: a.term, LastLog: a.last, Success: a.yes(), NoRetryBackoff: a.flags&flagNoBackoff != 0,
		}
	}
	f.mu.Unlock()
	if over {
		f.landed(f)
	}
}

// abandon stops waiting: nothing is written to the response any more.
func (f *flight) abandon(c *outConn, r *route) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = 0
	for _, s := range f.sent {
		if c.forget(s.id) {
			r.peer.room.Release(int64(s.size))
		}
	}
}

// split makes consecutive requests of at most maxAppend bytes of one. A single larger entry goes alone.
func split(f Filler, req *raft.AppendEntriesRequest) ([]*raft.AppendEntriesRequest, error) {
	size, from := 0, 0
	var parts []*raft.AppendEntriesRequest
	rest := req
	for i, l := range req.Entries {
		if l.Index != req.Entries[0].Index+uint64(i) {
			return nil, fmt.Errorf("%w: entries %d and %d are no neighbours", ErrTooLarge, req.Entries[0].Index, l.Index)
		}
		n := f.Size(l)
		if n > maxBulkFrame-(1<<20) {
			return nil, fmt.Errorf("%w: entry %d of %d bytes", ErrTooLarge, l.Index, n)
		}
		if i > from && size+n > maxAppend {
			head, tail := *rest, *rest
			head.Entries = req.Entries[from:i]
			before := req.Entries[i-1]
			tail.Entries, tail.PrevLogEntry, tail.PrevLogTerm = req.Entries[i:], before.Index, before.Term
			parts, rest, from, size = append(parts, &head), &tail, i, 0
		}
		size += n
	}
	return append(parts, rest), nil
}

package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// MaxCall bounds the body of a call and of its answer, in bytes.
const MaxCall = 8 << 20

// JoinPrefix begins the names of the calls that a node may make and answer while it belongs to no cluster.
const JoinPrefix = "join."

// Codes of errors that this package returns in a handler's place.
const (
	CodeUnknownCall = "UNKNOWN_CALL" // there is no handler of that name
	CodeBusy        = "BUSY"         // too many calls of this peer are being answered
	CodeNotMember   = "NOT_MEMBER"   // one of the two nodes belongs to no cluster, and the call is not one of joining
	CodeTooLarge    = "TOO_LARGE"    // the answer is larger than MaxCall
)

// Handle names the handler of a kind of calls. All handlers are named before Serve and before the first call.
func (p *Peers) Handle(name string, h CallHandler) { p.handlers[name] = h }

// Call asks a node and waits for its answer. ErrUnreachable: the call was never delivered. ErrUnanswered: it may have been
// executed. *RemoteError: the handler's error. A call to this node itself is made here.
func (p *Peers) Call(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
	if err := fits(name, body); err != nil {
		return nil, err
	}
	if to == p.o.Node {
		out, err := p.execute(ctx, p.self(), name, body)
		if err != nil {
			return nil, remote(err)
		}
		return out, nil
	}
	if strings.HasPrefix(name, JoinPrefix) {
		addr, ok := p.o.Resolve(to)
		if !ok {
			return nil, fmt.Errorf("%w: node %d: %w", ErrUnreachable, to, errNoAddress)
		}
		_, out, err := p.callAddr(ctx, addr, to, name, body)
		return out, err
	}
	t, err := p.peer(to)
	if err != nil {
		return nil, err
	}
	c, err := t.lanes[laneControl].get(ctx, false)
	if err != nil {
		return nil, err
	}
	return c.ask(ctx, name, body)
}

// CallAddr asks whoever is at an address, over a connection of its own: for joining, before ids and clusters are known. The
// answering node is told as soon as it has proven the key, even if the call fails.
func (p *Peers) CallAddr(ctx context.Context, addr, name string, body []byte) (PeerInfo, []byte, error) {
	if err := fits(name, body); err != nil {
		return PeerInfo{}, nil, err
	}
	return p.callAddr(ctx, addr, replication.NoNode, name, body)
}

func (p *Peers) callAddr(ctx context.Context, addr string, to replication.NodeID, name string, body []byte) (PeerInfo, []byte, error) {
	if !p.begin() {
		return PeerInfo{}, nil, fmt.Errorf("%w: %w", ErrUnreachable, ErrClosed)
	}
	defer p.running.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	s, info, err := p.dial(ctx, addr, laneCall, to)
	if err != nil {
		return PeerInfo{}, nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, addr, reason(err))
	}
	c := newOutConn(s, info)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.run(func() {}) // the call below learns of it
	}()
	out, err := c.ask(ctx, name, body)
	c.fail(ErrClosed)
	<-ended
	return info, out, err
}

func fits(name string, body []byte) error {
	if len(body) > MaxCall || len(name) > maxName {
		return fmt.Errorf("%w: call %.40q of %d bytes: %w", ErrUnreachable, name, len(body), ErrTooLarge)
	}
	return nil
}

// ask makes a call over a connection.
func (c *outConn) ask(ctx context.Context, name string, body []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	wait := uint64(0) // as long as the other side likes
	if deadline, ok := ctx.Deadline(); ok {
		wait = uint64(max(time.Until(deadline).Milliseconds(), 1))
	}
	got := make(chan reply, 1)
	w := &pending{id: c.ids.Add(1), done: func(a answer, err error) { got <- reply{a, err} }}
	// The body is copied: the caller may use it again when its context ends, while it is still being sent.
	if err := c.send(w, encodeCall(w.id, wait, name, bytes.Clone(body))); err != nil {
		return nil, err
	}
	select {
	case r := <-got:
		if errors.Is(r.err, ErrUnreachable) && w.written.Load() {
			return nil, fmt.Errorf("%w: %w", ErrUnanswered, c.err())
		}
		return r.answer.body, r.err
	case <-ctx.Done():
		c.forget(w.id)
		_ = c.push(simple(kindCancel, w.id)) // best effort; the connection's end cancels too
		return nil, fmt.Errorf("%w: %s to node %d: %w", ErrUnanswered, name, c.info.Node, context.Cause(ctx))
	}
}

// execute runs a handler.
func (p *Peers) execute(ctx context.Context, from PeerInfo, name string, body []byte) ([]byte, error) {
	h := p.handlers[name]
	if h == nil {
		return nil, &RemoteError{Code: CodeUnknownCall, Text: fmt.Sprintf("node %d does not know the call %q", p.o.Node, name)}
	}
	out, err := h(ctx, from, body)
	if err == nil && len(out) > MaxCall {
		return nil, &RemoteError{Code: CodeTooLarge, Text: fmt.Sprintf("the answer to %q has %d bytes", name, len(out))}
	}
	return out, err
}

// remote is an error as it arrives at the caller.
func remote(err error) *RemoteError {
	var r *RemoteError
	if errors.As(err, &r) {
		return &RemoteError{Code: r.Code, Text: clip(r.Text)}
	}
	return &RemoteError{Text: clip(err.Error())}
}

// call serves one call of a peer on a goroutine of its own.
func (c *inConn) call(message []byte) error {
	p := parser{b: message[1:]}
	id, wait, name := p.num(), p.num(), p.text(maxName)
	body := bytes.Clone(p.rest())
	if err := p.end(kindCall); err != nil {
		return err
	}
	if c.restricted() && !strings.HasPrefix(name, JoinPrefix) {
		return c.push(encodeCallError(id, CodeNotMember, "one of the two nodes belongs to no cluster yet"))
	}
	patience := maxCallTime
	if wait > 0 && wait < uint64(patience.Milliseconds()) {
		patience = time.Duration(wait) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	c.calls.Lock()
	_, twice := c.calls.cancel[id]
	full := len(c.calls.cancel) >= maxCalls
	if !twice && !full {
		c.calls.cancel[id] = cancel
	}
	c.calls.Unlock()
	if twice || full {
		cancel()
		if twice {
			return fmt.Errorf("%w: call %d twice", errFrame, id)
		}
		return c.push(encodeCallError(id, CodeBusy, fmt.Sprintf("node %d answers %d calls of node %d already", c.p.o.Node, maxCalls, c.info.Node)))
	}
	c.working.Go(func() {
		defer cancel()
		out, err := c.p.execute(ctx, c.info, name, body)
		c.calls.Lock()
		delete(c.calls.cancel, id)
		c.calls.Unlock()
		if c.ctx.Err() != nil {
			return // what the handler says about its context is no answer to the call
		}
		f := encodeCallAnswer(id, out)
		if err != nil {
			r := remote(err)
			f = encodeCallError(id, r.Code, r.Text)
		}
		_ = c.push(f) // if it fails the connection has ended
	})
	return nil
}

// restricted tells that only calls of joining are served: one side belongs to no cluster.
func (c *inConn) restricted() bool { return c.info.Cluster == "" || c.p.o.Cluster() == "" }

// cancelCall ends a call whose caller waits no longer.
func (c *inConn) cancelCall(message []byte) error {
	p := parser{b: message[1:]}
	id := p.num()
	c.calls.Lock()
	if cancel := c.calls.cancel[id]; cancel != nil {
		cancel()
	}
	c.calls.Unlock()
	return p.end(kindCancel)
}

package conn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quorlog/quorlog/internal/trace"
	"github.com/quorlog/quorlog/kafkaproto"
)

// readBuffer is what each connection holds for reading. Most requests fit and take one system call; large ones are read
// around it, into their own buffer.
const readBuffer = 512

// connection is a connection being served.
type connection struct {
	server  *Server
	session *Session
	phase   func(*Session) Phase
	net     net.Conn
	in      *bufio.Reader // the reader's
	queue   queue
	out     output // the writer's

	ctx    context.Context // ends when no answer can be delivered any more
	cancel context.CancelFunc

	draining atomic.Bool  // Shutdown: read no further frame
	answered atomic.Int64 // when the last request was finished, in Unix nanoseconds
	fresh    bool         // nothing has been read yet; the reader's
	arrival  arrival      // see requestMemory
	opened   time.Time
}

func newConnection(s *Server, l Listener, nc net.Conn) *connection {
	c := &connection{
		server: s,
		phase:  l.Phase,
		net:    nc,
		in:     bufio.NewReaderSize(nc, readBuffer),
		fresh:  true,
		opened: time.Now(),
	}
	c.session = NewSession(SessionInfo{
		ID:       s.nextID.Add(1),
		Listener: l.Name,
		Local:    addrPort(nc.LocalAddr()),
		Remote:   addrPort(nc.RemoteAddr()),
	})
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	c.queue.init()
	c.out.init(nc, s.limits.Write, &s.counts)
	return c
}

// Ends of a connection that are nobody's fault.
var (
	errDrained  = errors.New("the server shuts down")
	errIdle     = errors.New("idle for too long")
	errNoAnswer = errors.New("answers can't be delivered")
)

// serve reads until the stream ends, lets the writer finish what can be finished, and closes the connection.
func (c *connection) serve() {
	written := make(chan error, 1)
	go func() { written <- c.write() }()
	readErr := c.read()
	if hungUp(readErr) {
		c.cancel() // nobody waits for the answers of long polls any more
	}
	c.queue.close()
	writeErr := <-written
	c.cancel()
	if !c.slow(readErr) && !errors.Is(readErr, errDrained) && !c.server.isStopping() {
		c.out.settle() // whoever sent something wrong is told so by an orderly end
	}
	_ = c.net.Close()
	c.report(readErr, writeErr)
}

// hungUp tells whether reading ended because the peer is gone, rather than by a decision of ours.
func hungUp(err error) bool {
	return !errors.Is(err, errDrained) && !errors.Is(err, errInvalid) && !errors.Is(err, os.ErrDeadlineExceeded)
}

// slow tells whether reading ended because the peer took too long. That is no refusal, unless it was to say who it is: see abrupt.
func (c *connection) slow(readErr error) bool {
	return errors.Is(readErr, os.ErrDeadlineExceeded) && !c.late()
}

// closedHere tells whether reading ended because the writer, or Close, closed the connection.
func closedHere(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, errNoAnswer)
}

// report logs and counts the end of a connection, where it is worth a line.
func (c *connection) report(readErr, writeErr error) {
	reason := readErr
	if writeErr != nil && (!hungUp(readErr) || closedHere(readErr)) {
		reason = writeErr // else the peer was gone first, and what the writer met is a consequence
	}
	counts := &c.server.counts
	switch {
	case c.server.ctx.Err() != nil, errors.Is(reason, errDrained), errors.Is(reason, errCloseAsked):
		return
	case errors.Is(reason, errIdle):
		counts.timeouts.Add(1)
		return
	case errors.Is(reason, os.ErrDeadlineExceeded):
		counts.timeouts.Add(1)
	case errors.Is(reason, errInvalid):
		counts.invalid.Add(1)
	case errors.Is(reason, io.EOF), errors.Is(reason, io.ErrUnexpectedEOF), errors.Is(reason, syscall.ECONNRESET),
		errors.Is(reason, syscall.EPIPE), closedHere(reason):
		return
	}
	c.server.log.warn("connection closed", "reason", reason, "remote", c.session.Remote(), "listener", c.session.Listener())
}

// stopReading makes the reader end before the next frame.
func (c *connection) stopReading() {
	c.draining.Store(true)
	_ = c.net.SetReadDeadline(time.Unix(1, 0)) // wakes the reader; fails only if the connection is closed
}

// dispatch starts a request. A panic while its bytes are decoded costs this connection only.
func (c *connection) dispatch(r *request) {
	c.trace(r)
	defer func() {
		if p := recover(); p != nil {
			c.server.counts.panics.Add(1)
			c.server.log.warn("a request made its handler panic", "panic", p, "key", r.header.Key, "version", r.header.Version,
				"remote", c.session.Remote(), "stack", string(debug.Stack()))
			r.call = failed{fmt.Errorf("%w: %v", errPanic, p)}
		}
	}()
	r.call = c.server.options.Dispatcher.Dispatch(r.ctx, c.session, r.header, r.body)
	if r.call == nil {
		r.call = failed{errNoCall}
	}
	r.body = nil // the call has what it needs of it
}

// trace begins the request's span, from its arrival on: the waiting for those ahead of it is a part of it.
func (c *connection) trace(r *request) {
	tracer := c.server.options.Tracer
	if tracer == nil {
		r.ctx, r.end = c.ctx, untraced
		return
	}
	r.ctx, r.end = trace.Start(trace.With(c.ctx, tracer), trace.Span{
		Name: "kafka." + r.header.Key.String(), Request: true, Began: r.arrived, Attributes: []slog.Attr{
			slog.Int("kafka.api.version", int(r.header.Version)), slog.Int("kafka.request.size", r.size), slog.String("messaging.client.id", r.header.ClientID),
			slog.String("kafka.listener", c.session.Listener()), slog.String("network.peer.address", c.session.Remote().String()),
		},
	})
}

func untraced(error) {}

var (
	errPanic  = errors.New("panic while dispatching")
	errNoCall = errors.New("the dispatcher returned no call")
)

// failed is the call of a request that could not be dispatched.
type failed struct{ err error }

// Finish returns the error.
func (f failed) Finish(context.Context) (Reply, error) { return Reply{}, f.err }

// at tells how far the connection has come.
func (c *connection) at() Phase {
	if c.phase == nil {
		return Open
	}
	return c.phase(c.session)
}

// gated tells whether the connection has yet to authenticate.
func (c *connection) gated() bool { return c.at() == Gated }

// allowedGated tells which keys a connection may send before it has authenticated.
func allowedGated(key kafkaproto.Key) bool {
	return key == kafkaproto.KeyApiVersions || key == kafkaproto.KeySASLHandshake || key == kafkaproto.KeySASLAuthenticate
}

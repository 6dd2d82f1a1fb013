package conn

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/quorlog/quorlog/kafkaproto"
)

// errInvalid is the kind of errors that the bytes of the peer cause.
var errInvalid = errors.New("invalid request")

// paceStep is how many bytes of a large frame have to arrive within Limits.Partial.
const paceStep = 1 << 20

// read reads frames and queues them until something ends it.
func (c *connection) read() error {
	for {
		frame, counted, err := c.frame()
		if err != nil {
			if c.draining.Load() {
				return errDrained
			}
			return err
		}
		r, err := c.request(frame)
		if err != nil {
			c.giveBack(len(frame), counted)
			return fmt.Errorf("%w: %w", errInvalid, err)
		}
		r.counted = counted
		if c.queue.startable(r.overlaps) {
			c.dispatch(r)
			r.started = true
		}
		c.queue.add(r)
	}
}

// request parses a frame's header and checks whether it may be sent now.
func (c *connection) request(frame []byte) (*request, error) {
	h, body, err := kafkaproto.ParseHeader(frame)
	if err != nil {
		return nil, err
	}
	if !allowedGated(h.Key) && c.at() != Open {
		return nil, fmt.Errorf("%s before authentication", h.Key)
	}
	c.server.counts.requests[h.Key].Add(1)
	return &request{
		header:   h,
		body:     body,
		arrived:  time.Now(),
		size:     len(frame),
		overlaps: c.server.options.Dispatcher.Overlaps(h.Key),
	}, nil
}

// frame reads the next frame. counted tells that its memory was taken from the server's and has to be given back.
func (c *connection) frame() (frame []byte, counted bool, err error) {
	if err := c.awaitFrame(); err != nil {
		return nil, false, err
	}
	limits := &c.server.limits
	// The length comes at once with the first byte, or the peer is slow.
	if c.in.Buffered() < 4 {
		if err := c.deadline(c.partial()); err != nil {
			return nil, false, err
		}
	}
	prefix, err := c.in.Peek(4)
	if err != nil {
		return nil, false, err
	}
	most := limits.MaxFrame
	// What a client may send next, the answer before it decides.
	if c.at() != Open && !c.queue.waitRoom(0, 1, 0) {
		return nil, false, errNoAnswer
	}
	if c.at() != Open {
		most = limits.MaxGatedFrame
	}
	n, err := kafkaproto.FrameLength([4]byte(prefix), most)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", errInvalid, err)
	}
	if _, err := c.in.Discard(4); err != nil {
		return nil, false, err
	}
	if !c.queue.waitRoom(n, limits.MaxInFlight, limits.MaxInFlightBytes) {
		return nil, false, errNoAnswer
	}
	frame, counted, err = c.body(n)
	if err != nil {
		c.giveBack(n, counted)
		return nil, false, err
	}
	c.server.counts.bytesIn.Add(int64(n) + 4)
	return frame, counted, nil
}

// body reads the n bytes of a frame. The memory of frames up to 64 KiB is taken before they are read, that of larger ones
// when their first 64 KiB have come: so no frame waits for memory while it holds some.
func (c *connection) body(n int) (frame []byte, counted bool, err error) {
	const first = 64 << 10
	take := func(n int) error {
		if err := c.server.memory.take(c, int64(n)); err != nil {
			return errNoAnswer
		}
		counted = true
		return c.deadline(c.partial())
	}
	defer func() {
		if counted {
			c.server.memory.arrived(c)
		}
	}()
	if n > exemptFrame && n <= first {
		err = take(n)
	} else if c.in.Buffered() < n {
		err = c.deadline(c.partial())
	}
	if err != nil {
		return nil, counted, err
	}
	frame, err = kafkaproto.ReadBody(&pacedReader{c: c, left: first}, n, take)
	switch {
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	case err != nil && c.arrival.evicted.Load():
		err = fmt.Errorf("a request came slowly while memory is short: %w", os.ErrDeadlineExceeded)
	}
	return frame, counted, err
}

// giveBack returns the memory of a request.
func (c *connection) giveBack(size int, counted bool) {
	if counted {
		c.server.memory.give(int64(size))
	}
}

// awaitFrame waits for the first byte of the next frame.
func (c *connection) awaitFrame() error {
	for {
		if err := c.deadline(c.patience()); err != nil {
			return err
		}
		_, err := c.in.Peek(1)
		switch {
		case c.late():
			return fmt.Errorf("not authenticated in time: %w", os.ErrDeadlineExceeded)
		case err == nil:
			c.fresh = false
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case c.fresh:
			return fmt.Errorf("no first byte: %w", err)
		case c.queue.empty() && c.idleFor() >= c.server.limits.Idle:
			return fmt.Errorf("%w: %w", errIdle, err)
		}
	}
}

// late tells whether the connection should have authenticated by now.
func (c *connection) late() bool {
	return c.gated() && time.Since(c.opened) >= c.server.limits.Authenticate
}

// patience returns how long to wait for the next frame.
func (c *connection) patience() time.Duration {
	limits := &c.server.limits
	d := limits.Idle
	if c.answered.Load() != 0 && c.queue.empty() {
		d -= c.idleFor()
	}
	if c.fresh {
		d = min(d, limits.FirstByte)
	}
	return c.inTime(d)
}

// partial returns how long to wait for the next step of a frame that has begun.
func (c *connection) partial() time.Duration { return c.inTime(c.server.limits.Partial) }

// inTime is d, or what a connection that has to authenticate has left for that.
func (c *connection) inTime(d time.Duration) time.Duration {
	if c.gated() {
		d = min(d, c.server.limits.Authenticate-time.Since(c.opened))
	}
	return max(d, time.Millisecond)
}

// idleFor returns the time since the last answer.
func (c *connection) idleFor() time.Duration {
	last := c.answered.Load()
	if last == 0 {
		return c.server.limits.Idle
	}
	return time.Duration(time.Now().UnixNano() - last)
}

// deadline gives the peer time to send. Shutdown and evictSlow set their own deadline after their flag, so that either the
// flag is seen here or their deadline holds.
func (c *connection) deadline(d time.Duration) error {
	if err := c.net.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	if c.draining.Load() {
		return errDrained
	}
	if c.arrival.evicted.Load() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// pacedReader reads a frame and sets a new deadline for each step of it.
type pacedReader struct {
	c    *connection
	left int // bytes until the next deadline
}

// Read reads from the connection.
func (p *pacedReader) Read(b []byte) (int, error) {
	if p.left <= 0 {
		if err := p.c.deadline(p.c.partial()); err != nil {
			return 0, err
		}
		p.left = paceStep
	}
	n, err := p.c.in.Read(b[:min(len(b), p.left)])
	p.left -= n
	p.c.arrival.bytes.Add(int64(n))
	return n, err
}

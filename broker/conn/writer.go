package conn

import (
	"errors"
	"fmt"
	"time"
)

// errCloseAsked means that a handler wanted the connection to end.
var errCloseAsked = errors.New("closed after the answer")

// write answers requests until there will be no more, or until an answer can't be given.
func (c *connection) write() error {
	err := c.answerAll()
	if err == nil {
		return nil
	}
	c.cancel()
	c.queue.fail()
	_ = c.net.Close() // wakes the reader
	c.abandon()
	return err
}

func (c *connection) answerAll() error {
	for {
		r := c.queue.head(false)
		if r == nil {
			if err := c.out.flush(); err != nil {
				return err
			}
			if r = c.queue.head(true); r == nil {
				return nil
			}
		}
		c.startWaiting()
		if c.out.buffered() > 0 && !ready(r.call) {
			if err := c.out.flush(); err != nil {
				return err
			}
		}
		if err := c.answer(r); err != nil {
			_ = c.out.flush() // the answers before it are the client's; err is the reason either way
			if errors.Is(err, errCloseAsked) {
				c.out.settle() // the last answer tells why the connection ends: a reset could overtake it
			}
			return err
		}
	}
}

// startWaiting starts the requests that may be started now.
func (c *connection) startWaiting() {
	for r := c.queue.next(); r != nil; r = c.queue.next() {
		c.dispatch(r)
		c.queue.started(r)
	}
}

// answer finishes the request at the head of the queue.
func (c *connection) answer(r *request) error {
	reply, err := r.call.Finish(r.ctx)
	r.end(err)
	c.queue.pop()
	c.giveBack(r.size, r.counted)
	now := time.Now()
	c.answered.Store(now.UnixNano())
	c.server.counts.took[r.header.Key].Observe(now.Sub(r.arrived))
	if err != nil {
		reply.Body.Release()
		return fmt.Errorf("%s version %d: %w", r.header.Key, r.header.Version, err)
	}
	if reply.None {
		reply.Body.Release()
	} else if err := c.out.add(r.header, reply.Body); err != nil {
		return err
	}
	if reply.Close {
		return errCloseAsked
	}
	return nil
}

// abandon finishes the started requests of a connection that has failed, so that none of their resources leak, and forgets
// the others. The reader adds requests until it notices.
func (c *connection) abandon() {
	for r := c.queue.head(true); r != nil; r = c.queue.head(true) {
		if r.started {
			reply, err := r.call.Finish(r.ctx)
			r.end(err)
			if err == nil {
				reply.Body.Release()
			}
		}
		c.queue.pop()
		c.giveBack(r.size, r.counted)
	}
}

// ready tells whether a call's answer is there.
func ready(call Call) bool {
	r, ok := call.(Readier)
	return ok && r.Ready()
}

package partition

import "sync"

// changes passes changes of leadership on, in order, on a goroutine of its own: they are made on Raft's, which must not wait.
type changes struct {
	deliver func(LeaderChange)
	ended   chan struct{}
	wake    chan struct{} // room for one
	mu      struct {
		sync.Mutex
		waiting []LeaderChange
		stopped bool
	}
}

func (c *changes) start(deliver func(LeaderChange)) {
	c.deliver = deliver
	c.wake, c.ended = make(chan struct{}, 1), make(chan struct{})
	go c.run()
}

// add queues a change. The queue is bounded by what can happen: each partition changes at most a few times a second.
func (c *changes) add(change LeaderChange) {
	if c.deliver == nil {
		return
	}
	c.mu.Lock()
	c.mu.waiting = append(c.mu.waiting, change)
	c.mu.Unlock()
	c.poke()
}

func (c *changes) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *changes) run() {
	defer close(c.ended)
	for range c.wake {
		c.mu.Lock()
		waiting, stopped := c.mu.waiting, c.mu.stopped
		c.mu.waiting = nil
		c.mu.Unlock()
		for _, change := range waiting {
			c.deliver(change)
		}
		if stopped {
			return
		}
	}
}

// stop delivers what waits and ends.
func (c *changes) stop() {
	c.mu.Lock()
	c.mu.stopped = true
	c.mu.Unlock()
	c.poke()
	<-c.ended
}

package conn

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// largeFrame is the size in bytes above which a request is large. Producers send one MiB by default, and a little more.
	largeFrame = 2 << 20
	// shortageTick is how often somebody who waits for memory has the slow ones looked for.
	shortageTick = time.Second
	// slowGrace and leastRate tell who is slow: a request that has had memory for that long and came with fewer bytes in a
	// second. A line of 1 Mbit/s is fast enough.
	slowGrace = 3 * time.Second
	leastRate = 128 << 10
)

// requestMemory bounds what the requests of all connections hold, in bytes, from before they are read until they are
// answered.
//
// A request holds all of its memory from the beginning, or requests that wait for each other's memory could all be stuck
// in the middle. So a few peers could take everything by announcing large requests that they never send. Two rules keep
// the others going. Large requests have half of the memory, and wait in a queue of their own. And while anybody waits,
// connections whose requests arrive too slowly are closed.
type requestMemory struct {
	all   *semaphore.Weighted
	large *semaphore.Weighted // taken before all
	limit int64
	held  atomic.Int64 // of all
	waits atomic.Int64 // requests that had to wait, so far

	mu struct {
		sync.Mutex
		arriving map[*connection]struct{} // hold memory for a request that is not there yet
		waiting  int
		enough   chan struct{} // closed when nobody waits any more; nil while nobody does
	}
}

// arrival is what requestMemory knows of a connection whose request is coming.
type arrival struct {
	since   time.Time
	bytes   atomic.Int64
	evicted atomic.Bool
}

func newRequestMemory(total, maxFrame int64) *requestMemory {
	m := &requestMemory{all: semaphore.NewWeighted(total), large: semaphore.NewWeighted(max(total/2, maxFrame)), limit: total}
	m.mu.arriving = make(map[*connection]struct{})
	return m
}

// take waits for the memory of a request of n bytes. arrived must be called once these are read, or will not be, and give
// when the request is answered.
func (m *requestMemory) take(c *connection, n int64) error {
	if n > largeFrame {
		if err := m.wait(c.ctx, m.large, n); err != nil {
			return err
		}
	}
	if err := m.wait(c.ctx, m.all, n); err != nil {
		if n > largeFrame {
			m.large.Release(n)
		}
		return err
	}
	m.held.Add(n)
	c.arrival.since = time.Now()
	c.arrival.bytes.Store(0)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.arriving[c] = struct{}{}
	return nil
}

// arrived says that no more bytes of a connection's request are awaited.
func (m *requestMemory) arrived(c *connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.arriving, c)
	c.arrival.evicted.Store(false)
}

// give returns the memory of a request.
func (m *requestMemory) give(n int64) {
	m.held.Add(-n)
	m.all.Release(n)
	if n > largeFrame {
		m.large.Release(n)
	}
}

// wait takes from one of the semaphores, and has the slow ones looked for if there is not enough.
func (m *requestMemory) wait(ctx context.Context, s *semaphore.Weighted, n int64) error {
	if s.TryAcquire(n) {
		return nil
	}
	m.waits.Add(1)
	m.shortage(1)
	defer m.shortage(-1)
	return s.Acquire(ctx, n)
}

// shortage counts those who wait. The first starts relieve, the last stops it.
func (m *requestMemory) shortage(more int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.waiting += more
	switch {
	case m.mu.waiting == 0:
		close(m.mu.enough)
		m.mu.enough = nil
	case m.mu.enough == nil:
		m.mu.enough = make(chan struct{})
		go m.relieve(m.mu.enough)
	}
}

// relieve closes slow connections until nobody waits.
func (m *requestMemory) relieve(enough <-chan struct{}) {
	tick := time.NewTicker(shortageTick)
	defer tick.Stop()
	for {
		select {
		case <-enough:
			return
		case now := <-tick.C:
			m.evictSlow(now)
		}
	}
}

// evictSlow wakes the readers of slow requests, which then fail.
func (m *requestMemory) evictSlow(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.mu.arriving {
		age := now.Sub(c.arrival.since)
		if age >= slowGrace && float64(c.arrival.bytes.Load()) < leastRate*age.Seconds() {
			c.arrival.evicted.Store(true)
			_ = c.net.SetReadDeadline(time.Unix(1, 0)) // fails only if the connection is closed
		}
	}
}

package conn

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// announce begins a frame of size bytes and sends the first part of it.
func (c *client) announce(size, part int) {
	c.t.Helper()
	whole := frame(produce, 1, strings.Repeat("x", size-4-8-4))
	c.raw(whole[:part])
}

// Requests that are announced large and come slowly, or not at all, hold memory only while nobody else wants it.
func TestSlowRequestsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onPipe(t, dispatcher(echo), Options{Limits: Limits{MaxFrame: 8 << 20, MaxRequestMemory: 8 << 20}})
		defer h.Close()
		var stalled []*client
		for range 20 { // one of them has the memory, the others wait for it
			c := h.dial(t)
			c.announce(7<<20, 70<<10)
			stalled = append(stalled, c)
		}
		synctest.Wait()
		honest := h.dial(t)
		body := strings.Repeat("y", 2<<20-100)
		start := time.Now()
		honest.send(produce, 7, body)
		honest.expect(7, body)
		if took := time.Since(start); took > 2*(slowGrace+shortageTick) {
			t.Errorf("an honest request took %v", took)
		}
		for _, c := range stalled {
			c.expectClosed()
		}
		synctest.Wait()
		if !h.memory.all.TryAcquire(8<<20) || !h.memory.large.TryAcquire(8<<20) {
			t.Error("memory has leaked")
		}
		if got := h.Stats(); got.Memory != 0 || got.MemoryLimit != 8<<20 || got.MemoryWaits < 1 {
			t.Errorf("memory %d of %d, %d waits", got.Memory, got.MemoryLimit, got.MemoryWaits)
		}
		if !strings.Contains(h.log.String(), "memory is short") {
			t.Errorf("log: %s", h.log)
		}
	})
}

// A request that comes at a decent rate is left alone, however long it takes and whoever waits.
func TestSteadyRequestsKeepTheirMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onPipe(t, dispatcher(echo), Options{Limits: Limits{MaxFrame: 8 << 20, MaxRequestMemory: 8 << 20}})
		defer h.Close()
		steady, other := h.dial(t), h.dial(t)
		body := strings.Repeat("x", 7<<20)
		whole := frame(produce, 1, body)
		go func() {
			const each = 2 * leastRate
			rest := whole
			for ; len(rest) > each; rest = rest[each:] {
				if _, err := steady.Write(rest[:each]); err != nil {
					return // receive below tells
				}
				<-time.After(time.Second)
			}
			_, _ = steady.Write(rest)
		}()
		<-time.After(time.Second)
		go func() { _, _ = other.Write(frame(produce, 2, body)) }()
		steady.expect(1, body)
		other.expect(2, body)
	})
}

// Large requests never have all of the memory: others pass them while they wait for their answers and for each other.
func TestLargeRequestsLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		h := onPipe(t, dispatcher(s.dispatch), Options{Limits: Limits{MaxFrame: 8 << 20, MaxRequestMemory: 32 << 20}})
		defer h.Close()
		large := strings.Repeat("x", 7<<20)
		for i := range int32(4) {
			go h.dial(t).send(produce, i, large)
			synctest.Wait()
		}
		honest := h.dial(t)
		honest.send(produce, 9, strings.Repeat("y", 1<<20))
		s.expectStarted(t, 0, 1, 9)
		s.answer(9)
		honest.expect(9, "answer 9")
		s.answer(0)
		s.expectStarted(t, 0, 1, 9, 2)
		s.answer(1)
		s.expectStarted(t, 0, 1, 9, 2, 3)
		s.answer(2)
		s.answer(3)
	})
}

// A connection whose request was complete in time is not closed for what it was late with before.
func TestEvictionIsForgotten(t *testing.T) {
	m := newRequestMemory(1<<20, 1<<20)
	c := &connection{}
	c.arrival.since = time.Now().Add(-time.Hour)
	m.mu.arriving[c] = struct{}{}
	c.arrival.evicted.Store(true)
	m.arrived(c)
	if c.arrival.evicted.Load() || len(m.mu.arriving) > 0 {
		t.Error("still marked")
	}
}

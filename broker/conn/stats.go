package conn

import (
	"sync/atomic"

	"github.com/quorlog/quorlog/internal/latency"
	"github.com/quorlog/quorlog/kafkaproto"
)

// keys is how many keys are counted one by one.
const keys = int(kafkaproto.KeyUnregisterController) + 1

// counters count what the server does.
type counters struct {
	accepted, refused, closed atomic.Int64
	requests                  [keys]atomic.Int64
	took                      [keys]latency.Histogram
	bytesIn, bytesOut         atomic.Int64
	bytesSendfile             atomic.Int64
	invalid, timeouts, panics atomic.Int64
}

// Stats are counts since the server began, but for Connections.
type Stats struct {
	Connections   int64                    // now open
	Listeners     map[string]int64         // the same, by listener
	Accepted      int64                    // connections
	Refused       int64                    // connections above a limit
	Requests      map[kafkaproto.Key]int64 // read
	BytesIn       int64                    // of frames, with their lengths
	BytesOut      int64                    // of answers, with their lengths
	BytesSendfile int64                    // those of BytesOut that went from file to socket
	Invalid       int64                    // connections closed because of what they sent
	Timeouts      int64                    // connections closed by a deadline
	Panics        int64                    // connections closed by a panic while dispatching
	Memory        int64                    // bytes of requests under way, of those that count (Limits.MaxRequestMemory)
	MemoryLimit   int64
	MemoryWaits   int64 // requests that had to wait for memory
	// Took tells for each key how long it took from the request's arrival until its answer could be written: with the waiting
	// for requests ahead of it, and of long polls.
	Took map[kafkaproto.Key]latency.Snapshot
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	c := &s.counts
	out := Stats{
		Accepted:      c.accepted.Load(),
		Refused:       c.refused.Load(),
		Requests:      make(map[kafkaproto.Key]int64),
		BytesIn:       c.bytesIn.Load(),
		BytesOut:      c.bytesOut.Load(),
		BytesSendfile: c.bytesSendfile.Load(),
		Invalid:       c.invalid.Load(),
		Timeouts:      c.timeouts.Load(),
		Panics:        c.panics.Load(),
		Took:          make(map[kafkaproto.Key]latency.Snapshot),
		Listeners:     s.byListener(),
		Memory:        s.memory.held.Load(),
		MemoryLimit:   s.memory.limit,
		MemoryWaits:   s.memory.waits.Load(),
	}
	out.Connections = max(0, out.Accepted-c.closed.Load())
	for k := range c.requests {
		if n := c.requests[k].Load(); n > 0 {
			out.Requests[kafkaproto.Key(k)] = n
			out.Took[kafkaproto.Key(k)] = c.took[k].Snapshot()
		}
	}
	return out
}

// byListener counts the open connections of each listener that is served; one without any is there with 0.
func (s *Server) byListener() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]int64)
	for _, name := range s.mu.listeners {
		out[name] = 0
	}
	for c := range s.mu.connections {
		out[c.session.Listener()]++
	}
	return out
}

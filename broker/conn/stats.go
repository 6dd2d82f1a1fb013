package conn

import (
	"sync/atomic"

	"github.com/quorlog/quorlog/kafkaproto"
)

// keys is how many keys are counted one by one.
const keys = int(kafkaproto.KeyUnregisterController) + 1

// counters count what the server does.
type counters struct {
	accepted, refused, closed atomic.Int64
	requests                  [keys]atomic.Int64
	bytesIn, bytesOut         atomic.Int64
	bytesSendfile             atomic.Int64
	invalid, timeouts, panics atomic.Int64
}

// Stats are counts since the server began, but for Connections.
type Stats struct {
	Connections   int64                    // now open
	Accepted      int64                    // connections
	Refused       int64                    // connections above a limit
	Requests      map[kafkaproto.Key]int64 // read
	BytesIn       int64                    // of frames, with their lengths
	BytesOut      int64                    // of answers, with their lengths
	BytesSendfile int64                    // those of BytesOut that went from file to socket
	Invalid       int64                    // connections closed because of what they sent
	Timeouts      int64                    // connections closed by a deadline
	Panics        int64                    // connections closed by a panic while dispatching
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
	}
	out.Connections = max(0, out.Accepted-c.closed.Load())
	for k := range c.requests {
		if n := c.requests[k].Load(); n > 0 {
			out.Requests[kafkaproto.Key(k)] = n
		}
	}
	return out
}

package grpcapi

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// conns bounds the open connections. When there are as many as may be, the one goes whose last call is the longest ago: silent
// connections keep nobody out. Only while all of them have calls under way, the new one is closed.
type conns struct {
	most int
	mu   struct {
		sync.Mutex
		open map[*counted]struct{}
	}
}

// counted is a connection that counts, and counts its calls.
type counted struct {
	net.Conn
	of       *conns // nil: it does not count
	identify Identify
	trusted  bool // the gateway's: its calls say themselves who makes them
	calls    atomic.Int64
	// producing counts the ProduceStreams among the calls.
	producing atomic.Int64
	idle      atomic.Int64    // since when it has no calls, as Unix time in ns
	ctx       context.Context // ends when it is closed
	end       context.CancelFunc
}

func newCounted(nc net.Conn) *counted {
	c := &counted{Conn: nc}
	c.ctx, c.end = context.WithCancel(context.Background())
	c.idle.Store(time.Now().UnixNano())
	return c
}

// listener is a listener whose connections count.
func (s *conns) listener(l net.Listener, identify Identify) net.Listener {
	return &countedListener{l, s, identify}
}

type countedListener struct {
	net.Listener
	of       *conns
	identify Identify
}

// Accept waits for a connection; those that there is no room for are closed.
func (l *countedListener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := newCounted(nc)
		c.of, c.identify = l.of, l.identify
		over, ok := l.of.enter(c)
		if over != nil {
			_ = over.Close() // there is nobody to tell
		}
		if ok {
			return c, nil
		}
		_ = nc.Close() // as above
	}
}

// enter counts a connection in if it can, and returns the one that has to go for it, if one has to.
func (s *conns) enter(c *counted) (over *counted, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.open) >= s.most {
		for o := range s.mu.open {
			if o.calls.Load() == 0 && (over == nil || o.idle.Load() < over.idle.Load()) {
				over = o
			}
		}
		if over == nil {
			return nil, false
		}
		delete(s.mu.open, over)
	}
	if s.mu.open == nil {
		s.mu.open = map[*counted]struct{}{}
	}
	s.mu.open[c] = struct{}{}
	return over, true
}

// begins counts a call in.
func (c *counted) begins() { c.calls.Add(1) }

// ended counts a call out.
func (c *counted) ended() {
	c.idle.Store(time.Now().UnixNano())
	c.calls.Add(-1)
}

// Close closes the connection.
func (c *counted) Close() error {
	c.end()
	if c.of != nil {
		c.of.mu.Lock()
		delete(c.of.mu.open, c)
		c.of.mu.Unlock()
	}
	return c.Conn.Close()
}

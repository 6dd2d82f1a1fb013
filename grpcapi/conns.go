package grpcapi

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// conns bounds the open connections, and those of one address. When there are as many as may be, the one goes whose last call is the
// longest ago: silent connections keep nobody out. Only while all of them have calls under way, the new one is closed. An address
// that has all that it may have loses one of its own.
type conns struct {
	most      int
	mostPerIP int // 0: as many as there may be
	mu        struct {
		sync.Mutex
		open map[*counted]struct{}
		from map[netip.Addr]*address // of open
	}
}

// address is where connections come from.
type address struct {
	conns int          // guarded by conns.mu
	calls atomic.Int64 // under way on them
}

// counted is a connection that counts, and counts its calls.
type counted struct {
	net.Conn
	of       *conns // nil: it does not count
	ip       netip.Addr
	from     *address // that of all connections of ip, once it counts
	identify Identify
	trusted  bool // the gateway's: its calls say themselves who makes them
	calls    atomic.Int64
	// producing and watching count the ProduceStreams and the Watches of the node's health among the calls.
	producing, watching atomic.Int64
	idle                atomic.Int64    // since when it has no calls, as Unix time in ns
	ctx                 context.Context // ends when it is closed
	end                 context.CancelFunc
}

func newCounted(nc net.Conn) *counted {
	c := &counted{Conn: nc, from: &address{}}
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
		c.of, c.ip, c.identify = l.of, hostOf(nc.RemoteAddr()), l.identify
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
	from := s.mu.from[c.ip]
	alone := s.mostPerIP > 0 && from != nil && from.conns >= s.mostPerIP // makes room for itself
	if alone || len(s.mu.open) >= s.most {
		for o := range s.mu.open {
			if o.calls.Load() == 0 && (!alone || o.from == from) && (over == nil || o.idle.Load() < over.idle.Load()) {
				over = o
			}
		}
		if over == nil {
			return nil, false
		}
		over.leaveLocked()
	}
	if s.mu.open == nil {
		s.mu.open, s.mu.from = map[*counted]struct{}{}, map[netip.Addr]*address{}
	}
	s.mu.open[c] = struct{}{}
	if s.mu.from[c.ip] == nil { // over may have been the last
		s.mu.from[c.ip] = c.from
	}
	c.from = s.mu.from[c.ip]
	c.from.conns++
	return over, true
}

// leaveLocked counts a connection out, once.
func (c *counted) leaveLocked() {
	if _, is := c.of.mu.open[c]; !is {
		return
	}
	delete(c.of.mu.open, c)
	if c.from.conns--; c.from.conns == 0 {
		delete(c.of.mu.from, c.ip)
	}
}

// begins counts a call in.
func (c *counted) begins() {
	c.calls.Add(1)
	c.from.calls.Add(1)
}

// ended counts a call out.
func (c *counted) ended() {
	c.idle.Store(time.Now().UnixNano())
	c.calls.Add(-1)
	c.from.calls.Add(-1)
}

// Close closes the connection.
func (c *counted) Close() error {
	c.end()
	if c.of != nil {
		c.of.mu.Lock()
		c.leaveLocked()
		c.of.mu.Unlock()
	}
	return c.Conn.Close()
}

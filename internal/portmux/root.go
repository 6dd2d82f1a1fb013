package portmux

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Waits after failures to accept, such as for want of descriptors.
const (
	backoffFirst = 5 * time.Millisecond
	backoffMost  = time.Second
)

// root is the listener that cmux sees. It never returns a temporary error, on which cmux would spin, bounds the connections that
// nobody has taken, of which cmux itself would let any number wait, and closes them when it is closed.
type root struct {
	net.Listener
	o      Options
	log    *limitedLog
	closed chan struct{}

	mu struct {
		sync.Mutex
		closed  bool
		waiting map[*arriving]struct{}
		perIP   map[netip.Addr]int // of waiting
		paces   map[netip.Addr]pace
	}
}

func newRoot(l net.Listener, o Options, log *limitedLog) *root {
	r := &root{Listener: l, o: o, log: log, closed: make(chan struct{})}
	r.mu.waiting, r.mu.perIP, r.mu.paces = make(map[*arriving]struct{}), make(map[netip.Addr]int), make(map[netip.Addr]pace)
	return r
}

// Accept waits for a connection. It fails only for good.
func (r *root) Accept() (net.Conn, error) {
	wait := time.Duration(0)
	for {
		nc, err := r.Listener.Accept()
		if err == nil {
			wait = 0
			linger(nc, 0)
			a := newArriving(nc, r)
			reason := r.track(a)
			if reason == "" {
				return a, nil
			}
			r.log.warn("connection refused", "reason", reason, "remote", nc.RemoteAddr().String())
			_ = nc.Close()
			continue
		}
		switch {
		case r.isClosed() || !temporary(err):
			return nil, permanent{err}
		default:
			wait = min(max(2*wait, backoffFirst), backoffMost)
			r.log.warn("accepting connections fails", "error", err)
			if !r.sleep(wait) {
				return nil, permanent{net.ErrClosed}
			}
		}
	}
}

// sleep waits; false if the listener was closed meanwhile.
func (r *root) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.closed:
		return false
	}
}

// track notes a connection, or returns the reason to refuse it.
func (r *root) track(a *arriving) (reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.mu.closed:
		return "the port is closed"
	case len(r.mu.waiting) >= r.o.MaxSniffing:
		return "too many connections that have sent nothing or wait to be served"
	case r.mu.perIP[a.ip] >= r.o.MaxSniffingPerIP:
		return "too many connections of this address that have sent nothing or wait to be served"
	case r.o.TLS != nil && r.o.RatePerIP > 0 && !r.paceLocked(a.ip, time.Now()):
		return "too many connections of this address in a short time"
	}
	r.mu.waiting[a] = struct{}{}
	r.mu.perIP[a.ip]++
	return ""
}

// pace is how many connections an address may make at once, as of a moment.
type pace struct {
	left float64
	at   time.Time
}

// maxPaces bounds the addresses that are remembered. When there are more, those that have been quiet are forgotten, or else all: then
// they are too many for this to help.
const maxPaces = 10_000

// paceLocked counts a connection of an address, and tells whether it may be made now.
func (r *root) paceLocked(ip netip.Addr, now time.Time) bool {
	rate, most := float64(r.o.RatePerIP), float64(max(r.o.RatePerIP, r.o.MaxSniffingPerIP))
	full := func(p pace) bool { return p.left+now.Sub(p.at).Seconds()*rate >= most }
	if len(r.mu.paces) >= maxPaces {
		maps.DeleteFunc(r.mu.paces, func(_ netip.Addr, p pace) bool { return full(p) })
		if len(r.mu.paces) >= maxPaces {
			clear(r.mu.paces)
		}
	}
	p, known := r.mu.paces[ip]
	if !known || full(p) {
		p = pace{left: most, at: now}
	}
	p.left, p.at = p.left+now.Sub(p.at).Seconds()*rate-1, now
	if p.left < 0 {
		return false // and nothing is counted: who is refused does not wait longer for that
	}
	r.mu.paces[ip] = p
	return true
}

// forget is told that a connection was taken, or is closed.
func (r *root) forget(a *arriving) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, was := r.mu.waiting[a]; !was {
		return
	}
	delete(r.mu.waiting, a)
	if r.mu.perIP[a.ip]--; r.mu.perIP[a.ip] <= 0 {
		delete(r.mu.perIP, a.ip)
	}
}

func (r *root) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.closed
}

// Close closes the listener and the connections that nobody has taken.
func (r *root) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed {
		return nil
	}
	r.mu.closed = true
	close(r.closed)
	for a := range r.mu.waiting {
		_ = a.Conn.Close() // its matcher fails, or cmux throws it away, and closes it again
	}
	return r.Listener.Close()
}

// permanent is an error that cmux ends on, whatever it wraps.
type permanent struct{ error }

// Unwrap returns what it wraps.
func (p permanent) Unwrap() error { return p.error }

func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// At most quietLines lines are logged in each quietPeriod.
const (
	quietLines  = 10
	quietPeriod = 10 * time.Second
)

// limitedLog writes a bounded number of lines: strangers must not fill the disk.
type limitedLog struct {
	logger *slog.Logger
	mu     struct {
		sync.Mutex
		since   time.Time
		lines   int
		dropped int
	}
}

func (l *limitedLog) warn(msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.mu.since) >= quietPeriod {
		l.mu.since, l.mu.lines = now, 0
	}
	if l.mu.lines++; l.mu.lines > quietLines {
		l.mu.dropped++
		return
	}
	if l.mu.dropped > 0 {
		args = append(args, "suppressed", l.mu.dropped)
		l.mu.dropped = 0
	}
	l.logger.Warn(msg, args...)
}

// linger says how a connection ends: with 0 by a reset, whoever ends it, be it the kernel because this process was killed; with -1
// in order. It begins with 0, and a Kafka connection keeps that until its first answer (package conn says why); others get -1 when
// it is known what they are.
func linger(nc net.Conn, seconds int) {
	if l, ok := nc.(interface{ SetLinger(seconds int) error }); ok {
		_ = l.SetLinger(seconds) // fails only if the connection is closed
	}
}

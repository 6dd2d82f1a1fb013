package portmux

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Waits after failures to accept, such as for want of descriptors.
const (
	backoffFirst = 5 * time.Millisecond
	backoffMost  = time.Second
)

// root is the listener that cmux sees. It never returns a temporary error, on which cmux would spin, bounds the
// connections that have sent nothing, and closes those when it is closed, for which cmux would wait.
type root struct {
	net.Listener
	most   int
	log    *limitedLog
	closed chan struct{}

	mu struct {
		sync.Mutex
		closed   bool
		sniffing map[net.Conn]struct{}
	}
}

func newRoot(l net.Listener, most int, log *limitedLog) *root {
	r := &root{Listener: l, most: most, log: log, closed: make(chan struct{})}
	r.mu.sniffing = make(map[net.Conn]struct{})
	return r
}

// Accept waits for a connection. It fails only for good.
func (r *root) Accept() (net.Conn, error) {
	wait := time.Duration(0)
	for {
		nc, err := r.Listener.Accept()
		switch {
		case err == nil && r.track(nc):
			linger(nc, 0)
			return nc, nil
		case err == nil:
			wait = 0
			r.log.warn("connection refused", "reason", "too many connections that have sent nothing", "remote", nc.RemoteAddr().String())
			_ = nc.Close()
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

// track notes a connection that has sent nothing; false if there are too many.
func (r *root) track(nc net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed || len(r.mu.sniffing) >= r.most {
		return false
	}
	r.mu.sniffing[nc] = struct{}{}
	return true
}

func (r *root) forget(nc net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.sniffing, nc)
}

func (r *root) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.closed
}

// Close closes the listener and the connections that have sent nothing.
func (r *root) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed {
		return nil
	}
	r.mu.closed = true
	close(r.closed)
	for nc := range r.mu.sniffing {
		_ = nc.Close() // its matcher fails, and cmux closes it again
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

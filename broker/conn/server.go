package conn

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/internal/trace"
)

// DefaultListener is the listener's name where none is given.
const DefaultListener = "PLAINTEXT"

// Phase is how far a connection has come.
type Phase uint8

const (
	// Open connections may send what they like.
	Open Phase = iota
	// Gated ones have to authenticate: until then only small frames of ApiVersions, SaslHandshake and SaslAuthenticate, one at
	// a time, and not for long.
	Gated
	// Expired ones have to authenticate again before they send anything else, and may take their time (KIP-368).
	Expired
)

// Options of a Server.
type Options struct {
	Dispatcher Dispatcher
	Logger     *slog.Logger
	Limits     Limits
	// Listener is the name of the listener that Serve serves; DefaultListener where it is empty.
	Listener string
	// Tracer is told of each request; nil for none.
	Tracer trace.Tracer
	// Phase tells how far a connection of that listener has come; it is asked before each frame. nil means Open.
	Phase func(*Session) Phase
}

// Listener is a listener with what makes it different from others of the same server.
type Listener struct {
	Net   net.Listener
	Name  string
	Phase func(*Session) Phase // nil means Open
	// Principal names those who show a certificate; nil where none is asked for, or where they authenticate otherwise.
	Principal PrincipalOf
}

// Server serves connections. Its limits hold for all listeners together.
type Server struct {
	options Options
	limits  Limits
	memory  *requestMemory
	log     *quietLog
	admit   admission
	counts  counters
	nextID  atomic.Uint64

	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	stopping chan struct{} // closed by Shutdown and Close
	readers  sync.WaitGroup

	mu struct {
		sync.Mutex
		stopped     bool
		listeners   map[net.Listener]string // their names
		connections map[*connection]struct{}
	}
}

// NewServer returns a server that is yet to Serve.
func NewServer(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Listener == "" {
		o.Listener = DefaultListener
	}
	limits := o.Limits.withDefaults()
	s := &Server{
		options:  o,
		limits:   limits,
		memory:   newRequestMemory(limits.MaxRequestMemory, int64(limits.MaxFrame)),
		log:      newQuietLog(o.Logger),
		stopping: make(chan struct{}),
	}
	s.admit.init(limits)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.mu.listeners = make(map[net.Listener]string)
	s.mu.connections = make(map[*connection]struct{})
	return s
}

// Serve accepts connections of a listener until that fails. It returns nil when the listener is closed, by Shutdown, Close
// or its owner.
func (s *Server) Serve(l net.Listener) error {
	return s.ServeListener(Listener{Net: l, Name: s.options.Listener, Phase: s.options.Phase})
}

// ServeListener is Serve for a listener with its own name and phases.
func (s *Server) ServeListener(l Listener) error {
	if !s.track(l) {
		return l.Net.Close()
	}
	defer s.untrack(l.Net)
	var backoff backoff
	for {
		if !s.admit.pace(s.stopping) {
			return nil
		}
		c, err := l.Net.Accept()
		if err == nil {
			backoff.reset()
			s.accept(l, c)
			continue
		}
		if s.isStopping() || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if !temporary(err) {
			return err
		}
		s.log.warn("accepting connections fails", "listener", l.Name, "error", err)
		if !backoff.wait(s.stopping) {
			return nil
		}
	}
}

// temporary tells whether accepting may succeed later, as when descriptors have run out.
func temporary(err error) bool {
	var ne interface{ Temporary() bool }
	return errors.As(err, &ne) && ne.Temporary()
}

// track notes a listener so that it gets closed; false if the server has stopped.
func (s *Server) track(l Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.stopped {
		return false
	}
	s.mu.listeners[l.Net] = l.Name
	return true
}

func (s *Server) untrack(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.listeners, l)
}

// accept starts to serve a connection, or refuses it.
func (s *Server) accept(l Listener, nc net.Conn) {
	remote := addrPort(nc.RemoteAddr())
	if reason := s.admit.enter(remote.Addr()); reason != "" {
		s.counts.refused.Add(1)
		s.log.warn("connection refused", "reason", reason, "remote", remote, "listener", l.Name)
		_ = nc.Close()
		return
	}
	c := newConnection(s, l, nc)
	if err := l.identify(c.session, nc); err != nil {
		s.counts.refused.Add(1)
		s.log.warn("connection refused", "reason", err, "remote", remote, "listener", l.Name)
		s.admit.leave(remote.Addr())
		c.cancel()
		_ = nc.Close()
		return
	}
	s.mu.Lock()
	stopped := s.mu.stopped
	if !stopped {
		s.mu.connections[c] = struct{}{}
		s.readers.Add(1)
	}
	s.mu.Unlock()
	if stopped {
		s.admit.leave(remote.Addr())
		c.cancel()
		_ = nc.Close()
		return
	}
	s.counts.accepted.Add(1)
	go func() {
		defer s.readers.Done()
		c.serve()
		s.forget(c)
	}()
}

func (s *Server) forget(c *connection) {
	s.admit.leave(c.session.Remote().Addr())
	s.counts.closed.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.connections, c)
}

func (s *Server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// stop closes the listeners, refuses new connections and returns those that there are.
func (s *Server) stop() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.stopped {
		s.mu.stopped = true
		close(s.stopping)
	}
	for l := range s.mu.listeners {
		_ = l.Close() // Serve returns; there is no one to tell
	}
	all := make([]*connection, 0, len(s.mu.connections))
	for c := range s.mu.connections {
		all = append(all, c)
	}
	return all
}

// Shutdown accepts and reads nothing more, answers the requests that have been read, and closes the connections. When ctx
// ends it closes what is left, and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.stop() {
		c.stopReading()
	}
	done := make(chan struct{})
	go func() {
		s.readers.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
		err := ctx.Err()
		s.Close()
		return err
	}
}

// Close closes all connections at once and returns when their goroutines have ended.
func (s *Server) Close() {
	all := s.stop()
	s.cancel()
	var closing sync.WaitGroup
	for _, c := range all {
		closing.Go(func() { _ = c.net.Close() }) // at once: TLS says goodbye, for which one that reads nothing takes seconds
	}
	closing.Wait()
	s.readers.Wait()
}

// backoff waits longer after each failure in a row.
type backoff struct{ next time.Duration }

const (
	backoffFirst = 5 * time.Millisecond
	backoffMost  = time.Second
)

func (b *backoff) reset() { b.next = 0 }

// wait waits; false if stop was closed meanwhile.
func (b *backoff) wait(stop <-chan struct{}) bool {
	b.next = min(max(2*b.next, backoffFirst), backoffMost)
	return sleep(b.next, stop)
}

func sleep(d time.Duration, stop <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	}
}

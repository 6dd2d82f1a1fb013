package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// writePatience is how long the other side may take none of what is sent.
	writePatience = 10 * time.Second
	// framePatience is how long a message may take to come once its head is there: 128 MiB at 5 MB/s.
	framePatience = 30 * time.Second
	// batchBytes is up to how much goes to the operating system at once.
	batchBytes = 4 << 20
	// writeBuffer is how much is gathered, in bytes, before TLS sees it: four of its records.
	writeBuffer = 64 << 10
	// batchFrames bounds the frames of one write.
	batchFrames = 512
	// maxControlQueue bounds what waits on a control connection, in bytes. A peer that takes none of it is gone.
	maxControlQueue = 64 << 20
)

// lane is what a connection is for.
type lane byte

const (
	laneControl lane = iota // heartbeats, votes, calls: nothing large may be before them
	laneBulk                // entries and snapshots
	laneCall                // one call, of a node that may not belong to the cluster yet
)

// String is the lane's name in the log.
func (l lane) String() string { return [...]string{"control", "bulk", "call"}[l] }

// quiet tells after what silence the side that dialled pings, and after what silence both give the connection up.
func (l lane) quiet() (ping, silence time.Duration) {
	if l == laneControl {
		return 500 * time.Millisecond, 3 * time.Second
	}
	return 3 * time.Second, 12 * time.Second
}

func (l lane) limit() int {
	if l == laneBulk {
		return maxBulkFrame
	}
	return maxControlFrame
}

// tcpConn is how portmux's connections give what is beneath them for writing.
type tcpConn interface{ TCP() *net.TCPConn }

// stream is one connection after the handshake: frames in both directions.
type stream struct {
	p    *Peers
	nc   net.Conn
	out  io.Writer     // the TCP connection, which takes many pieces at once, or buf
	buf  *bufio.Writer // gathers pieces for TLS, which would make a record, and a system call, of each; nil for TCP
	lane lane
	in   frameReader
	wake chan struct{} // has room for one: the queue is not empty
	done chan struct{} // closed when the connection is given up

	mu struct {
		sync.Mutex
		queue  []frame
		queued int // bytes
		err    error
	}
}

func newStream(p *Peers, nc net.Conn, r *bufio.Reader, l lane) *stream {
	s := &stream{p: p, nc: nc, lane: l, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if tcp := plainTCP(nc); tcp != nil {
		s.out = tcp
	} else {
		s.buf = bufio.NewWriterSize(nc, writeBuffer)
		s.out = s.buf
	}
	s.in = frameReader{r: r, limit: l.limit()}
	return s
}

// plainTCP is the TCP connection that a connection's bytes go to unchanged; nil if there is none.
func plainTCP(nc net.Conn) *net.TCPConn {
	switch c := nc.(type) {
	case *net.TCPConn:
		return c
	case tcpConn:
		return c.TCP()
	}
	return nil
}

// push queues a frame.
func (s *stream) push(f frame) error {
	s.mu.Lock()
	if err := s.mu.err; err != nil {
		s.mu.Unlock()
		return err
	}
	if s.lane != laneBulk && s.mu.queued+f.size > maxControlQueue {
		s.mu.Unlock()
		err := fmt.Errorf("%w: it takes nothing, and %d bytes wait", ErrUnreachable, maxControlQueue)
		s.fail(err)
		return err
	}
	s.mu.queue = append(s.mu.queue, f)
	s.mu.queued += f.size
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// fail gives the connection up. The first reason counts.
func (s *stream) fail(err error) {
	s.mu.Lock()
	if s.mu.err != nil {
		s.mu.Unlock()
		return
	}
	s.mu.err, s.mu.queue, s.mu.queued = err, nil, 0
	s.mu.Unlock()
	close(s.done)
	_ = s.nc.Close() // whatever it says, it is over
}

// err is why the connection was given up, nil while it lives.
func (s *stream) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.err
}

// take removes what is next to be written from the queue.
func (s *stream) take(into []frame) []frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for n < len(s.mu.queue) && n < batchFrames && (n == 0 || size+s.mu.queue[n].size <= batchBytes) {
		size += s.mu.queue[n].size
		if c := s.mu.queue[n].call; c != nil {
			c.written.Store(true)
		}
		n++
	}
	into = append(into, s.mu.queue[:n]...)
	left := copy(s.mu.queue, s.mu.queue[n:])
	clear(s.mu.queue[left:])
	s.mu.queue = s.mu.queue[:left]
	s.mu.queued -= size
	return into
}

// write sends what is queued until the connection is given up. The side that dialled pings, and calls sweep then and when.
func (s *stream) write(sweep func()) {
	var tick <-chan time.Time
	if sweep != nil {
		ping, _ := s.lane.quiet()
		ticker := time.NewTicker(ping)
		defer ticker.Stop()
		tick = ticker.C
	}
	var batch []frame
	var pieces net.Buffers
	var small []byte
	idle := true
	for {
		batch = s.take(batch[:0])
		if len(batch) == 0 {
			select {
			case <-s.wake:
			case <-s.done:
				return
			case <-tick:
				sweep()
				if !idle {
					idle = true
					continue
				}
				if s.push(simple(kindPing)) != nil {
					return
				}
			}
			continue
		}
		idle = false
		pieces, small = gather(batch, pieces[:0], small[:0])
		if err := s.writeAll(pieces); err != nil {
			s.fail(err)
			return
		}
		clear(pieces)
		for i := range batch {
			batch[i].release()
			batch[i] = frame{}
		}
		if cap(small) > maxPooledHead {
			small = nil
		}
	}
}

// gather lists the pieces of memory of a batch. Heads that are small are put together first: most batches are of answers of
// some bytes each, and are one piece then.
func gather(batch []frame, pieces net.Buffers, small []byte) (net.Buffers, []byte) {
	need := 0
	for i := range batch {
		if len(batch[i].head) <= copyBelow {
			need += len(batch[i].head)
		}
	}
	if cap(small) < need {
		small = make([]byte, 0, 2*need)
	}
	from := 0
	flush := func() {
		if from < len(small) {
			pieces = append(pieces, small[from:])
			from = len(small)
		}
	}
	for i := range batch {
		if len(batch[i].head) <= copyBelow {
			small = append(small, batch[i].head...) // never moves: there is room for all
		} else {
			flush()
			pieces = append(pieces, batch[i].head)
		}
		for _, t := range batch[i].tail {
			if len(t) > 0 {
				flush()
				pieces = append(pieces, t)
			}
		}
	}
	flush()
	return pieces, small
}

func (s *stream) writeAll(pieces net.Buffers) error {
	if err := s.nc.SetWriteDeadline(time.Now().Add(writePatience)); err != nil {
		return err
	}
	var n int64
	var err error
	if len(pieces) == 1 {
		var m int
		m, err = s.out.Write(pieces[0])
		n = int64(m)
	} else {
		n, err = pieces.WriteTo(s.out)
	}
	if err == nil && s.buf != nil {
		err = s.buf.Flush()
	}
	s.p.stats.sentBytes.Add(n)
	return err
}

// read hands messages to handle until the connection or handle fails. A kept message is handle's; another is valid until
// it returns.
func (s *stream) read(heard func(), handle func(message []byte) error) error {
	_, silence := s.lane.quiet()
	started := func(size int) {
		heard()
		s.p.stats.readBytes.Add(int64(size))
		if size > s.in.r.Buffered() {
			_ = s.nc.SetReadDeadline(time.Now().Add(framePatience)) // if it fails, so does the read
		}
	}
	for {
		if err := s.nc.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		message, _, err := s.in.next(started)
		if err != nil {
			return err
		}
		if err := handle(message); err != nil {
			return err
		}
	}
}

// reason tidies up why a connection ended, for the log.
func reason(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the peer closed it")
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("the peer is silent")
	}
	return err
}

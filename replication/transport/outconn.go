package transport

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// pending is a request without an answer. done is called once, on the connection's reader or on the goroutine that gives it
// up, and must not block.
type pending struct {
	id      uint64
	since   time.Time
	written atomic.Bool // it may have reached the other side
	done    func(answer, error)
}

// outConn is a connection that this node dialled: it sends requests and hears answers.
type outConn struct {
	*stream
	info PeerInfo
	ids  atomic.Uint64

	naming struct {
		sync.Mutex
		next uint64 // channel
	}

	wait struct {
		sync.Mutex
		pending map[uint64]*pending
		beats   map[uint64]*beatFrame
		err     error
	}
}

func newOutConn(s *stream, info PeerInfo) *outConn {
	c := &outConn{stream: s, info: info}
	c.wait.pending = make(map[uint64]*pending)
	c.wait.beats = make(map[uint64]*beatFrame)
	return c
}

// run serves the connection until it ends, and returns why. Everything that waits for it has failed then.
func (c *outConn) run(heard func()) error {
	var writing sync.WaitGroup
	writing.Go(func() { c.write(c.sweep) })
	err := c.read(heard, c.handle)
	c.fail(err)
	writing.Wait()
	err = c.err() // the first reason
	c.wait.Lock()
	c.wait.err = err
	pendings, beats := c.wait.pending, c.wait.beats
	c.wait.pending, c.wait.beats = nil, nil
	c.wait.Unlock()
	for _, p := range pendings {
		p.done(answer{}, fmt.Errorf("%w: %w", ErrUnreachable, reason(err)))
	}
	for _, b := range beats {
		b.fail(ErrUnreachable)
	}
	return err
}

// send registers a request and queues it. If it fails, done is never called.
func (c *outConn) send(p *pending, f frame) error {
	c.wait.Lock()
	if c.wait.err != nil {
		c.wait.Unlock()
		return fmt.Errorf("%w: %w", ErrUnreachable, c.wait.err)
	}
	p.since = time.Now()
	c.wait.pending[p.id] = p
	c.wait.Unlock()
	f.call = p
	if err := c.push(f); err != nil && c.forget(p.id) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return nil // or done was called with the connection's end
}

// forget gives up waiting for an answer; false if done was called or is about to be.
func (c *outConn) forget(id uint64) bool {
	c.wait.Lock()
	defer c.wait.Unlock()
	_, there := c.wait.pending[id]
	delete(c.wait.pending, id)
	return there
}

// sweep ends a bulk connection with a request that nobody will answer any more: the pipeline behind it would wait for ever.
func (c *outConn) sweep() {
	c.wait.Lock()
	defer c.wait.Unlock()
	for _, p := range c.wait.pending {
		if c.lane == laneBulk && time.Since(p.since) > 2*snapshotTimeout {
			go c.fail(fmt.Errorf("%w: a request was not answered", ErrUnreachable))
			return
		}
	}
}

// answered takes a request off the list; nil if nobody waits any more.
func (c *outConn) answered(id uint64) *pending {
	c.wait.Lock()
	defer c.wait.Unlock()
	p := c.wait.pending[id]
	delete(c.wait.pending, id)
	return p
}

// handle hears one answer.
func (c *outConn) handle(message []byte) error {
	p := parser{b: message}
	var id uint64
	var a answer
	var err error
	switch kind := p.byte(); kind {
	case kindPong:
		return p.end(kind)
	case kindBeatsSeen:
		return c.beatsSeen(&p)
	case kindAnswer:
		id, a.flags, a.term, a.last = p.num(), byte(p.num()), p.num(), p.num()
	case kindFailure:
		id = p.num()
		err = failure(byte(p.num()), p.text(maxText))
	case kindCallAnswer:
		id = p.num()
		a.body = append([]byte{}, p.rest()...)
	case kindCallError:
		id = p.num()
		err = &RemoteError{Code: p.text(maxName), Text: p.text(maxText)}
	default:
		return fmt.Errorf("%w: kind %d from the side that answers", errFrame, kind)
	}
	if bad := p.end(message[0]); bad != nil {
		return bad
	}
	if w := c.answered(id); w != nil {
		w.done(a, err)
	}
	return nil
}

// failure is the error of a request that could not be judged.
func failure(code byte, text string) error {
	switch code {
	case failedBusy:
		return ErrBusy
	case failedAbsent:
		return fmt.Errorf("%w: %s", ErrAbsent, text)
	}
	return fmt.Errorf("%w: %s", errPeer, text)
}

// route is the way from one replica to another, over whatever connection there is.
type route struct {
	group, from, to string
	peer            *peer

	mu struct {
		sync.Mutex
		named [2]struct { // by lane
			conn    *outConn
			channel uint64
		}
		beatTerm uint64 // of the last heartbeat that left, and when it did
		beatSent time.Time
		flow     *flow // the newest pipeline
	}
}

// standing is the pipeline of a term, nil if there is none that works.
func (r *route) standing(term uint64) *flow {
	r.mu.Lock()
	f := r.mu.flow
	r.mu.Unlock()
	if f == nil || f.term.Load() != term || f.over() {
		return nil
	}
	return f
}

// channel is the number of the route on a connection. The first time, it tells the other side.
func (r *route) channel(c *outConn) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	named := &r.mu.named[c.lane]
	if named.conn == c {
		return named.channel, nil
	}
	n, err := c.name(r)
	if err != nil {
		return 0, err
	}
	named.conn, named.channel = c, n
	return n, nil
}

// name gives a route the next channel, and tells the other side, in the order of the channels.
func (c *outConn) name(r *route) (channel uint64, err error) {
	c.naming.Lock()
	defer c.naming.Unlock()
	n := c.naming.next
	if n >= maxChannels {
		err := fmt.Errorf("%w: %d channels on one connection", ErrUnreachable, n)
		c.fail(err) // the next one begins at 0
		return 0, err
	}
	f := frame{head: appendBlob(appendBlob(appendBlob(appendNums(newHead(kindOpen), n), r.group), r.from), r.to)}
	f.seal()
	if err := c.push(f); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	c.naming.next++
	return n, nil
}

// maxChannels bounds the pairs of replicas that one connection names in its life.
const maxChannels = 1 << 20

// nodeOf reads the node of a replica's address, "node.incarnation".
func nodeOf(address string) (replication.NodeID, error) {
	node, incarnation, _ := strings.Cut(address, ".")
	n, err1 := strconv.ParseUint(node, 10, 31)
	_, err2 := strconv.ParseUint(incarnation, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return replication.NoNode, fmt.Errorf("transport: replica %q: %w", address, err)
	}
	return replication.NodeID(n), nil
}

package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/quorlog/quorlog/replication"
)

const (
	// Pauses between attempts to connect, before jitter.
	pauseFirst = 20 * time.Millisecond
	pauseMost  = time.Second
	// settled is how long a connection must live for the next attempt to come at once.
	settled = 5 * time.Second
	// forgetAfter is how long a node without an address and without a connection is remembered.
	forgetAfter = time.Minute
)

// peer is another node, as far as this one has to do with it.
type peer struct {
	p     *Peers
	node  replication.NodeID
	lanes [2]*dialer
	heard atomic.Int64        // when something last came, ns of Options.Now; 0 is never
	room  *semaphore.Weighted // bytes of entries that are on their way
	beats beats

	ctx       context.Context // ends when the node is forgotten, or p closed
	cancel    context.CancelFunc
	forgotten atomic.Bool
	seen      atomic.Bool             // was connected since its process was last found gone
	left      atomic.Pointer[outConn] // the bulk lane's when the last connection for heartbeats ended
}

func newPeer(p *Peers, node replication.NodeID) *peer {
	t := &peer{p: p, node: node, room: semaphore.NewWeighted(maxFlying)}
	t.ctx, t.cancel = context.WithCancel(p.ctx)
	t.beats.peer = t
	for l := range t.lanes {
		t.lanes[l] = &dialer{peer: t, lane: lane(l), wake: make(chan struct{}, 1), news: make(chan struct{}, 1)}
		t.lanes[l].mu.changed = make(chan struct{})
	}
	return t
}

func (t *peer) hears() { t.heard.Store(t.p.o.Now().UnixNano()) }

// reached sees to the bulk lane when there is a new connection for heartbeats. The connection that was there when the last one for heartbeats
// ended may lead to a process that is no more: as long as nobody says so, its pipelines would count heartbeats that go to the next one for
// theirs, which has heard of nothing.
func (t *peer) reached() {
	if old := t.left.Swap(nil); old != nil {
		old.fail(errLeftOver)
	}
	t.lanes[laneBulk].pardon()
}

var errLeftOver = fmt.Errorf("%w: the node was reached anew", ErrUnreachable)

// dialer keeps the connection of one lane to one node.
type dialer struct {
	peer *peer
	lane lane
	wake chan struct{} // somebody wants to send
	news chan struct{} // the node was reached, or has reached us: there is nothing to wait for any more
	mu   struct {
		sync.Mutex
		conn    *outConn
		err     error         // of the last attempt; nil while connected, and while an attempt is under way that nothing speaks against
		changed chan struct{} // closed and replaced when conn or err changes
	}
}

// current is the connection, nil if there is none.
func (d *dialer) current() *outConn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.conn
}

// get waits for a connection: one that has failed is none, though run may have yet to notice. Unless it is patient, it fails when an
// attempt has failed.
func (d *dialer) get(ctx context.Context, patient bool) (*outConn, error) {
	for {
		d.mu.Lock()
		conn, err, changed := d.mu.conn, d.mu.err, d.mu.changed
		d.mu.Unlock()
		if conn != nil && conn.err() == nil {
			return conn, nil
		}
		select {
		case d.wake <- struct{}{}:
		default:
		}
		if err != nil && !patient {
			return nil, fmt.Errorf("%w: node %d: %w", ErrUnreachable, d.peer.node, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: node %d: %w", ErrUnreachable, d.peer.node, context.Cause(ctx))
		}
	}
}

func (d *dialer) set(conn *outConn, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.conn, d.mu.err = conn, err
	close(d.mu.changed)
	d.mu.changed = make(chan struct{})
}

// pardon forgets a failure, and that the next attempt was to come later: the node was reached over the other lane, or reached us.
func (d *dialer) pardon() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.conn == nil {
		d.mu.err = nil
		select {
		case d.news <- struct{}{}:
		default:
		}
	}
}

// run connects and connects again, until p is closed or the node is forgotten. The bulk lane is dialled when something is to
// be sent, the control lane at once: it is also how nodes know each other to be alive.
func (d *dialer) run(ctx context.Context) {
	t, p := d.peer, d.peer.p
	failures := 0
	var since time.Time // of the first failure in a row
	for ctx.Err() == nil {
		if d.lane == laneBulk && !d.wanted(ctx) {
			break
		}
		began := p.o.Now()
		err := d.connect(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil && p.o.Now().Sub(began) >= settled:
			failures = 0
			continue
		case errors.Is(err, errNoAddress) && failures > 0 && p.o.Now().Sub(since) > forgetAfter && p.forget(t):
			d.set(nil, err)
			return
		}
		if failures++; failures == 1 {
			since = began
		}
		if failures > 1 || err != nil {
			d.pause(ctx, failures)
		}
	}
	d.set(nil, ErrClosed)
}

// wanted waits until somebody wants to send; false if p was closed.
func (d *dialer) wanted(ctx context.Context) bool {
	select {
	case <-d.wake:
		return true
	case <-ctx.Done():
		return false
	}
}

var errNoAddress = errors.New("its address is not known")

// connect dials once and serves the connection until it ends. The error is nil if there was one.
func (d *dialer) connect(ctx context.Context) error {
	t, p := d.peer, d.peer.p
	conn, err := d.open(ctx)
	if err != nil {
		d.set(nil, err)
		if gone(err) && t.seen.Load() && p.gone(t) {
			t.seen.Store(false)
		}
		if ctx.Err() == nil {
			p.quiet.log(fmt.Sprint("dial ", t.node), "no connection to a node", "node", int32(t.node), "lane", d.lane.String(), "error", reason(err))
		}
		return err
	}
	t.hears()
	t.seen.Store(true)
	d.set(conn, nil)
	p.up(t, conn.info) // not before: who hears of it may call
	if d.lane == laneControl {
		t.beats.connected()
		t.reached() // not before: what ends by it is not the last connection
	}
	stop := context.AfterFunc(ctx, func() { conn.fail(ErrClosed) })
	err = conn.run(t.hears)
	stop()
	d.set(nil, nil)
	if d.lane == laneControl {
		t.left.Store(t.lanes[laneBulk].current())
	}
	p.down(t, conn.info)
	if ctx.Err() == nil {
		p.o.Logger.Debug("connection to a node ended", "node", int32(t.node), "lane", d.lane.String(), "error", reason(err))
	}
	return nil
}

func (d *dialer) open(ctx context.Context) (*outConn, error) {
	t, p := d.peer, d.peer.p
	if p.o.Cluster() == "" {
		return nil, errNoCluster
	}
	addr, ok := p.o.Resolve(t.node)
	if !ok {
		return nil, errNoAddress
	}
	s, info, err := p.dial(ctx, addr, d.lane, t.node)
	if err != nil {
		if errors.Is(err, ErrRefused) {
			p.stats.refused.Add(1)
		}
		return nil, err
	}
	return newOutConn(s, info), nil
}

// pause waits before the next attempt, unless there is news: longer each time, with jitter so that nodes do not dial in step.
func (d *dialer) pause(ctx context.Context, failures int) {
	wait := min(pauseFirst<<min(failures-1, 10), pauseMost)
	timer := time.NewTimer(wait/2 + rand.N(wait))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.news:
	case <-ctx.Done():
	}
}

// gone tells an error that proves that nobody listens at an address: the process is not there.
func gone(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/quorlog/quorlog/replication"
)

const (
	// maxGreeting bounds the connections whose other side has not proven itself. The one that takes longest gives way to a new
	// one: a peer needs some milliseconds.
	maxGreeting = 64
	// maxCallConns bounds the connections for single calls.
	maxCallConns = 64
)

// Serve takes connections whose first byte is Magic, as portmux hands them over, until the listener fails or is closed. After
// Close, it closes what comes.
func (p *Peers) Serve(l net.Listener) error {
	for {
		nc, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept peers: %w", err)
		}
		if !p.begin() {
			_ = nc.Close()
			continue
		}
		go func() {
			defer p.running.Done()
			p.accepted(nc)
		}()
	}
}

// accepted serves one connection from the handshake to its end.
func (p *Peers) accepted(nc net.Conn) {
	stop := context.AfterFunc(p.ctx, func() { _ = nc.Close() })
	defer stop()
	defer func() { _ = nc.Close() }()
	remote := nc.RemoteAddr().String()
	if len(p.o.Key) == 0 {
		p.quiet.log("no key", "peer refused", "remote", remote, "error", "this node has no cluster key")
		return
	}
	if p.o.Certified != nil {
		if _, ok := p.o.Certified(nc); !ok { // a client may not even try keys
			p.stats.refused.Add(1)
			p.quiet.log("no certificate", "peer refused", "remote", remote, "error", errNoCert)
			return
		}
	}
	r := bufio.NewReaderSize(nc, readBuffer)
	done := p.greeting.enter(nc)
	err := nc.SetDeadline(time.Now().Add(handshakeTime))
	var info PeerInfo
	var l lane
	if err == nil {
		info, l, err = p.receive(nc, r)
	}
	evicted := done()
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	if err != nil {
		p.stats.refused.Add(1)
		if evicted {
			err = errCrowded
		}
		if p.ctx.Err() == nil {
			p.quiet.log("refused", "peer refused", "remote", remote, "node", int32(info.Node), "cluster", info.Cluster, "error", reason(err))
		}
		return
	}
	c := newInConn(p, nc, r, l, info)
	if l == laneCall {
		c.serveCall()
		return
	}
	p.serve(c)
}

// serve runs a control or bulk connection.
func (p *Peers) serve(c *inConn) {
	t, err := p.peer(c.info.Node)
	if err != nil {
		c.fail(err)
		return
	}
	p.replace(t, c)
	t.hears()
	for _, d := range t.lanes {
		d.pardon()
	}
	p.up(t, c.info) // last: who hears of it may call
	err = c.run(t.hears)
	p.down(t, c.info)
	p.leave(t, c)
	switch {
	case p.ctx.Err() != nil:
	case errors.Is(err, errFrame):
		p.quiet.log(fmt.Sprint("frame ", c.info.Node), "peer sent what is no message; its connection is closed", "node", int32(c.info.Node), "remote", c.info.Addr, "error", err)
	default:
		p.o.Logger.Debug("connection of a node ended", "node", int32(c.info.Node), "lane", c.lane.String(), "error", reason(err))
	}
}

// serveCall runs a connection for one call, if there are not too many.
func (c *inConn) serveCall() {
	p := c.p
	if p.callConns.Add(1) <= maxCallConns {
		_ = c.run(func() {}) // how it ends is the caller's to know
	}
	p.callConns.Add(-1)
	c.fail(ErrClosed)
	c.cancel()
}

// greetings are the connections in their handshake.
type greetings struct {
	mu    sync.Mutex
	order []net.Conn // the oldest first
}

// enter notes a connection and closes the oldest if there are too many. The function that it returns takes it off, and tells
// whether it had to give way.
func (g *greetings) enter(nc net.Conn) func() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.order) >= maxGreeting {
		_ = g.order[0].Close()
		g.order = append(g.order[:0], g.order[1:]...)
	}
	g.order = append(g.order, nc)
	return func() (evicted bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		for i, o := range g.order {
			if o == nc {
				g.order = append(g.order[:i], g.order[i+1:]...)
				return false
			}
		}
		return true
	}
}

// replace makes a connection the only one of its node and lane: an older one is half open, or the peer would not dial again.
func (p *Peers) replace(t *peer, c *inConn) {
	p.mu.Lock()
	old := p.mu.in[inKey{t.node, c.lane}]
	p.mu.in[inKey{t.node, c.lane}] = c
	p.mu.Unlock()
	if old != nil {
		old.fail(errReplaced)
	}
}

func (p *Peers) leave(t *peer, c *inConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.in[inKey{t.node, c.lane}] == c {
		delete(p.mu.in, inKey{t.node, c.lane})
	}
}

var errReplaced = errors.New("the peer has connected again")

// inKey names an accepted connection.
type inKey struct {
	node replication.NodeID
	lane lane
}

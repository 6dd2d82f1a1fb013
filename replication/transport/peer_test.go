package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/quorlog/quorlog/replication"
)

// pipes is a network in memory that nodes listen on, for bubbles: who reads from a socket keeps a bubble's clock from moving.
type pipes struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
}

func newPipes() *pipes { return &pipes{listeners: make(map[string]*pipeListener)} }

func (p *pipes) listen(id replication.NodeID) net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &pipeListener{addr: pipeAddr(fmt.Sprint("node ", id)), come: make(chan net.Conn), closed: make(chan struct{})}
	p.listeners[l.addr.String()] = l
	return l
}

func (p *pipes) dial(ctx context.Context, addr string) (net.Conn, error) {
	p.mu.Lock()
	l := p.listeners[addr]
	p.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	here, there := net.Pipe()
	select {
	case l.come <- there:
		return here, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// pipeListener is one node's port.
type pipeListener struct {
	addr   pipeAddr
	come   chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.come:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return l.addr }

// pipeAddr is a node's name on pipes.
type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// A connection that has failed is handed to nobody, though its dialer has yet to notice.
func TestWhatHasFailedIsNotHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPeers(PeersOptions{Node: 1})
		defer p.Close()
		d := newPeer(p, 2).lanes[laneBulk]
		made := func() *outConn {
			here, _ := net.Pipe()
			return newOutConn(newStream(p, here, bufio.NewReader(here), laneBulk), PeerInfo{Node: 2})
		}
		failed, next := made(), made()
		failed.fail(errors.New("it broke"))
		d.set(failed, nil)
		got := make(chan *outConn, 1)
		go func() {
			conn, err := d.get(t.Context(), false)
			if err != nil {
				t.Error(err)
			}
			got <- conn
		}()
		synctest.Wait()
		if len(got) > 0 {
			t.Fatal("it got one that has failed")
		}
		<-d.wake // what is asked before the dialer has noticed is asked for nothing
		d.set(nil, nil)
		<-d.wake
		d.set(next, nil)
		if conn := <-got; conn != next {
			t.Error("it got another")
		}
	})
}

// Who hears that a node is there can call it.
func TestWhoIsUpCanBeCalled(t *testing.T) {
	c := newCluster(t)
	a := c.add(1, nil)
	control := mustPeer(t, a.Peers, 2).lanes[laneControl]
	a.Peers.mu.RLock() // now nobody becomes up
	defer a.Peers.mu.RUnlock()
	c.add(2, func(o *PeersOptions) { o.Resolve = nil })
	wait(t, "the connection", func() bool { return control.current() != nil })
}

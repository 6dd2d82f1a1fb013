package agent

import (
	"net"
	"sync"

	"github.com/quorlog/quorlog/broker/conn"
)

// gate keeps clients out until the node is ready: their connections are reset, so that they try another node at once,
// instead of waiting in a queue for a node that may itself wait for others.
type gate struct {
	net.Listener
	opened chan struct{}
	passed chan net.Conn // what was accepted when the gate opened
	ended  chan struct{} // closed when refuse has returned
	once   sync.Once
}

func newGate(l net.Listener) *gate {
	return &gate{Listener: l, opened: make(chan struct{}), passed: make(chan net.Conn, 1), ended: make(chan struct{})}
}

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

// refuse closes connections until the gate is open or the listener closed.
func (g *gate) refuse() {
	defer close(g.ended)
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return
		}
		select {
		case <-g.opened:
			g.passed <- c
			return
		default:
			conn.Reset(c) // the client sees that nobody serves here yet
		}
	}
}

// Accept implements net.Listener; it is called once the gate is open.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.passed:
		return c, nil
	case <-g.ended:
	}
	select {
	case c := <-g.passed:
		return c, nil
	default:
		return g.Listener.Accept()
	}
}

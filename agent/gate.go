package agent

import (
	"net"
	"sync"
)

// gate keeps clients out until the node is ready: their connections are closed, so that they try another node at once,
// instead of waiting in a queue for a node that may itself wait for others.
type gate struct {
	net.Listener
	opened chan struct{}
	once   sync.Once
}

func newGate(l net.Listener) *gate { return &gate{Listener: l, opened: make(chan struct{})} }

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case <-g.opened:
			return c, nil
		default:
			c.Close() // the client sees that nobody serves here yet
		}
	}
}

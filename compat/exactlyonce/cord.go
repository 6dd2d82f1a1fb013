package exactlyonce

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// errCut is what a dialer says whose cord was cut.
var errCut = errors.New("cut off")

// cord dials for one client and can cut all its connections at once and for ever, as when its machine loses power: nothing
// more is sent, no connection says goodbye in its protocol.
type cord struct {
	mu    sync.Mutex
	gone  bool
	conns []net.Conn
}

func (c *cord) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return nil, errors.Join(errCut, conn.Close())
	}
	c.conns = append(c.conns, conn)
	return conn, nil
}

func (c *cord) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	for _, conn := range c.conns {
		_ = conn.Close() // most are closed already
	}
}

package portmux

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// maxRejecting bounds the answers under way for each kind of stranger; beyond, they are closed without one.
	maxRejecting = 64
	// rejectTime is what a stranger has to take its answer and hang up.
	rejectTime = 2 * time.Second
	// rejectDrain is how much of what a stranger sends is read: closing with unread bytes resets the connection, and the
	// answer may be lost with it.
	rejectDrain = 64 << 10
)

// tlsAlert is a TLS record with a fatal alert, handshake_failure, in the version that every client takes.
var tlsAlert = []byte{0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 40}

const httpText = "This is a Quorlog broker's port for Kafka clients. It speaks the Kafka protocol, not HTTP.\n"

var httpAnswer = fmt.Appendf(nil, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"+
	"Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(httpText), httpText)

// rejector turns away those who knocked at the wrong door.
type rejector struct {
	from   net.Listener
	reason string
	answer []byte // nil for none
}

// run rejects connections until the listener is closed and the last one is done with.
func (r rejector) run(log *limitedLog) {
	var wg sync.WaitGroup
	defer wg.Wait()
	busy := make(chan struct{}, maxRejecting)
	for {
		nc, err := r.from.Accept()
		if err != nil {
			return
		}
		log.warn("connection closed", "reason", r.reason, "remote", nc.RemoteAddr().String())
		select {
		case busy <- struct{}{}:
			wg.Go(func() {
				r.reject(nc)
				<-busy
			})
		default:
			_ = nc.Close()
		}
	}
}

// reject answers and closes. Errors have nobody to be told to.
func (r rejector) reject(nc net.Conn) {
	defer func() { _ = nc.Close() }()
	if r.answer == nil || nc.SetDeadline(time.Now().Add(rejectTime)) != nil {
		return
	}
	if _, err := nc.Write(r.answer); err != nil {
		return
	}
	if c, ok := nc.(*Conn); ok {
		if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.CopyN(io.Discard, nc, rejectDrain)
		}
	}
}

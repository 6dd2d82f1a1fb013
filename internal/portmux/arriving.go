package portmux

import (
	"bytes"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// recordHandshake is the first byte of a TLS handshake.
const recordHandshake = 0x16

// arriving is a connection from when it is accepted until somebody takes it or it is closed. Only the goroutine that waits for its
// first byte reads from it meanwhile. What ends a connection may call Close at any time.
type arriving struct {
	net.Conn // the TCP connection
	root     *root
	ip       netip.Addr
	tls      atomic.Pointer[secured] // nil for none, or none yet
	open     bool                    // its first byte may begin a TLS handshake, or not; the reader's
	told     bool                    // what is wrong with it was told; the reader's
}

func newArriving(nc net.Conn, r *root) *arriving {
	a := &arriving{Conn: nc, root: r, open: r.o.PeerTLS != nil}
	if tcp, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		a.ip = tcp.AddrPort().Addr().Unmap()
	}
	if r.o.TLS != nil {
		a.tls.Store(secure(nc, nil, r.o.TLS, r.o.FirstByte+r.o.Handshake))
		a.open = false
	}
	return a
}

// Read reads what the client sends, inside of TLS if there is any.
func (a *arriving) Read(p []byte) (int, error) {
	if s := a.tls.Load(); s != nil {
		return s.Read(p)
	}
	n, err := a.Conn.Read(p)
	if n == 0 || !a.open {
		return n, err
	}
	a.open = false
	if p[0] != recordHandshake {
		return n, err
	}
	if err := a.SetReadDeadline(time.Now().Add(a.root.o.Handshake)); err != nil {
		return 0, err
	}
	s := secure(a.Conn, bytes.Clone(p[:n]), a.root.o.PeerTLS, a.root.o.Handshake)
	a.tls.Store(s)
	return s.Read(p)
}

// Close closes the connection.
func (a *arriving) Close() error {
	a.root.forget(a)
	return a.present().Close()
}

// present is the connection as it is by now.
func (a *arriving) present() net.Conn {
	if s := a.tls.Load(); s != nil {
		return s
	}
	return a.Conn
}

// refused is told why nothing can be read.
func (a *arriving) refused(err error) {
	if s := a.tls.Load(); s != nil && !a.told {
		a.told = true
		s.refused(err, a.root.log)
	}
}

// begun is told that the client's protocol is known, and how a connection of that ends: see linger.
func (a *arriving) begun(ends int) {
	linger(a.present(), ends)
	if s := a.tls.Load(); s != nil {
		s.begun()
	}
}

// taken hands the connection to whoever serves it.
func (a *arriving) taken() net.Conn {
	a.root.forget(a)
	return a.present()
}

// Package portmux shares one TCP port between protocols by the first byte that a client sends, on top of cmux.
//
//	0x00-0x06   a Kafka frame: the top byte of its length, which is at most 100 MiB
//	0x16        a TLS handshake, which a plaintext port can't serve: answered with an alert
//	'A'-'Z'     HTTP: answered with what this port is
//	0xF1        a peer (replication/transport), if this node takes any
//	the rest    closed
//
// cmux is used within the limits that make it safe: reading has a deadline, every matcher reads exactly one byte, none
// matches a connection that sent nothing, and the errors of the root listener do not make it spin. Connections come out as
// [Conn], through which sendfile and writev reach the socket.
//
// # Goroutines
//
//	Serve      the caller's; ends with Close
//	sniffing   cmux's, one for each connection that has not sent its first byte; ends with the byte, the deadline or Close
//	rejecting  three, started and awaited by Serve, and at most maxRejecting that say why; they end after rejectTime
package portmux

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/soheilhy/cmux"
)

// Options of a Mux. Zero fields have their defaults.
type Options struct {
	Logger *slog.Logger
	// FirstByte is the time that a client has to send something; by default 3 s.
	FirstByte time.Duration
	// MaxSniffing bounds the connections that have sent nothing yet; by default 1,000. More are closed at once.
	MaxSniffing int
}

// peerByte is the first byte that a peer sends: transport.Magic.
const peerByte = 0xF1

const (
	defaultFirstByte   = 3 * time.Second
	defaultMaxSniffing = 1_000
)

// Mux serves a port.
type Mux struct {
	options Options
	root    *root
	mux     cmux.CMux
	kafka   net.Listener
	peers   net.Listener
	wanted  atomic.Bool // somebody accepts peers
	http    net.Listener
	tls     net.Listener
	other   net.Listener
	log     limitedLog
}

// New takes over a listener. Nothing is accepted before Serve.
func New(l net.Listener, o Options) *Mux {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.FirstByte <= 0 {
		o.FirstByte = defaultFirstByte
	}
	if o.MaxSniffing <= 0 {
		o.MaxSniffing = defaultMaxSniffing
	}
	m := &Mux{options: o}
	m.log.logger = o.Logger
	m.root = newRoot(l, o.MaxSniffing, &m.log)
	m.mux = cmux.New(m.root)
	m.mux.SetReadTimeout(o.FirstByte)
	// True even for what nobody matched: false would close the port.
	m.mux.HandleError(func(error) bool { return true })
	const reset, inOrder = 0, -1 // how they end: see linger
	m.kafka = m.match(reset, func(b byte) bool { return b <= 0x06 })
	m.tls = m.match(inOrder, func(b byte) bool { return b == 0x16 })
	m.http = m.match(inOrder, func(b byte) bool { return b >= 'A' && b <= 'Z' })
	m.peers = m.match(inOrder, func(b byte) bool { return b == peerByte && m.wanted.Load() })
	m.other = m.match(inOrder, func(byte) bool { return true })
	return m
}

// match returns a listener for connections by their first byte. The byte is read by the first matcher that is asked and
// seen again by the others. Without a byte none matches, and cmux closes the connection.
func (m *Mux) match(ends int, accepts func(byte) bool) net.Listener {
	return m.mux.MatchWithWriters(func(w io.Writer, r io.Reader) bool {
		var first [1]byte
		n, err := io.ReadFull(r, first[:])
		if n == 1 && !accepts(first[0]) {
			return false
		}
		// Matched, or closed by cmux after this: in either case no longer for root to close.
		if nc, ok := w.(net.Conn); ok {
			m.root.forget(nc)
			linger(nc, ends)
		}
		return err == nil
	})
}

// Kafka returns the listener for Kafka clients. Closing it closes the port.
func (m *Mux) Kafka() net.Listener { return unwrapping{m.kafka} }

// Peers returns the listener for connections of other nodes of the cluster. Until it is first called they are closed as
// strangers: nobody would take them. Closing it closes the port.
func (m *Mux) Peers() net.Listener {
	m.wanted.Store(true)
	return unwrapping{m.peers}
}

// Addr returns the port's address.
func (m *Mux) Addr() net.Addr { return m.root.Addr() }

// Serve sorts connections until Close, then returns nil, or until the listener fails.
func (m *Mux) Serve() error {
	var rejecting sync.WaitGroup
	for _, r := range []rejector{
		{m.tls, "a TLS handshake on a plaintext port", tlsAlert},
		{m.http, "HTTP on the Kafka port", httpAnswer},
		{m.other, "a protocol that this port does not speak", nil},
	} {
		rejecting.Go(func() { r.run(&m.log) })
	}
	err := m.mux.Serve()
	m.mux.Close()
	rejecting.Wait()
	if m.root.isClosed() {
		return nil
	}
	return errors.Join(err, m.root.Close())
}

// Close closes the port and what has not sent anything; Serve and the listeners' Accept return. Connections that were
// handed out stay.
func (m *Mux) Close() error {
	err := m.root.Close()
	m.mux.Close()
	return err
}

// Conn is a connection whose first byte was read and put back. Only Read differs from the connection beneath.
type Conn struct {
	net.Conn
	sniffed *cmux.MuxConn
}

// Read returns the first byte again, then what follows.
func (c *Conn) Read(p []byte) (int, error) { return c.sniffed.Read(p) }

// TCP returns the connection beneath for writing (writev, sendfile); nil if it is none of TCP. Reading from it would miss
// the first byte.
func (c *Conn) TCP() *net.TCPConn {
	tcp, _ := c.Conn.(*net.TCPConn)
	return tcp
}

// underneath returns the connection that cmux wrapped.
func underneath(nc net.Conn) net.Conn {
	if mc, ok := nc.(*cmux.MuxConn); ok {
		return mc.Conn
	}
	return nc
}

// unwrapping is a listener that hands out Conns.
type unwrapping struct{ net.Listener }

// Accept waits for a connection.
func (u unwrapping) Accept() (net.Conn, error) {
	nc, err := u.Listener.Accept()
	if err != nil {
		return nil, errors.Join(net.ErrClosed, err)
	}
	if mc, ok := nc.(*cmux.MuxConn); ok {
		return &Conn{Conn: mc.Conn, sniffed: mc}, nil
	}
	return nc, nil
}

// Package portmux shares one TCP port between protocols by the first byte that a client sends, on top of cmux.
//
//	0x00-0x06   a Kafka frame: the top byte of its length, which is at most 100 MiB
//	0x16        a TLS handshake where there is no TLS: answered with an alert
//	"PRI"       HTTP/2, which is gRPC, if this node serves it
//	'A'-'Z'     HTTP, if this node serves it; else answered with what this port is
//	0xF1        a peer (replication/transport), if this node takes any
//	the rest    closed
//
// With Options.TLS all of this happens inside of TLS, and what is no TLS is refused. There a peer's connection is one with the
// application protocol of peers: it is for nothing else, and no other connection is a peer's.
//
// cmux is used within the limits that make it safe: reading has a deadline, every matcher reads one byte, and three only
// where the first is gRPC's, none matches a connection that sent nothing, and the errors of the root listener do not make it spin.
// The connections that nobody has taken yet are bounded, in all and for each address, and so is what each may send before its TLS
// handshake is over. Connections come out as [Conn], through which sendfile and writev reach the socket.
//
// # Goroutines
//
//	Serve      the caller's; ends with Close
//	sniffing   cmux's, one for each connection that has not sent its first byte; ends with the byte, the deadline or Close
//	rejecting  four, started and awaited by Serve, and at most maxRejecting that say why; they end after rejectTime
package portmux

import (
	"crypto/tls"
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
	// FirstByte is the time that a client has to send something, and Handshake what it has for TLS beside; by default 3 and 5 s.
	FirstByte, Handshake time.Duration
	// TLS has each connection begin with a TLS handshake; nil for a plaintext port.
	TLS *tls.Config
	// PeerTLS lets peers, on a plaintext port, come by TLS all the same. It must turn everybody else away. nil: nobody comes so.
	PeerTLS *tls.Config
	// PeerProtocol is the application protocol (ALPN, RFC 7301) of peers that come by TLS; empty: they are told by their first
	// byte alone.
	PeerProtocol string
	// MaxSniffing bounds the connections that nobody has taken: they have sent nothing yet, or wait to be accepted; by default
	// 1,000. MaxSniffingPerIP bounds those of one address; by default as many. More are closed at once.
	MaxSniffing, MaxSniffingPerIP int
	// RatePerIP bounds the connections that one address makes in a second, where they begin with TLS: a handshake costs a processor
	// a tenth of a millisecond and more, whether the client goes on or not. 0: any number. As many as may wait come in at once.
	RatePerIP int
}

// peerByte is the first byte that a peer sends: transport.Magic.
const peerByte = 0xF1

const (
	defaultFirstByte   = 3 * time.Second
	defaultHandshake   = 5 * time.Second
	defaultMaxSniffing = 1_000
)

// Mux serves a port.
type Mux struct {
	options Options
	root    *root
	mux     cmux.CMux
	kafka   net.Listener
	peers   net.Listener
	misled  net.Listener // a peer's connections for what is not the peers'
	wanted  atomic.Bool  // somebody accepts peers
	grpc    net.Listener
	grpcs   atomic.Bool // somebody accepts gRPC
	web     net.Listener
	webs    atomic.Bool // somebody accepts HTTP
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
	if o.Handshake <= 0 {
		o.Handshake = defaultHandshake
	}
	if o.MaxSniffing <= 0 {
		o.MaxSniffing = defaultMaxSniffing
	}
	if o.MaxSniffingPerIP <= 0 {
		o.MaxSniffingPerIP = o.MaxSniffing
	}
	m := &Mux{options: o}
	m.log.logger = o.Logger
	m.root = newRoot(l, o, &m.log)
	m.mux = cmux.New(m.root)
	wait := o.FirstByte
	if o.TLS != nil {
		wait += o.Handshake
	}
	m.mux.SetReadTimeout(wait)
	// True even for what nobody matched: false would close the port.
	m.mux.HandleError(func(error) bool { return true })
	const reset, inOrder = 0, -1 // how they end: see linger
	m.peers = m.match(inOrder, func(a *arriving, b byte, _ io.Reader) bool { return b == peerByte && m.wanted.Load() && m.mayBePeer(a) })
	m.misled = m.match(inOrder, func(a *arriving, _ byte, _ io.Reader) bool { return m.isPeer(a) })
	m.kafka = m.match(reset, func(_ *arriving, b byte, _ io.Reader) bool { return b <= 0x06 })
	m.tls = m.match(inOrder, func(_ *arriving, b byte, _ io.Reader) bool { return b == recordHandshake })
	m.grpc = m.match(inOrder, func(_ *arriving, b byte, more io.Reader) bool { return isHTTP2(b, more) && m.grpcs.Load() })
	m.web = m.match(inOrder, func(_ *arriving, b byte, _ io.Reader) bool { return isHTTP(b) && m.webs.Load() })
	m.http = m.match(inOrder, func(_ *arriving, b byte, _ io.Reader) bool { return isHTTP(b) })
	m.other = m.match(inOrder, func(*arriving, byte, io.Reader) bool { return true })
	return m
}

// isPeer tells whether a connection has the application protocol of peers.
func (m *Mux) isPeer(a *arriving) bool {
	s := a.tls.Load()
	return s != nil && m.options.PeerProtocol != "" && s.ConnectionState().NegotiatedProtocol == m.options.PeerProtocol
}

// mayBePeer tells whether a connection that begins as a peer's may be one.
func (m *Mux) mayBePeer(a *arriving) bool {
	return a.tls.Load() == nil || m.options.PeerProtocol == "" || m.isPeer(a)
}

// isHTTP reports whether a connection begins as HTTP does, with the name of a method.
func isHTTP(b byte) bool { return b >= 'A' && b <= 'Z' }

// isHTTP2 reports whether a connection begins as HTTP/2 does, with "PRI"; POST and the like differ in their second byte.
func isHTTP2(b byte, more io.Reader) bool {
	var next [1]byte
	for _, want := range []byte("PRI") {
		if b != want {
			return false
		}
		if want == 'I' {
			break
		}
		if _, err := io.ReadFull(more, next[:]); err != nil {
			return false
		}
		b = next[0]
	}
	return true
}

// match returns a listener for connections by how they begin. The first byte is read by the first matcher that is asked and seen
// again by the others. Without a byte none matches, and cmux closes the connection.
func (m *Mux) match(ends int, accepts func(a *arriving, first byte, more io.Reader) bool) net.Listener {
	return unwrapping{m.mux.MatchWithWriters(func(w io.Writer, r io.Reader) bool {
		a, ok := w.(*arriving)
		if !ok {
			return false // root makes no others
		}
		var first [1]byte
		if _, err := io.ReadFull(r, first[:]); err != nil {
			a.refused(err)
			return false
		}
		if !accepts(a, first[0], r) {
			return false
		}
		a.begun(ends)
		return true
	})}
}

// Kafka returns the listener for Kafka clients. Closing it closes the port.
func (m *Mux) Kafka() net.Listener { return m.kafka }

// Peers returns the listener for connections of other nodes of the cluster. Until it is first called they are closed as
// strangers: nobody would take them. Closing it closes the port.
func (m *Mux) Peers() net.Listener {
	m.wanted.Store(true)
	return m.peers
}

// HTTP returns the listener for clients that speak HTTP. Until it is first called they are told that nobody does here. Closing
// it closes the port.
func (m *Mux) HTTP() net.Listener {
	m.webs.Store(true)
	return m.web
}

// GRPC returns the listener for clients that speak HTTP/2 from the first byte on. Until it is first called they are taken for
// HTTP. Closing it closes the port.
func (m *Mux) GRPC() net.Listener {
	m.grpcs.Store(true)
	return m.grpc
}

// Addr returns the port's address.
func (m *Mux) Addr() net.Addr { return m.root.Addr() }

// Serve sorts connections until Close, then returns nil, or until the listener fails.
func (m *Mux) Serve() error {
	var rejecting sync.WaitGroup
	for _, r := range []rejector{
		{m.tls, "a TLS handshake on a plaintext port", tlsAlert},
		{m.http, "HTTP on the Kafka port", httpAnswer},
		{m.misled, "a peer's connection that is for something else, or to a node without peers", nil},
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

// unwrapping is a listener that hands out Conns.
type unwrapping struct{ net.Listener }

// Accept waits for a connection.
func (u unwrapping) Accept() (net.Conn, error) {
	nc, err := u.Listener.Accept()
	if err != nil {
		return nil, errors.Join(net.ErrClosed, err)
	}
	mc, ok := nc.(*cmux.MuxConn)
	if !ok {
		return nc, nil // cmux makes no others
	}
	if a, ok := mc.Conn.(*arriving); ok {
		return &Conn{Conn: a.taken(), sniffed: mc}, nil
	}
	return nc, nil // root makes no others
}

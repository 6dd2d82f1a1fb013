package portmux

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// maxHandshake bounds what a client may send before its handshake is over, in bytes. A chain of five certificates with RSA keys has
// ten thousand; Go alone would take 256 KiB from each of some thousand clients that nobody knows.
const maxHandshake = 32 << 10

var errLongHandshake = errors.New("a handshake of more than 32 KiB")

// secured is a TLS connection as the port accepts it. The handshake is made by the first read, on the goroutine that waits for the
// first byte, within the same deadline and the same bound on their number. It ends as its TCP connection was told to end: a reset
// must not be announced by TLS's orderly end, which clients would take for one.
type secured struct {
	*tls.Conn
	wire   *wire
	shaken bool // the handshake is over; the reader's
	abrupt atomic.Bool
}

// goodbye is how long Close may take to tell a client that its connection ends. TLS alone would try for five seconds with one that
// reads nothing, and whoever closes waits for that.
const goodbye = 200 * time.Millisecond

// wire is what is beneath TLS.
type wire struct {
	net.Conn
	head   []byte // was read before it was known that there is TLS
	left   int    // bytes that may yet come before the handshake is over; negative once it is
	ending atomic.Bool
}

// SetWriteDeadline is that of the connection, but for the end.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.ending.Load() {
		t = time.Now().Add(goodbye)
	}
	return w.Conn.SetWriteDeadline(t)
}

// Read reads from the connection.
func (w *wire) Read(p []byte) (int, error) {
	switch {
	case len(w.head) > 0:
		n := copy(p, w.head)
		w.head = w.head[n:]
		return n, nil
	case w.left < 0:
		return w.Conn.Read(p)
	case w.left == 0:
		return 0, errLongHandshake
	}
	n, err := w.Conn.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

// secure begins TLS on a connection, of which head was read already. wait is the time until what is to be written must be.
func secure(nc net.Conn, head []byte, config *tls.Config, wait time.Duration) *secured {
	w := &wire{Conn: nc, head: head, left: maxHandshake}
	s := &secured{Conn: tls.Server(w, config), wire: w}
	s.abrupt.Store(true)
	_ = s.SetWriteDeadline(time.Now().Add(wait)) // fails only if the connection is closed
	return s
}

// Read reads what the client sends, after the handshake.
func (s *secured) Read(p []byte) (int, error) {
	if !s.shaken {
		if err := s.Handshake(); err != nil {
			return 0, err
		}
		s.shaken, s.wire.left = true, -1
	}
	return s.Conn.Read(p)
}

// SetLinger is as that of net.TCPConn.
func (s *secured) SetLinger(seconds int) error {
	s.abrupt.Store(seconds == 0)
	linger(s.wire.Conn, seconds)
	return nil
}

// Close closes the connection.
func (s *secured) Close() error {
	if s.abrupt.Load() {
		return s.wire.Conn.Close()
	}
	s.wire.ending.Store(true)
	return s.Conn.Close()
}

// begun takes off the deadline of the handshake.
func (s *secured) begun() { _ = s.SetWriteDeadline(time.Time{}) }

// notHTTPS is what a browser is told that speaks plain HTTP to a port with TLS.
const notHTTPS = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nThis port speaks TLS: use https.\n"

// refused logs why a handshake failed, and answers plain HTTP. A client that goes or is silent is not worth a line. The others are
// told by an alert, which a reset could overtake: so they get an end in order.
func (s *secured) refused(err error, log *limitedLog) {
	for _, gone := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, os.ErrDeadlineExceeded, net.ErrClosed} {
		if errors.Is(err, gone) {
			return
		}
	}
	if s.ConnectionState().HandshakeComplete {
		return
	}
	_ = s.SetLinger(-1) // never fails
	reason := err.Error()
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) {
		reason = "no TLS on a TLS port"
		if isHTTP(plain.RecordHeader[0]) && plain.Conn != nil {
			_, _ = io.WriteString(plain.Conn, notHTTPS)
		}
	}
	log.warn("TLS handshake failed", "reason", reason, "remote", s.RemoteAddr().String())
}

// TLS tells what the TLS handshake has found out; false if the connection has none.
func (c *Conn) TLS() (tls.ConnectionState, bool) {
	s, ok := c.Conn.(*secured)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return s.ConnectionState(), true
}

// SetLinger says how the connection ends, as that of net.TCPConn; with 0, whatever is beneath, by a reset.
func (c *Conn) SetLinger(seconds int) error {
	linger(c.Conn, seconds)
	return nil
}

package conn

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/kafkaproto"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dispatcher is a Dispatcher made of a function. Produce overlaps.
type dispatcher func(ctx context.Context, s *Session, h kafkaproto.RequestHeader, body []byte) Call

func (d dispatcher) Dispatch(ctx context.Context, s *Session, h kafkaproto.RequestHeader, body []byte) Call {
	return d(ctx, s, h, body)
}

func (dispatcher) Overlaps(key kafkaproto.Key) bool { return key == kafkaproto.KeyProduce }

// finish is a Call made of a function.
type finish func(ctx context.Context) (Reply, error)

func (f finish) Finish(ctx context.Context) (Reply, error) { return f(ctx) }

// done is a call that is ready.
type done Reply

func (d done) Finish(context.Context) (Reply, error) { return Reply(d), nil }
func (done) Ready() bool                             { return true }

// echo answers with the body.
func echo(_ context.Context, _ *Session, _ kafkaproto.RequestHeader, body []byte) Call {
	return done{Body: kafkaproto.Bytes(body)}
}

// lines is a log that tests can read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// harness is a server under test.
type harness struct {
	*Server
	log  *lines
	addr string
	pipe *pipeListener
}

// newServer returns a server that logs to lines.
func newServer(d Dispatcher, o Options) *harness {
	h := &harness{log: &lines{}}
	o.Dispatcher = d
	o.Logger = slog.New(slog.NewTextHandler(h.log, nil))
	h.Server = NewServer(o)
	return h
}

// serve serves a listener until the test ends.
func (h *harness) serve(t testing.TB, l net.Listener) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	t.Cleanup(func() {
		h.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// onTCP serves a loopback port.
func onTCP(t testing.TB, d Dispatcher, o Options) *harness {
	t.Helper()
	return onListener(t, loopback(t), d, o)
}

func loopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// onListener serves a port. Clients have long for their first byte: on a busy machine seconds pass before they send it.
func onListener(t testing.TB, l net.Listener, d Dispatcher, o Options) *harness {
	t.Helper()
	if o.Limits.FirstByte == 0 {
		o.Limits.FirstByte = time.Minute
	}
	h := newServer(d, o)
	h.addr = l.Addr().String()
	h.serve(t, l)
	return h
}

// onPipe serves connections in memory, whose time is that of the bubble in synctest. The caller has to Close.
func onPipe(t testing.TB, d Dispatcher, o Options) *harness {
	t.Helper()
	h := newServer(d, o)
	h.pipe = &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	h.serve(t, h.pipe)
	return h
}

// awaitNoConnections waits until the server has noticed the end of all connections.
func (h *harness) awaitNoConnections(t testing.TB) {
	t.Helper()
	for h.Stats().Connections > 0 {
		await(t, "end of the connection", time.After(time.Millisecond))
	}
}

// dial connects a client.
func (h *harness) dial(t *testing.T) *client {
	t.Helper()
	var nc net.Conn
	if h.pipe != nil {
		var server net.Conn
		nc, server = net.Pipe()
		h.pipe.conns <- server
	} else {
		var err error
		if nc, err = net.Dial("tcp", h.addr); err != nil {
			t.Fatal(err)
		}
	}
	c := &client{Conn: nc, t: t}
	t.Cleanup(func() { _ = nc.Close() })
	return c
}

// pipeListener accepts what is put into conns.
type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// client speaks frames.
type client struct {
	net.Conn
	t *testing.T
}

// frame returns a request with its length in front. The keys that tests use with version 0 have headers of version 1.
func frame(key kafkaproto.Key, correlation int32, body string) []byte {
	b := []byte{0, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(correlation))
	b = append(b, 0, 2, 'm', 'e')
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func (c *client) send(key kafkaproto.Key, correlation int32, body string) {
	c.t.Helper()
	c.raw(frame(key, correlation, body))
}

func (c *client) raw(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// readFrame reads an answer and returns what follows its length.
func readFrame(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(length[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

// receive reads an answer.
func (c *client) receive() (correlation int32, body string) {
	c.t.Helper()
	b, err := readFrame(c)
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	return int32(binary.BigEndian.Uint32(b)), string(b[4:])
}

// expect reads an answer and compares it.
func (c *client) expect(correlation int32, body string) {
	c.t.Helper()
	if gotID, got := c.receive(); gotID != correlation || got != body {
		c.t.Fatalf("answer %d %.40q, want %d %.40q", gotID, got, correlation, body)
	}
}

// expectClosed waits for the end of the connection.
func (c *client) expectClosed() {
	c.t.Helper()
	n, err := c.Read(make([]byte, 1))
	if n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("%d bytes, %v, want the connection closed", n, err)
	}
}

// fileRegion is a region of a file.
type fileRegion struct {
	file     *os.File
	ranges   []kafkaproto.FileRange
	length   int
	released chan struct{} // one for each Release
}

func newFileRegion(f *os.File, spans ...[2]int64) *fileRegion {
	r := &fileRegion{file: f, released: make(chan struct{}, 8)}
	for _, s := range spans {
		r.ranges = append(r.ranges, kafkaproto.FileRange{Fd: f.Fd(), Offset: s[0], Len: int(s[1])})
		r.length += int(s[1])
	}
	return r
}

func (r *fileRegion) Len() int                                   { return r.length }
func (r *fileRegion) FileRanges() ([]kafkaproto.FileRange, bool) { return r.ranges, true }
func (r *fileRegion) Release()                                   { r.released <- struct{}{} }
func (r *fileRegion) AppendTo(dst []byte) ([]byte, error) {
	for _, fr := range r.ranges {
		b := make([]byte, fr.Len)
		n, err := r.file.ReadAt(b, fr.Offset)
		dst = append(dst, b[:n]...)
		if err != nil && !errors.Is(err, io.EOF) {
			return dst, err
		}
	}
	return dst, nil
}

// await fails the test if nothing comes for a minute; it is no measurement.
func await[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case v = <-c:
	case <-timer.C:
		t.Fatalf("no %s", what)
	}
	return v
}

package conn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/kafkaproto"
)

// testFile makes a file of random bytes.
func testFile(t testing.TB, size int) (*os.File, []byte) {
	t.Helper()
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, data
}

// regionBody is a body of bytes around regions, and what it must look like on the wire.
func regionBody(f *os.File, data []byte, spans ...[2]int64) (kafkaproto.Encoded, []byte, []*fileRegion) {
	var body kafkaproto.Encoded
	var want []byte
	var regions []*fileRegion
	add := func(p kafkaproto.Part, n int) {
		body.Parts = append(body.Parts, p)
		body.Size += n
	}
	for i, s := range spans {
		head := bytes.Repeat([]byte{byte(i)}, 10+i*1500)
		add(kafkaproto.Part{Bytes: head}, len(head))
		want = append(want, head...)
		half := s[1] / 2 // two ranges, as where a region spans segments or an internal frame was cut out
		r := newFileRegion(f, [2]int64{s[0], half}, [2]int64{s[0] + half, s[1] - half})
		regions = append(regions, r)
		add(kafkaproto.Part{Region: r}, r.Len())
		want = append(want, data[s[0]:s[0]+s[1]]...)
	}
	add(kafkaproto.Part{Bytes: []byte("end")}, 3)
	return body, append(want, "end"...), regions
}

// Bytes of files must arrive as they are, by sendfile and by copying, in all sizes.
func TestRegions(t *testing.T) {
	f, data := testFile(t, 3<<20)
	spans := [][2]int64{{0, 10}, {5, 1}, {100, regionCopyBelow - 1}, {7, regionCopyBelow}, {4096, 300 << 10}, {1 << 20, 2 << 20}}
	for name, connect := range map[string]func(testing.TB, Dispatcher, Options) *harness{"TCP": onTCP, "pipe": onPipe} {
		t.Run(name, func(t *testing.T) {
			var regions []*fileRegion
			h := connect(t, dispatcher(func(context.Context, *Session, kafkaproto.RequestHeader, []byte) Call {
				body, _, rs := regionBody(f, data, spans...)
				regions = append(regions, rs...)
				return done{Body: body}
			}), Options{})
			_, want, _ := regionBody(f, data, spans...)
			c := h.dial(t)
			const rounds = 5
			for id := range int32(rounds) {
				c.send(fetch, id, "")
				c.expect(id, string(want))
			}
			for _, r := range regions {
				await(t, "release", r.released)
			}
			h.Close()
			for _, r := range regions {
				if len(r.released) > 0 {
					t.Error("a region was released twice")
				}
			}
			sent := int64(0)
			if name == "TCP" && haveSendfile {
				sent = rounds * (regionCopyBelow + 300<<10 + 2<<20)
			}
			if got := h.Stats().BytesSendfile; got != sent {
				t.Errorf("%d bytes by sendfile, want %d", got, sent)
			}
			if got, want := h.Stats().BytesOut, int64(rounds*(len(want)+8)); got != want {
				t.Errorf("%d bytes out, want %d", got, want)
			}
		})
	}
}

// hidden is a TCP connection behind another type, as portmux hands out.
type hidden struct {
	net.Conn
	tcp *net.TCPConn
}

func (h hidden) TCP() *net.TCPConn { return h.tcp }

type hiding struct{ net.Listener }

func (l hiding) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return hidden{nc, nc.(*net.TCPConn)}, nil
}

func TestSendfileBehindPortmux(t *testing.T) {
	f, data := testFile(t, 1<<20)
	body, want, _ := regionBody(f, data, [2]int64{0, 1 << 20})
	h := onListener(t, hiding{loopback(t)}, dispatcher(func(context.Context, *Session, kafkaproto.RequestHeader, []byte) Call {
		return done{Body: body}
	}), Options{})
	c := h.dial(t)
	c.send(fetch, 1, "")
	c.expect(1, string(want))
	h.Close()
	if haveSendfile && h.Stats().BytesSendfile != 1<<20 {
		t.Errorf("%d bytes by sendfile", h.Stats().BytesSendfile)
	}
}

// A file that is shorter than its region ends the connection: what follows would be read as records.
func TestShortFile(t *testing.T) {
	f, data := testFile(t, 100<<10)
	for name, connect := range map[string]func(testing.TB, Dispatcher, Options) *harness{"TCP": onTCP, "pipe": onPipe} {
		for _, span := range [][2]int64{{100<<10 - 10, 20}, {50 << 10, 60 << 10}, {200 << 10, 20 << 10}} {
			t.Run(name, func(t *testing.T) {
				region := newFileRegion(f, span)
				h := connect(t, dispatcher(func(_ context.Context, _ *Session, _ kafkaproto.RequestHeader, body []byte) Call {
					if string(body) == "whole" {
						return done{Body: kafkaproto.Bytes(data)}
					}
					return done{Body: kafkaproto.Encoded{Parts: []kafkaproto.Part{{Region: region}}, Size: region.Len()}}
				}), Options{})
				c := h.dial(t)
				c.send(fetch, 1, "whole")
				c.expect(1, string(data))
				c.send(fetch, 2, "short")
				if _, err := readFrame(c); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
					t.Errorf("%v, want the stream cut", err)
				}
				await(t, "release", region.released)
				h.awaitNoConnections(t)
				if !strings.Contains(h.log.String(), "shorter") {
					t.Errorf("log: %s", h.log)
				}
			})
		}
	}
}

// A client that does not read must not make the server hold more than a few answers, and sendfile must wait with it.
func TestSlowReaderOfFiles(t *testing.T) {
	f, data := testFile(t, 8<<20)
	var finished atomic.Int64
	h := onTCP(t, dispatcher(func(context.Context, *Session, kafkaproto.RequestHeader, []byte) Call {
		return finish(func(context.Context) (Reply, error) {
			finished.Add(1)
			body, _, _ := regionBody(f, data, [2]int64{0, 8 << 20})
			return Reply{Body: body}, nil
		})
	}), Options{Limits: Limits{MaxInFlight: 4}})
	_, want, _ := regionBody(f, data, [2]int64{0, 8 << 20})
	c := h.dial(t)
	// Else the kernel lets it grow until whole answers fit.
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(256 << 10); err != nil {
		t.Fatal(err)
	}
	const requests = 10
	go func() {
		for id := range int32(requests) {
			if _, err := c.Write(frame(fetch, id, "")); err != nil {
				return
			}
		}
	}()
	for id := range int32(requests) {
		c.expect(id, string(want))
		// The next answer is under way, as the socket's buffers do not hold all of it; the one behind it may be made.
		if n := finished.Load(); n > int64(id)+3 {
			t.Errorf("%d answers made when %d were read", n, id+1)
		}
	}
}

// A client that stops in the middle of a file is cut off in time.
func TestStuckReaderOfFiles(t *testing.T) {
	f, data := testFile(t, 64<<20)
	region := newFileRegion(f, [2]int64{0, int64(len(data))})
	h := onTCP(t, dispatcher(func(context.Context, *Session, kafkaproto.RequestHeader, []byte) Call {
		return done{Body: kafkaproto.Encoded{Parts: []kafkaproto.Part{{Region: region}}, Size: region.Len()}}
	}), Options{Limits: Limits{Write: 20 * time.Millisecond}})
	c := h.dial(t)
	c.send(fetch, 1, "")
	await(t, "release", region.released)
	h.awaitNoConnections(t)
	if h.Stats().Timeouts != 1 {
		t.Errorf("%+v, log: %s", h.Stats(), h.log)
	}
}

// countingConn counts writes.
type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// Answers that are ready together leave together.
func TestCoalescing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		var writes atomic.Int64
		h := onPipe(t, dispatcher(func(ctx context.Context, sess *Session, hd kafkaproto.RequestHeader, body []byte) Call {
			if hd.CorrelationID == 0 {
				return s.dispatch(ctx, sess, hd, body)
			}
			return done{Body: kafkaproto.Bytes([]byte("ready"))}
		}), Options{})
		defer h.Close()
		nc, server := net.Pipe()
		defer func() { _ = nc.Close() }()
		h.pipe.conns <- countingConn{server, &writes}
		c := &client{Conn: nc, t: t}
		for id := range int32(10) {
			c.send(produce, id, "")
		}
		synctest.Wait()
		s.answer(0)
		c.expect(0, "answer 0")
		for id := range int32(9) {
			c.expect(id+1, "ready")
		}
		if n := writes.Load(); n != 1 {
			t.Errorf("%d writes for 10 answers", n)
		}
	})
}

// All kinds of parts, one after the other, through one output.
func TestOutputAtRandom(t *testing.T) {
	f, data := testFile(t, 1<<20)
	rng := rand.New(rand.NewPCG(8, 8))
	nc, peer := tcpPair(t)
	var counts counters
	var o output
	o.init(nc, time.Minute, &counts)
	var want []byte
	received := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(peer) // what is missing shows in the comparison
		received <- b
	}()
	header := kafkaproto.RequestHeader{Key: metadata, Version: 12, CorrelationID: 9}
	for range 400 {
		var body kafkaproto.Encoded
		for range rng.IntN(5) {
			n := []int{0, 1, 100, copyBelow - 1, copyBelow, outBuffer - 1, outBuffer, 100 << 10}[rng.IntN(8)]
			at := rng.IntN(len(data) - n)
			part := kafkaproto.Part{Bytes: data[at : at+n]}
			if rng.IntN(2) == 0 {
				part = kafkaproto.Part{Region: newFileRegion(f, [2]int64{int64(at), int64(n)})}
			}
			body.Parts = append(body.Parts, part)
			body.Size += n
		}
		plain, err := body.AppendTo([]byte{0, 0, 0, 9, 0})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, byte(len(plain)>>24), byte(len(plain)>>16), byte(len(plain)>>8), byte(len(plain)))
		want = append(want, plain...)
		if err := o.add(header, body); err != nil {
			t.Fatal(err)
		}
		if rng.IntN(3) == 0 {
			if err := o.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(o.flush(), nc.Close()); err != nil {
		t.Fatal(err)
	}
	if got := await(t, "bytes", received); !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, %d were sent", len(got), len(want))
	}
}

// tcpPair returns both ends of a loopback connection.
func tcpPair(t *testing.T) (one, other net.Conn) {
	t.Helper()
	l := loopback(t)
	defer func() { _ = l.Close() }()
	var err error
	if one, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if other, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Close(); _ = other.Close() })
	return one, other
}

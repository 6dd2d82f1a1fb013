package conn

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/quorlog/quorlog/kafkaproto"
)

// BenchmarkRoundTrip is a client that waits for each answer.
func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range []int{100, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			h := newServer(dispatcher(func(_ context.Context, _ *Session, _ kafkaproto.RequestHeader, body []byte) Call {
				return done{Body: kafkaproto.Bytes(body[:16])}
			}), Options{})
			nc := benchClient(b, h, false)
			request := frame(produce, 1, string(make([]byte, size)))
			answer := make([]byte, 4+4+16)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := nc.Write(request); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(nc, answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFetch sends a MiB for each request: from file to socket, from a file through memory as with TLS, and from
// memory.
func BenchmarkFetch(b *testing.B) {
	const size = 1 << 20
	f, data := testFile(b, 64*size)
	for _, c := range []struct {
		name         string
		file, opaque bool
	}{{"sendfile", true, false}, {"copied", true, true}, {"memory", false, false}} {
		b.Run(c.name, func(b *testing.B) {
			next := int64(0)
			h := newServer(dispatcher(func(context.Context, *Session, kafkaproto.RequestHeader, []byte) Call {
				next = (next + size) % int64(len(data))
				if !c.file {
					return done{Body: kafkaproto.Bytes(data[next : next+size])}
				}
				r := newFileRegion(f, [2]int64{next, size})
				return done{Body: kafkaproto.Encoded{Parts: []kafkaproto.Part{{Region: r}}, Size: size}}
			}), Options{})
			nc := benchClient(b, h, c.opaque)
			request := frame(fetch, 1, "")
			answer := make([]byte, 4+4+size)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := nc.Write(request); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(nc, answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// opaque hides that its connections are of TCP.
type opaque struct{ net.Listener }

func (l opaque) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return struct{ net.Conn }{nc}, err
}

func benchClient(b *testing.B, h *harness, hide bool) net.Conn {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	if hide {
		l = opaque{l}
	}
	h.serve(b, l)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = nc.Close() })
	return nc
}

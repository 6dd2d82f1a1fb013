package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Who is too many goes by how long they have waited, never while a request is answered; and nobody is counted twice.
func TestWebConns(t *testing.T) {
	conns := &webConns{most: 3}
	enter := func() *webConn {
		c := &webConn{conns: conns}
		if over := conns.enter(c); over != nil {
			t.Fatal("there was room")
		}
		return c
	}
	a, b, c := enter(), enter(), enter()
	a.answering(true)
	d := &webConn{conns: conns}
	if over := conns.enter(d); over != b {
		t.Error("b has waited longest")
	}
	a.answering(false) // from now on it waits, behind c and d
	leave := func(c *webConn) {
		conns.mu.Lock()
		defer conns.mu.Unlock()
		c.leaveLocked()
	}
	leave(c)
	leave(c)
	leave(b)
	e := enter()
	for _, busy := range []*webConn{a, d, e} {
		busy.answering(true)
	}
	if last := (&webConn{conns: conns}); conns.enter(last) != last {
		t.Error("all are being answered: the new one goes")
	}
	b.answering(false) // it is gone
	for _, gone := range []*webConn{a, d, e} {
		leave(gone)
		gone.answering(false)
	}
	if conns.mu.open != 0 || conns.mu.waiting.Len() != 0 {
		t.Errorf("%d open, %d wait", conns.mu.open, conns.mu.waiting.Len())
	}
}

// An address that has all its connections makes room for its next one itself.
func TestWebConnsOfOneAddress(t *testing.T) {
	conns := &webConns{most: 3, mostPerIP: 2}
	enter := func(ip string) (c, over *webConn) {
		c = &webConn{conns: conns, ip: netip.MustParseAddr(ip)}
		return c, conns.enter(c)
	}
	other, _ := enter("10.0.0.2")
	first, _ := enter("10.0.0.1")
	second, over := enter("10.0.0.1")
	if over != nil {
		t.Fatal("two of an address are too many")
	}
	third, over := enter("10.0.0.1")
	if over != first {
		t.Error("another goes than the one of the same address that has waited longest")
	}
	second.answering(true)
	third.answering(true)
	if c, over := enter("10.0.0.1"); over != c {
		t.Error("there is one too many, or another pays for it")
	}
	if _, over := enter("10.0.0.2"); over != other {
		t.Error("all places are taken, and only one waits")
	}
	conns.mu.Lock()
	defer conns.mu.Unlock()
	for _, c := range []*webConn{first, second, second, third} {
		c.leaveLocked()
	}
	if left := conns.mu.perIP[second.ip]; left != 0 || len(conns.mu.perIP) != 1 {
		t.Errorf("%d are counted, of %d addresses", left, len(conns.mu.perIP))
	}
}

// What max.connections.per.ip says holds for HTTP and gRPC, too: a connection too many of an address costs that address one that
// does nothing, or is closed, and others come in as ever.
func TestConnectionsOfOneAddress(t *testing.T) {
	const most = 2
	a := testNode(t, nil, nil, fmt.Sprintf("max.connections.per.ip=%d", most))
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	from := func(ip string) *net.Dialer {
		return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: time.Minute}
	}
	if nc, err := from("127.0.0.2").Dial("tcp", a.Addr()); err != nil {
		t.Skipf("no second address here: %v", err)
	} else if err := nc.Close(); err != nil {
		t.Fatal(err)
	}
	alive := func(ip string) net.Conn {
		nc, err := from(ip).Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		if _, err := io.WriteString(nc, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		return nc
	}
	first := alive("127.0.0.2")
	for range most {
		alive("127.0.0.2")
	}
	if err := first.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("there are more connections of an address than may be: %v", err)
	}
	alive("127.0.0.3")
	watch := func(ip string) error {
		cc, err := grpc.NewClient("passthrough:///"+a.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				return from(ip).DialContext(ctx, "tcp", addr)
			}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cc.Close() })
		stream, err := healthv1.NewHealthClient(cc).Watch(t.Context(), &healthv1.HealthCheckRequest{})
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	for range most {
		if err := watch("127.0.0.2"); err != nil {
			t.Fatal(err)
		}
	}
	if err := watch("127.0.0.2"); status.Code(err) != codes.Unavailable {
		t.Errorf("one connection too many watches: %v", err)
	}
	if err := watch("127.0.0.3"); err != nil {
		t.Error(err)
	}
}

func TestFew(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	h := few(1)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- struct{}{}
		<-leave
	}))
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		return w
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask()
	}()
	<-inside
	if w := ask(); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Error(w.Code, w.Header())
	}
	close(leave)
	<-done
	go func() { <-inside }()
	if w := ask(); w.Code != http.StatusOK {
		t.Error(w.Code)
	}
}

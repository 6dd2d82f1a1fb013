package portmux

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// start serves a port until the test ends.
func start(t *testing.T, o Options) (*Mux, *lines) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	m := New(l, o)
	done := make(chan error, 1)
	go func() { done <- m.Serve() }()
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m, log
}

func dial(t *testing.T, m *Mux) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return nc
}

// turnedAway checks that a client who says this much is closed without a word.
func turnedAway(t *testing.T, m *Mux, says string) {
	t.Helper()
	nc, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		return // the reset may be that fast
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, says) // as above
	if n, err := nc.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("a client is kept that says %q", says)
	}
}

func send(t *testing.T, nc net.Conn, data string) {
	t.Helper()
	if _, err := io.WriteString(nc, data); err != nil {
		t.Fatal(err)
	}
}

func TestKafka(t *testing.T) {
	m, _ := start(t, Options{})
	kafka := m.Kafka()
	for first := range 7 {
		client := dial(t, m)
		want := string([]byte{byte(first), 0, 0, 5}) + "hello"
		for i := range want { // however the bytes come
			send(t, client, want[i:i+1])
		}
		server, err := kafka.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(server, got); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
		tcp := server.(*Conn).TCP()
		if tcp == nil {
			t.Fatal("no TCP connection beneath")
		}
		if _, err := tcp.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, got[:6]); err != nil || string(got[:6]) != "answer" {
			t.Errorf("%q, %v", got[:6], err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
}

// One port carries clients and peers; the first byte is seen again.
func TestPeers(t *testing.T) {
	m, log := start(t, Options{})
	peers, kafka := m.Peers(), m.Kafka()
	for range 3 {
		peer, client := dial(t, m), dial(t, m)
		send(t, peer, "\xf1peer")
		send(t, client, "\x00\x00\x00\x05")
		for l, want := range map[net.Listener]string{peers: "\xf1peer", kafka: "\x00\x00\x00\x05"} {
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(server, got); err != nil || string(got) != want {
				t.Errorf("%q, %v", got, err)
			}
			if server.(*Conn).TCP() == nil {
				t.Error("no TCP connection beneath")
			}
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

// A client that was never answered must not take the end of its connection for a refusal; peers have an end in order.
func TestEnds(t *testing.T) {
	m, _ := start(t, Options{})
	for l, c := range map[net.Listener]struct {
		sent string
		want error
	}{m.Kafka(): {"\x00", syscall.ECONNRESET}, m.Peers(): {"\xf1", io.EOF}} {
		client := dial(t, m)
		send(t, client, c.sent)
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.sent, err, c.want)
		}
	}
}

func TestHTTP(t *testing.T) {
	m, log := start(t, Options{})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+m.Addr().String()+"/metrics", strings.NewReader(strings.Repeat("x", 1000)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "Quorlog") {
			t.Errorf("%s: %s %q %v", method, resp.Status, body, err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	if !strings.Contains(log.String(), "127.0.0.1") || !strings.Contains(log.String(), "HTTP") {
		t.Errorf("log: %s", log)
	}
}

// Where HTTP is served, it comes out whole, on a connection that ends in order; the Kafka side is as before.
func TestHTTPServed(t *testing.T) {
	m, log := start(t, Options{})
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // the client checks
		_, _ = w.Write(body)
	})}
	served := make(chan error, 1)
	web := m.HTTP()
	go func() { served <- server.Serve(web) }()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	want := strings.Repeat("echo", 100_000)
	resp, err := client.Post("http://"+m.Addr().String()+"/any", "text/plain", strings.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != want {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	kafka := dial(t, m)
	send(t, kafka, "\x00")
	nc, err := m.Kafka().Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(nc.Close(), server.Close()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

func TestTLS(t *testing.T) {
	m, log := start(t, Options{})
	_, err := tls.Dial("tcp", m.Addr().String(), &tls.Config{ServerName: "localhost", MinVersion: tls.VersionTLS12})
	var alert *net.OpError
	if !errors.As(err, &alert) || alert.Op != "remote error" {
		t.Errorf("%v, want an alert of the server", err)
	}
	if !strings.Contains(log.String(), "TLS") {
		t.Errorf("log: %s", log)
	}
}

func TestOthersAreClosed(t *testing.T) {
	m, log := start(t, Options{})
	for _, first := range []string{"\x07", "\x7f", "\x80", "\xf1", "\xff", " ", "a", "\n"} {
		nc := dial(t, m)
		send(t, nc, first)
		if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%q: %d bytes, %v", first, n, err)
		}
	}
	if !strings.Contains(log.String(), "does not speak") {
		t.Errorf("log: %s", log)
	}
}

// A silent connection is closed in time and costs no line: health checks do that all day.
func TestSilence(t *testing.T) {
	m, log := start(t, Options{FirstByte: time.Millisecond})
	turnedAway(t, m, "")
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

// The port works on after strangers, and while others are silent.
func TestStrangersDoNotStopThePort(t *testing.T) {
	m, _ := start(t, Options{FirstByte: time.Minute})
	silent := dial(t, m)
	for range 100 {
		send(t, dial(t, m), "\xff")
	}
	client := dial(t, m)
	send(t, client, "\x00")
	server, err := m.Kafka().Accept()
	if err != nil {
		t.Fatal(err)
	}
	if server.RemoteAddr().String() != client.LocalAddr().String() {
		t.Errorf("%s came out, %s went in", server.RemoteAddr(), client.LocalAddr())
	}
	if err := errors.Join(server.Close(), silent.Close()); err != nil {
		t.Error(err)
	}
}

// Close must not wait for silent connections: FirstByte is an hour here.
func TestCloseWithSilentConnection(t *testing.T) {
	m, _ := start(t, Options{FirstByte: time.Hour})
	silent := dial(t, m)
	// The byte behind it has been accepted, so the silent one has too.
	send(t, dial(t, m), "\x00")
	server, err := m.Kafka().Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("still open")
	}
	if _, err := m.Kafka().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}

func TestTooManySilentConnections(t *testing.T) {
	m, log := start(t, Options{FirstByte: time.Hour, MaxSniffing: 2})
	for range 2 {
		dial(t, m)
	}
	turnedAway(t, m, "")
	if !strings.Contains(log.String(), "refused") {
		t.Errorf("log: %s", log)
	}
}

// Connections that nobody accepts count as well: clients could make any number of them while the server is busy.
func TestTooManyInTheQueue(t *testing.T) {
	const most, tries = 2, 50
	m, log := start(t, Options{MaxSniffing: most})
	away := make(chan struct{}, tries)
	for range tries {
		nc, err := net.Dial("tcp", m.Addr().String())
		if err != nil {
			away <- struct{}{} // the reset may be that fast
			continue
		}
		t.Cleanup(func() { _ = nc.Close() })
		_, _ = nc.Write([]byte{0}) // it may be closed already
		go func() {
			if _, err := nc.Read(make([]byte, 1)); err != nil {
				away <- struct{}{}
			}
		}()
	}
	for n := range tries - most {
		select {
		case <-away:
		case <-time.After(10 * time.Second):
			t.Fatalf("only %d are turned away", n)
		}
	}
	if !strings.Contains(log.String(), "wait to be served") {
		t.Errorf("log: %s", log)
	}
	for range most { // taken, they make room
		server, err := m.Kafka().Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = server.Close() }()
	}
	send(t, dial(t, m), "\x00")
	server, err := m.Kafka().Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
}

// One address can't take all places.
func TestTooManyOfAnAddress(t *testing.T) {
	m, log := start(t, Options{FirstByte: time.Hour, MaxSniffing: 10, MaxSniffingPerIP: 2})
	for range 2 {
		dial(t, m)
	}
	turnedAway(t, m, "")
	if !strings.Contains(log.String(), "of this address") {
		t.Errorf("log: %s", log)
	}
	other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	nc, err := other.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Skipf("no second address: %v", err)
	}
	defer nc.Close()
	send(t, nc, "\x00")
	server, err := m.Kafka().Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
}

// flaky is a listener that fails some times before it blocks until Close.
type flaky struct {
	net.Listener
	failures int64
	tries    atomic.Int64
	closed   chan struct{}
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.tries.Add(1) <= f.failures {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	<-f.closed
	return nil, net.ErrClosed
}

func (f *flaky) Close() error   { close(f.closed); return nil }
func (f *flaky) Addr() net.Addr { return &net.TCPAddr{} }

// Running out of descriptors must neither end the port nor make it spin.
func TestTemporaryAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &flaky{failures: 12, closed: make(chan struct{})}
		m := New(l, Options{Logger: slog.New(slog.DiscardHandler)})
		done := make(chan error, 1)
		started := time.Now()
		go func() { done <- m.Serve() }()
		synctest.Wait()
		if n := l.tries.Load(); n != 1 {
			t.Errorf("%d tries at once", n)
		}
		<-time.After(time.Hour) // of the bubble
		synctest.Wait()
		if n := l.tries.Load(); n != 13 {
			t.Errorf("%d tries in %v", n, time.Since(started))
		}
		if err := errors.Join(m.Close(), <-done); err != nil {
			t.Error(err)
		}
	})
}

// broken is a listener that fails for good.
type broken struct{ net.Listener }

func (broken) Accept() (net.Conn, error) { return nil, syscall.EINVAL }
func (broken) Close() error              { return nil }
func (broken) Addr() net.Addr            { return &net.TCPAddr{} }

func TestPermanentAcceptError(t *testing.T) {
	m := New(broken{}, Options{Logger: slog.New(slog.DiscardHandler)})
	if err := m.Serve(); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
}

func TestLogIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &lines{}
		log := limitedLog{logger: slog.New(slog.NewTextHandler(out, nil))}
		for range 100 {
			log.warn("a line")
		}
		if n := strings.Count(out.String(), "a line"); n != quietLines {
			t.Errorf("%d lines", n)
		}
		<-time.After(quietPeriod)
		log.warn("another")
		if !strings.Contains(out.String(), "suppressed=90") {
			t.Errorf("log: %s", out)
		}
	})
}

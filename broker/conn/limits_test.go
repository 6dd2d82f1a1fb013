package conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/kafkaproto"
)

// closedAfter returns when the server closes a connection. Only for connections in a bubble.
func (c *client) closedAfter() time.Duration {
	c.t.Helper()
	start := time.Now()
	c.expectClosed()
	return time.Since(start)
}

func wantDuration(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want || got > want+want/50 {
		t.Errorf("%s after %v, want %v", what, got, want)
	}
}

func TestFirstByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onPipe(t, dispatcher(echo), Options{})
		defer h.Close()
		wantDuration(t, "closed", h.dial(t).closedAfter(), defaultFirstByte)
	})
}

func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onPipe(t, dispatcher(echo), Options{})
		defer h.Close()
		c := h.dial(t)
		for id := range int32(3) { // each request starts the time anew
			c.send(metadata, id, "")
			c.expect(id, "")
			<-time.After(defaultIdle - time.Second)
		}
		wantDuration(t, "closed", c.closedAfter(), time.Second)
		synctest.Wait()
		if h.log.String() != "" {
			t.Errorf("log: %s", h.log)
		}
		if n := h.Stats().Timeouts; n != 1 {
			t.Errorf("%d timeouts", n)
		}
	})
}

// A request that takes longer than the idle time must be answered, and the time counted from its answer on.
func TestIdleWhileARequestRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onPipe(t, dispatcher(func(context.Context, *Session, kafkaproto.RequestHeader, []byte) Call {
			return finish(func(context.Context) (Reply, error) {
				<-time.After(5*defaultIdle + time.Minute)
				return Reply{Body: kafkaproto.Bytes([]byte("late"))}, nil
			})
		}), Options{})
		defer h.Close()
		c := h.dial(t)
		c.send(kafkaproto.KeyJoinGroup, 1, "")
		c.expect(1, "late")
		wantDuration(t, "closed", c.closedAfter(), defaultIdle)
	})
}

// Whoever sends a frame byte by byte is cut off, wherever in the frame it stops.
func TestSlowFrames(t *testing.T) {
	whole := frame(metadata, 1, strings.Repeat("x", 200<<10))
	for _, sent := range []int{1, 3, 4, 5, 100, 64 << 10, 64<<10 + 5, 150 << 10, len(whole) - 1} {
		t.Run(fmt.Sprint(sent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := onPipe(t, dispatcher(echo), Options{})
				defer h.Close()
				c := h.dial(t)
				c.raw(whole[:sent])
				wantDuration(t, "closed", c.closedAfter(), defaultPartial)
				synctest.Wait()
				if h.Stats().Timeouts != 1 {
					t.Error("not counted")
				}
			})
		})
	}
}

// A trickle does not prolong the time.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onPipe(t, dispatcher(echo), Options{})
		defer h.Close()
		c := h.dial(t)
		start := time.Now()
		for _, b := range frame(metadata, 1, strings.Repeat("x", 1000)) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			<-time.After(time.Second)
		}
		// The length, which takes 3 s, is a step of its own; a write may just pass at the deadline.
		if got, want := time.Since(start), 3*time.Second+defaultPartial; got < want || got > want+2*time.Second {
			t.Errorf("closed after %v, want %v", got, want)
		}
	})
}

// A large frame over a slow but steady line is read: each MiB has its own time.
func TestSlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onPipe(t, dispatcher(echo), Options{})
		defer h.Close()
		c := h.dial(t)
		body := strings.Repeat("x", 5<<20)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for data := frame(metadata, 1, body); len(data) > 0; {
				n := min(len(data), 100<<10)
				if _, err := c.Write(data[:n]); err != nil {
					return
				}
				data = data[n:]
				<-time.After(2 * time.Second) // 20 s for each MiB
			}
		}()
		c.expect(1, body)
		<-sent
	})
}

// Whoever does not take its answers is cut off, and until then little is done for it.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dispatched atomic.Int64
		h := onPipe(t, dispatcher(func(context.Context, *Session, kafkaproto.RequestHeader, []byte) Call {
			dispatched.Add(1)
			return done{Body: kafkaproto.Bytes(make([]byte, 1<<20))}
		}), Options{})
		defer h.Close()
		c := h.dial(t)
		start := time.Now()
		for id := int32(0); ; id++ {
			if _, err := c.Write(frame(fetch, id, "")); err != nil {
				break
			}
		}
		wantDuration(t, "closed", time.Since(start), defaultWrite)
		if n := dispatched.Load(); n > 3 {
			t.Errorf("%d answers of 1 MiB were made for a client that reads none", n)
		}
	})
}

func TestGate(t *testing.T) {
	var phase atomic.Uint32
	phase.Store(uint32(Gated))
	h := onTCP(t, dispatcher(echo), Options{Phase: func(*Session) Phase { return Phase(phase.Load()) }})
	c := h.dial(t)
	for i, key := range []kafkaproto.Key{kafkaproto.KeyApiVersions, kafkaproto.KeySASLHandshake, kafkaproto.KeySASLAuthenticate} {
		c.send(key, int32(i), "allowed")
		c.expect(int32(i), "allowed")
	}
	c.send(metadata, 9, "forbidden")
	c.expectClosed()

	c = h.dial(t)
	largest := strings.Repeat("x", defaultMaxGatedFrame-12)
	c.send(kafkaproto.KeySASLAuthenticate, 1, largest)
	c.expect(1, largest)
	c.raw([]byte{0, 0, 0x40, 1}) // 16 KiB and one byte
	c.expectClosed()

	c = h.dial(t)
	c.send(kafkaproto.KeySASLAuthenticate, 1, "secret")
	c.expect(1, "secret")
	phase.Store(uint32(Open))
	c.send(metadata, 2, strings.Repeat("x", 1<<20))
	c.expect(2, strings.Repeat("x", 1<<20))

	// A login that has expired: only another one is served.
	phase.Store(uint32(Expired))
	c.send(kafkaproto.KeySASLHandshake, 3, "again")
	c.expect(3, "again")
	c.send(metadata, 4, "forbidden")
	c.expectClosed()
}

// TestGateAnswersInTurn: what a client that is let in has sent behind its last message counts as sent after the login, as in
// Kafka, and one that is not let in never has two requests under way.
func TestGateAnswersInTurn(t *testing.T) {
	var in, underWay atomic.Int32
	d := dispatcher(func(_ context.Context, _ *Session, h kafkaproto.RequestHeader, body []byte) Call {
		if underWay.Add(1) > 1 {
			t.Error("two requests at once before the login")
		}
		return finishing(func() (Reply, error) {
			underWay.Add(-1)
			if h.Key == kafkaproto.KeySASLAuthenticate {
				in.Store(1)
			}
			return Reply{Body: kafkaproto.Bytes(body)}, nil
		})
	})
	h := onTCP(t, d, Options{Phase: func(*Session) Phase {
		if in.Load() == 1 {
			return Open
		}
		return Gated
	}})
	c := h.dial(t)
	var all []byte
	for i, key := range []kafkaproto.Key{kafkaproto.KeyApiVersions, kafkaproto.KeySASLHandshake, kafkaproto.KeySASLAuthenticate, metadata} {
		all = append(all, frame(key, int32(i), "x")...)
	}
	c.raw(all)
	for i := range int32(4) {
		c.expect(i, "x")
	}
}

// TestRefusalIsReadBeforeTheEnd: the answer after which a connection is closed arrives, though a connection to which nothing
// was served ends with a reset.
func TestRefusalIsReadBeforeTheEnd(t *testing.T) {
	d := dispatcher(func(_ context.Context, _ *Session, _ kafkaproto.RequestHeader, body []byte) Call {
		return finishing(func() (Reply, error) { return Reply{Body: kafkaproto.Bytes(body), Close: true}, nil })
	})
	h := onTCP(t, d, Options{Phase: func(*Session) Phase { return Gated }})
	for range 20 {
		c := h.dial(t)
		c.send(kafkaproto.KeySASLAuthenticate, 1, "wrong")
		c.expect(1, "wrong")
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("the connection ends with %v", err)
		}
	}
}

// finishing is a call whose answer is made when its turn has come.
type finishing func() (Reply, error)

func (f finishing) Finish(context.Context) (Reply, error) { return f() }

// The time to authenticate is not prolonged by sending requests that are allowed.
func TestAuthenticateInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onPipe(t, dispatcher(echo), Options{Phase: func(*Session) Phase { return Gated }})
		defer h.Close()
		silent := h.dial(t)
		silent.send(kafkaproto.KeyApiVersions, 1, "")
		silent.expect(1, "")
		wantDuration(t, "closed", silent.closedAfter(), defaultAuthenticate)
		busy := h.dial(t)
		start := time.Now()
		for id := int32(0); ; id++ {
			if _, err := busy.Write(frame(kafkaproto.KeyApiVersions, id, "")); err != nil {
				break
			}
			if _, err := readFrame(busy); err != nil {
				break
			}
			<-time.After(time.Second)
		}
		wantDuration(t, "closed", time.Since(start), defaultAuthenticate)
	})
	// Nor by sending one slowly.
	whole := frame(kafkaproto.KeySASLAuthenticate, 1, strings.Repeat("x", 10<<10))
	for _, sent := range []int{1, 4, 5, 100, 5 << 10} {
		synctest.Test(t, func(t *testing.T) {
			h := onPipe(t, dispatcher(echo), Options{Phase: func(*Session) Phase { return Gated }})
			defer h.Close()
			start := time.Now()
			c := h.dial(t)
			<-time.After(2 * time.Second)
			c.raw(whole[:sent])
			c.expectClosed()
			wantDuration(t, fmt.Sprintf("closed behind %d bytes", sent), time.Since(start), defaultAuthenticate)
		})
	}
}

func TestGarbage(t *testing.T) {
	h := onTCP(t, dispatcher(echo), Options{})
	for _, data := range []string{
		"\x00\x00\x00\x00",                     // empty frame
		"\xff\xff\xff\xff",                     // negative
		"\x06\x40\x00\x01",                     // above 100 MiB
		"\x7f\xff\xff\xff",                     // 2 GiB
		"\x00\x00\x00\x03abc",                  // no header
		"\x00\x00\x00\x0a\x01\x00aaaaaaaa",     // unknown key
		"\x00\x00\x00\x0a\x00\x03\xff\xffaaaa", // negative version
		"GET / HTTP/1.1\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		c := h.dial(t)
		c.send(metadata, 1, "before")
		c.expect(1, "before")
		c.raw([]byte(data))
		if len(data) > 20 || data[0] == 0 && len(data) > 13 {
			c.raw(make([]byte, 10))
		}
		if strings.HasSuffix(data, "aaaa") && len(data) < 14 {
			c.raw([]byte("aa"))
		}
		c.expectClosed()
	}
	c := h.dial(t)
	c.send(metadata, 1, "still alive")
	c.expect(1, "still alive")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	h.awaitNoConnections(t)
	if n := h.Stats().Invalid; n != 9 {
		t.Errorf("%d invalid connections counted", n)
	}
}

func TestConnectionCaps(t *testing.T) {
	h := onTCP(t, dispatcher(echo), Options{Limits: Limits{MaxConnections: 3, MaxConnectionsPerIP: 2}})
	ask := func(c *client) {
		c.send(metadata, 1, "x")
		c.expect(1, "x")
	}
	first, second := h.dial(t), h.dial(t)
	ask(first)
	ask(second)
	h.dial(t).expectClosed()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for h.Stats().Connections > 1 { // until the server has noticed
		ask(second)
	}
	ask(h.dial(t))
	if !strings.Contains(h.log.String(), "too many connections from this address") || h.Stats().Refused != 1 {
		t.Errorf("%+v, log: %s", h.Stats(), h.log)
	}
}

func TestAdmission(t *testing.T) {
	var a admission
	a.init(Limits{MaxConnections: 3, MaxConnectionsPerIP: 2, AcceptRate: 10})
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for i, step := range []struct {
		ip      netip.Addr
		leave   bool
		refused bool
	}{
		{ip: one}, {ip: one}, {ip: one, refused: true}, {ip: two}, {ip: two, refused: true},
		{ip: one, leave: true}, {ip: two}, {ip: one, refused: true},
	} {
		if step.leave {
			a.leave(step.ip)
			continue
		}
		if reason := a.enter(step.ip); (reason != "") != step.refused {
			t.Errorf("step %d: %q", i, reason)
		}
	}
	a.leave(two)
	a.leave(two)
	a.leave(one)
	if a.mu.total != 0 || len(a.mu.perIP) != 0 {
		t.Errorf("%+v left", a.mu.perIP)
	}
}

func TestAcceptRate(t *testing.T) {
	var a admission
	a.init(Limits{AcceptRate: 10})
	now := time.Unix(1000, 0)
	for i := range 10 {
		if d := a.reserve(now); d != 0 {
			t.Errorf("connection %d waits %v", i, d)
		}
	}
	for i := range 5 {
		if d := a.reserve(now); d != time.Duration(i+1)*100*time.Millisecond {
			t.Errorf("connection %d waits %v", 10+i, d)
		}
	}
	if d := a.reserve(now.Add(time.Hour)); d != 0 || a.mu.tokens != 9 {
		t.Errorf("after an hour %v, %v more", d, a.mu.tokens)
	}
}

// The memory of all requests is bounded; small ones pass nevertheless.
func TestRequestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		const large = 600 << 10
		h := onPipe(t, dispatcher(s.dispatch), Options{Limits: Limits{MaxFrame: 1 << 20, MaxRequestMemory: 1 << 20}})
		defer h.Close()
		first, second, third := h.dial(t), h.dial(t), h.dial(t)
		first.send(produce, 1, strings.Repeat("x", large))
		go second.send(produce, 2, strings.Repeat("x", large))
		s.expectStarted(t, 1)
		third.send(kafkaproto.KeyHeartbeat, 3, "")
		s.expectStarted(t, 1, 3)
		s.answer(3)
		third.expect(3, "answer 3")
		s.answer(1)
		first.expect(1, "answer 1")
		s.expectStarted(t, 1, 3, 2)
		s.answer(2)
		second.expect(2, "answer 2")
		// Nothing leaks: invalid, abandoned and answered requests give their memory back.
		bad := h.dial(t)
		go func() { _, _ = bad.Write(append([]byte{0, 0, 0x80, 0}, make([]byte, 0x8000)...)[:0x8004]) }()
		synctest.Wait()
		cut := h.dial(t)
		cut.raw(frame(produce, 5, strings.Repeat("x", large))[:100<<10])
		if err := errors.Join(cut.Close(), bad.Close()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if !h.memory.all.TryAcquire(1 << 20) {
			t.Error("memory has leaked")
		}
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		h := onPipe(t, dispatcher(s.dispatch), Options{})
		idle, partial, busy := h.dial(t), h.dial(t), h.dial(t)
		partial.raw(frame(metadata, 1, "")[:7])
		busy.send(produce, 2, "")
		busy.send(metadata, 3, "")
		s.expectStarted(t, 2)
		stopped := make(chan error, 1)
		go func() { stopped <- h.Shutdown(t.Context()) }()
		idle.expectClosed()
		partial.expectClosed()
		s.answer(2)
		s.answer(3)
		busy.expect(2, "answer 2")
		busy.expect(3, "answer 3")
		busy.expectClosed()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if h.log.String() != "" {
			t.Errorf("log: %s", h.log)
		}
	})
}

// readTelling is a TCP listener whose connections tell what the server has read of them.
type readTelling struct {
	net.Listener
	read chan int
}

func (l readTelling) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tellingConn{nc.(*net.TCPConn), l.read}, nil
}

type tellingConn struct {
	*net.TCPConn
	read chan int
}

func (c tellingConn) TCP() *net.TCPConn { return c.TCPConn }

func (c tellingConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 {
		c.read <- n
	}
	return n, err
}

// Clients take an orderly end before the first answer for a refusal (of TLS, or of their password) and give up; franz-go fails
// the records that it was to send. A node that stops tells them nothing but to try again.
func TestShutdownResetsWhatWasNeverAnswered(t *testing.T) {
	l := readTelling{loopback(t), make(chan int, 9)}
	h := onListener(t, l, dispatcher(echo), Options{})
	first, asked, answered := h.dial(t), h.dial(t), h.dial(t)
	asked.send(kafkaproto.KeyApiVersions, 1, "x")
	asked.expect(1, "x")
	await(t, "the question for versions", l.read)
	answered.send(metadata, 1, "x")
	answered.expect(1, "x")
	await(t, "the request", l.read)
	first.raw(frame(metadata, 1, "")[:7])
	await(t, "part of a request", l.read)
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("before the first answer: %v, want a reset", err)
	}
	if _, err := asked.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("before the first answer that is about something: %v, want a reset", err)
	}
	if _, err := answered.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after an answer: %v, want an orderly end", err)
	}
}

// Nor is it a refusal when a client, or the network, was slow. Who has sent something wrong is told so, and who does not say who he is.
func TestWhoIsLateIsNotRefused(t *testing.T) {
	const soon = 200 * time.Millisecond
	for name, test := range map[string]struct {
		limits Limits
		phase  Phase
		sends  []byte
		want   error
	}{
		"no first byte":         {Limits{FirstByte: soon}, Open, nil, syscall.ECONNRESET},
		"a part of a length":    {Limits{Partial: soon}, Open, frame(metadata, 1, "")[:2], syscall.ECONNRESET},
		"a part of a request":   {Limits{Partial: soon}, Open, frame(metadata, 1, "")[:7], syscall.ECONNRESET},
		"something wrong":       {Limits{}, Open, []byte{0xff, 0xff, 0xff, 0xff}, io.EOF},
		"nothing about himself": {Limits{Authenticate: soon, FirstByte: time.Hour}, Gated, nil, io.EOF},
		"a part of a login":     {Limits{Authenticate: soon, FirstByte: time.Hour}, Gated, frame(17, 1, "")[:7], io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			h := onTCP(t, dispatcher(echo), Options{Limits: test.limits, Phase: func(*Session) Phase { return test.phase }})
			c, err := net.Dial("tcp", h.addr)
			if err == nil { // else it was held up for so long that it is reset already
				defer c.Close()
				_, _ = c.Write(test.sends) // the same
				_, err = c.Read(make([]byte, 1))
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func TestShutdownEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		h := onPipe(t, dispatcher(s.dispatch), Options{})
		c := h.dial(t)
		c.send(fetch, 1, "")
		s.expectStarted(t, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		c.expectClosed()
	})
}

func TestServeAfterClose(t *testing.T) {
	h := newServer(dispatcher(echo), Options{})
	h.Close()
	l := loopback(t)
	if err := h.Serve(l); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v, want the listener closed", err)
	}
}

// flaky is a listener that fails some times, then for good.
type flaky struct {
	net.Listener
	failures []error
}

func (f *flaky) Accept() (net.Conn, error) {
	err := f.failures[0]
	f.failures = f.failures[1:]
	return nil, err
}

// Serve waits out errors that pass, and tells a closed listener from a broken one.
func TestAcceptErrors(t *testing.T) {
	for _, last := range []error{syscall.EINVAL, net.ErrClosed} {
		synctest.Test(t, func(t *testing.T) {
			h := newServer(dispatcher(echo), Options{})
			defer h.Close()
			l := &flaky{failures: []error{syscall.EMFILE, syscall.ENFILE, syscall.EMFILE, last}}
			start := time.Now()
			err := h.Serve(l)
			if errors.Is(last, net.ErrClosed) && err != nil || !errors.Is(last, net.ErrClosed) && !errors.Is(err, last) {
				t.Errorf("%v after %v", err, last)
			}
			wantDuration(t, "given up", time.Since(start), 7*backoffFirst)
		})
	}
}

func TestQuietLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newServer(dispatcher(echo), Options{})
		for range 100 {
			h.Server.log.warn("a line")
		}
		if n := strings.Count(h.log.String(), "a line"); n != quietLines {
			t.Errorf("%d lines", n)
		}
		<-time.After(quietPeriod)
		h.Server.log.warn("another")
		if !strings.Contains(h.log.String(), "suppressed=90") {
			t.Errorf("log: %s", h.log)
		}
		h.Close()
	})
}

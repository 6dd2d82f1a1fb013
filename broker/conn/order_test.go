package conn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/quorlog/quorlog/kafkaproto"
)

const (
	produce  = kafkaproto.KeyProduce
	metadata = kafkaproto.KeyMetadata
	fetch    = kafkaproto.KeyFetch
)

// script is a dispatcher whose calls end when the test says so.
type script struct {
	mu      sync.Mutex
	started []int32
	release map[int32]chan Reply
}

func newScript() *script { return &script{release: make(map[int32]chan Reply)} }

func (s *script) channel(id int32) chan Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.release[id] == nil {
		s.release[id] = make(chan Reply, 1)
	}
	return s.release[id]
}

func (s *script) dispatch(_ context.Context, _ *Session, h kafkaproto.RequestHeader, _ []byte) Call {
	c := s.channel(h.CorrelationID)
	s.mu.Lock()
	s.started = append(s.started, h.CorrelationID)
	s.mu.Unlock()
	return finish(func(ctx context.Context) (Reply, error) {
		select {
		case r := <-c:
			return r, nil
		case <-ctx.Done():
			return Reply{}, ctx.Err()
		}
	})
}

// answer lets a call end.
func (s *script) answer(id int32) {
	s.channel(id) <- Reply{Body: kafkaproto.Bytes(fmt.Appendf(nil, "answer %d", id))}
}

func (s *script) expectStarted(t *testing.T, want ...int32) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if fmt.Sprint(s.started) != fmt.Sprint(want) {
		t.Errorf("started %v, want %v", s.started, want)
	}
}

// Produces 1, 2, 3 overlap; 4 waits for them; 5 and 6 wait for 4 and then overlap; answers keep the order.
func TestOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		h := onPipe(t, dispatcher(s.dispatch), Options{})
		defer h.Close()
		c := h.dial(t)
		for id := range int32(3) {
			c.send(produce, id+1, "")
		}
		s.expectStarted(t, 1, 2, 3)
		c.send(metadata, 4, "")
		c.send(produce, 5, "")
		c.send(produce, 6, "")
		c.send(metadata, 7, "")
		s.expectStarted(t, 1, 2, 3)
		s.answer(3)
		s.answer(2)
		s.expectStarted(t, 1, 2, 3)
		s.answer(1)
		for id := range int32(3) {
			c.expect(id+1, fmt.Sprintf("answer %d", id+1))
		}
		s.expectStarted(t, 1, 2, 3, 4)
		s.answer(4)
		c.expect(4, "answer 4")
		s.expectStarted(t, 1, 2, 3, 4, 5, 6)
		s.answer(6)
		s.answer(5)
		c.expect(5, "answer 5")
		c.expect(6, "answer 6")
		s.expectStarted(t, 1, 2, 3, 4, 5, 6, 7)
		// A Produce behind a running Metadata waits too.
		c.send(produce, 8, "")
		s.expectStarted(t, 1, 2, 3, 4, 5, 6, 7)
		s.answer(7)
		c.expect(7, "answer 7")
		s.expectStarted(t, 1, 2, 3, 4, 5, 6, 7, 8)
		s.answer(8)
		c.expect(8, "answer 8")
	})
}

// No more than MaxInFlight requests are taken from a client that does not wait.
func TestInFlightIsBounded(t *testing.T) {
	for _, limits := range []Limits{{MaxInFlight: 4}, {MaxInFlightBytes: 4 * 1012}} {
		synctest.Test(t, func(t *testing.T) {
			s := newScript()
			h := onPipe(t, dispatcher(s.dispatch), Options{Limits: limits})
			defer h.Close()
			c := h.dial(t)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for id := range int32(8) {
					c.send(produce, id, strings.Repeat("x", 1000))
				}
			}()
			s.expectStarted(t, 0, 1, 2, 3)
			s.answer(0)
			c.expect(0, "answer 0")
			s.expectStarted(t, 0, 1, 2, 3, 4)
			for id := range int32(7) {
				s.answer(id + 1)
				c.expect(id+1, fmt.Sprintf("answer %d", id+1))
			}
			<-sent
		})
	}
}

// Whatever ends when, every client gets the answers to its requests, in their order.
func TestOrderAtRandom(t *testing.T) {
	h := onTCP(t, dispatcher(func(_ context.Context, _ *Session, h kafkaproto.RequestHeader, body []byte) Call {
		text := string(body)
		if h.CorrelationID%3 == 0 {
			return done{Body: kafkaproto.Bytes(body), None: strings.HasPrefix(text, "silent")}
		}
		ready := make(chan struct{})
		go close(ready)
		return finish(func(context.Context) (Reply, error) {
			<-ready
			return Reply{Body: kafkaproto.Bytes([]byte(text)), None: strings.HasPrefix(text, "silent")}, nil
		})
	}), Options{})
	var wg sync.WaitGroup
	for n := range 8 {
		c := h.dial(t)
		rng := rand.New(rand.NewPCG(uint64(n), 1))
		var bodies []string
		for range 500 {
			body := strings.Repeat("x", rng.IntN(3000))
			if rng.IntN(5) == 0 {
				body = "silent" + body
			}
			bodies = append(bodies, body)
		}
		for _, side := range []func(io.ReadWriter, []string) error{sendBodies, compareBodies} {
			wg.Go(func() {
				if err := side(c, bodies); err != nil {
					t.Errorf("client %d: %v", n, err)
					_ = c.Close() // else the other side waits on
				}
			})
		}
	}
	wg.Wait()
}

// sendBodies sends a request for each.
func sendBodies(w io.ReadWriter, bodies []string) error {
	for i, body := range bodies {
		key := produce
		if len(body)%7 == 0 {
			key = metadata
		}
		if _, err := w.Write(frame(key, int32(i), body)); err != nil {
			return err
		}
	}
	return nil
}

// compareBodies reads the answers to those that have one.
func compareBodies(r io.ReadWriter, bodies []string) error {
	for i, body := range bodies {
		if strings.HasPrefix(body, "silent") {
			continue
		}
		answer, err := readFrame(r)
		if err != nil {
			return err
		}
		if want := string(binary.BigEndian.AppendUint32(nil, uint32(i))) + body; string(answer) != want {
			return fmt.Errorf("answer %.40q, want %.40q", answer, want)
		}
	}
	return nil
}

func TestFinishFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		finished := make(chan int32, 8)
		h := onPipe(t, dispatcher(func(ctx context.Context, sess *Session, h kafkaproto.RequestHeader, body []byte) Call {
			call := s.dispatch(ctx, sess, h, body)
			return finish(func(ctx context.Context) (Reply, error) {
				finished <- h.CorrelationID
				if h.CorrelationID == 2 {
					return Reply{}, errors.New("no such luck")
				}
				return call.Finish(ctx)
			})
		}), Options{})
		defer h.Close()
		c := h.dial(t)
		for id := range int32(3) {
			c.send(produce, id+1, "")
		}
		s.expectStarted(t, 1, 2, 3)
		s.answer(1)
		c.expect(1, "answer 1")
		c.expectClosed()
		synctest.Wait()
		if !strings.Contains(h.log.String(), "no such luck") {
			t.Errorf("log: %s", h.log)
		}
		if len(finished) != 3 {
			t.Errorf("%d of 3 started calls were finished", len(finished))
		}
	})
}

func TestReplyClose(t *testing.T) {
	h := onTCP(t, dispatcher(func(_ context.Context, _ *Session, h kafkaproto.RequestHeader, body []byte) Call {
		return done{Body: kafkaproto.Bytes(body), Close: h.CorrelationID == 2}
	}), Options{})
	c := h.dial(t)
	c.send(metadata, 1, "one")
	c.expect(1, "one")
	c.send(metadata, 2, "two")
	c.expect(2, "two")
	c.expectClosed()
	h.awaitNoConnections(t)
	if h.log.String() != "" {
		t.Errorf("log: %s", h.log)
	}
}

func TestPanicWhileDispatching(t *testing.T) {
	h := onTCP(t, dispatcher(func(ctx context.Context, s *Session, h kafkaproto.RequestHeader, body []byte) Call {
		switch string(body) {
		case "nothing":
			return nil
		case "boom":
			return done{Body: kafkaproto.Bytes(body[:cap(body)+1])}
		}
		return echo(ctx, s, h, body)
	}), Options{})
	other := h.dial(t)
	for _, key := range []kafkaproto.Key{produce, metadata} { // one is dispatched by the reader, one by the writer
		for _, body := range []string{"boom", "nothing"} {
			c := h.dial(t)
			c.send(metadata, 1, "fine")
			c.expect(1, "fine")
			c.send(key, 2, body)
			c.expectClosed()
		}
	}
	other.send(metadata, 3, "alive")
	other.expect(3, "alive")
	if log := h.log.String(); !strings.Contains(log, "out of range") || !strings.Contains(log, "order_test.go") {
		t.Errorf("the log has no stack: %s", log)
	}
	if n := h.Stats().Panics; n != 2 {
		t.Errorf("%d panics counted", n)
	}
}

// A poll must end when its client hangs up, even if more requests wait behind it.
func TestHangUpEndsPoll(t *testing.T) {
	for _, behind := range []int{0, 3} {
		polling, ended := make(chan struct{}, 8), make(chan error, 8)
		h := onTCP(t, dispatcher(func(_ context.Context, _ *Session, _ kafkaproto.RequestHeader, _ []byte) Call {
			return finish(func(ctx context.Context) (Reply, error) {
				polling <- struct{}{}
				<-ctx.Done()
				ended <- ctx.Err()
				return Reply{}, ctx.Err()
			})
		}), Options{})
		c := h.dial(t)
		for i := range 1 + behind {
			c.send(fetch, int32(i), "")
		}
		await(t, "poll", polling)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := await(t, "end of the poll", ended); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		h.awaitNoConnections(t)
		if h.log.String() != "" {
			t.Errorf("a client that hangs up is worth no line: %s", h.log)
		}
	}
}

// What was read before a client hung up is still dispatched: with acks=0 that is all a producer ever does.
func TestHangUpAfterProduce(t *testing.T) {
	dispatched := make(chan int32, 16)
	h := onTCP(t, dispatcher(func(_ context.Context, _ *Session, h kafkaproto.RequestHeader, _ []byte) Call {
		dispatched <- h.CorrelationID
		return done{None: true}
	}), Options{})
	c := h.dial(t)
	var all []byte
	for id := range int32(10) {
		key := produce
		if id == 4 {
			key = metadata
		}
		all = append(all, frame(key, id, strings.Repeat("x", 2000))...)
	}
	c.raw(all)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for id := range int32(10) {
		if got := await(t, "request", dispatched); got != id {
			t.Errorf("request %d, want %d", got, id)
		}
	}
}

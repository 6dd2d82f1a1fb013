package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/auth"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// open starts a server that has no services, only what stands before them, and returns its address.
func open(t *testing.T, o Options, identify Identify) (*Server, string) {
	t.Helper()
	o.Reason = reasons
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, identify) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nobody needs to finish anything
		s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

func connect(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func healthy(t *testing.T, cc *grpc.ClientConn) {
	t.Helper()
	if _, err := healthv1.NewHealthClient(cc).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
}

var half = &grpc.StreamDesc{StreamName: "Produce", ClientStreams: true}

// Calls whose message does not come keep nobody out, and the oldest of them end.
func TestHalfCalls(t *testing.T) {
	s, addr := open(t, Options{}, nil)
	const connections = 3
	var first grpc.ClientStream
	for range connections {
		cc := connect(t, addr)
		for range maxStreams {
			stream, err := cc.NewStream(t.Context(), half, quorlogv1.Records_Produce_FullMethodName)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = stream
			}
		}
	}
	if err := first.RecvMsg(new(quorlogv1.ProduceResponse)); status.Code(err) == codes.OK {
		t.Error("the first of them goes on")
	}
	honest := connect(t, addr)
	for range 50 {
		healthy(t, honest)
	}
	s.gauge.receiving.mu.Lock()
	defer s.gauge.receiving.mu.Unlock()
	if n := s.gauge.receiving.mu.held.Len(); n > maxReceiving {
		t.Errorf("%d messages are awaited", n)
	}
}

// Connections that call nothing keep nobody out.
func TestSilentConnections(t *testing.T) {
	_, addr := open(t, Options{MaxConnections: 3}, nil)
	busy := connect(t, addr)
	watch, err := healthv1.NewHealthClient(busy).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		cc := connect(t, addr)
		healthy(t, cc) // and then it says nothing any more
	}
	healthy(t, busy)
}

// call makes a call up to where its message is awaited.
func (g *gauge) call(t *testing.T, nc *counted, method string) (context.Context, error) {
	t.Helper()
	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: identity{conn: nc}})
	return g.tap(ctx, &tap.Info{FullMethodName: method})
}

// A message that does not come ends its call.
func TestSlowMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gauge{receiving: newRoom(maxReceiving, 0)}
		nc := newCounted(nil)
		ctx, err := g.call(t, nc, quorlogv1.Records_Consume_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		other, err := g.call(t, nc, quorlogv1.Records_Consume_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		callIn(other).arrived()
		time.Sleep(messageTime + time.Second)
		synctest.Wait()
		if why := context.Cause(ctx); !errors.Is(why, errSlowMessage) || other.Err() != nil {
			t.Error(why, other.Err())
		}
		callIn(other).end(errSlowReader)
		synctest.Wait()
		if g.calls.Load() != 0 || nc.calls.Load() != 0 || g.receiving.mu.taken != 0 {
			t.Errorf("%d calls are left", g.calls.Load())
		}
	})
}

// The oldest of too many half calls goes at once.
func TestOldestMessageGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gauge{receiving: newRoom(maxReceiving, 0)}
		var begun []context.Context
		for range maxReceiving + 1 {
			ctx, err := g.call(t, newCounted(nil), quorlogv1.Records_Consume_FullMethodName)
			if err != nil {
				t.Fatal(err)
			}
			begun = append(begun, ctx)
		}
		synctest.Wait()
		if why := context.Cause(begun[0]); !errors.Is(why, errManyCalls) || begun[1].Err() != nil || g.calls.Load() != maxReceiving {
			t.Errorf("%v, %v, %d calls", why, begun[1].Err(), g.calls.Load())
		}
	})
}

// A few connections can't take all the calls that a node answers.
func TestSharesOfCalls(t *testing.T) {
	g := &gauge{receiving: newRoom(maxReceiving, 0)}
	greedy := newCounted(nil)
	n := 0
	for ; ; n++ {
		ctx, err := g.call(t, greedy, quorlogv1.Records_ConsumeStream_FullMethodName)
		if err != nil {
			break
		}
		callIn(ctx).arrived()
	}
	if n != maxCalls/2 {
		t.Errorf("one connection has %d calls", n)
	}
	for range fewCalls {
		if _, err := g.call(t, newCounted(nil), quorlogv1.Records_ConsumeStream_FullMethodName); err != nil {
			t.Error(err)
		}
	}
}

// Nor can an address with many connections, whether it calls much on each or little.
func TestSharesOfAddresses(t *testing.T) {
	for _, each := range []int{maxStreams, fewCalls, 1} {
		g := &gauge{receiving: newRoom(maxReceiving, 0)}
		begin := func(from *address) error {
			nc := newCounted(nil)
			nc.from = from
			for range each {
				ctx, err := g.call(t, nc, quorlogv1.Records_ConsumeStream_FullMethodName)
				if err != nil {
					return err
				}
				callIn(ctx).arrived()
			}
			return nil
		}
		var greedy, second address
		for _, from := range []*address{&greedy, &second} {
			for begin(from) == nil {
			}
			if left := maxCalls - g.calls.Load(); left < from.calls.Load() {
				t.Errorf("of %d a connection, an address has %d calls and leaves %d", each, from.calls.Load(), left)
			}
		}
		for range 10 { // others
			if _, err := g.call(t, newCounted(nil), quorlogv1.Records_ConsumeStream_FullMethodName); err != nil {
				t.Error(err)
			}
		}
		gateway := newCounted(nil)
		gateway.trusted = true
		for range maxStreams {
			if _, err := g.call(t, gateway, quorlogv1.Records_ConsumeStream_FullMethodName); err != nil {
				t.Error(err)
			}
		}
	}
}

// Watching never ends and takes no right: a connection has a few of it, and what it calls besides is answered.
func TestWatches(t *testing.T) {
	_, addr := open(t, Options{}, nil)
	cc := connect(t, addr)
	watch := func() error {
		stream, err := healthv1.NewHealthClient(cc).Watch(t.Context(), &healthv1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		return err
	}
	for range watchesOfOne {
		if err := watch(); err != nil {
			t.Fatal(err)
		}
	}
	if err := watch(); status.Code(err) != codes.Unimplemented {
		t.Errorf("another is answered: %v", err)
	}
	healthy(t, cc)
}

// Nor all streams that produce.
func TestSharesOfStreams(t *testing.T) {
	g := &gauge{receiving: newRoom(maxReceiving, 0)}
	begin := func(nc *counted) error {
		ctx, err := g.call(t, nc, quorlogv1.Records_ProduceStream_FullMethodName)
		if err == nil {
			callIn(ctx).arrived()
		}
		return err
	}
	for range maxProducing / 2 / streamsOfOne {
		greedy := newCounted(nil)
		for range streamsOfOne {
			if err := begin(greedy); err != nil {
				t.Fatal(err)
			}
		}
		if err := begin(greedy); !errors.Is(err, errManyStreams) {
			t.Error(err)
		}
	}
	for range maxProducing / 2 / fewStreams {
		modest := newCounted(nil)
		for range fewStreams {
			if err := begin(modest); err != nil {
				t.Fatal(err)
			}
		}
		if err := begin(modest); !errors.Is(err, errManyStreams) {
			t.Error(err)
		}
	}
	if err := begin(newCounted(nil)); !errors.Is(err, errManyStreams) {
		t.Error(err)
	}
}

// An answer that its client does not take counts until the connection ends.
func TestAnswerOfALostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gauge{receiving: newRoom(maxReceiving, 0)}
		client, server := net.Pipe()
		defer client.Close()
		nc := newCounted(server)
		ctx, err := g.call(t, nc, quorlogv1.Records_Consume_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		callIn(ctx).reading()
		callIn(ctx).answers(func() {})() // this one is taken
		callIn(ctx).answers(func() {})
		callIn(ctx).end(nil) // as gRPC ends the context when the handler has returned
		synctest.Wait()
		if g.calls.Load() != 1 || g.reading.Load() != 1 {
			t.Errorf("%d calls, %d of which read", g.calls.Load(), g.reading.Load())
		}
		if err := nc.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if g.calls.Load() != 0 || g.reading.Load() != 0 {
			t.Errorf("%d calls, %d of which read", g.calls.Load(), g.reading.Load())
		}
	})
}

// A node that stops does not wait for streams whose clients have nothing to say.
func TestShutdownEndsStreams(t *testing.T) {
	s, addr := open(t, Options{}, nil)
	cc := connect(t, addr)
	watch, err := healthv1.NewHealthClient(cc).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	produce, err := quorlogv1.NewRecordsClient(cc).ProduceStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	healthy(t, cc) // by now the stream has begun
	s.Shutdown(t.Context())
	for {
		if _, err = watch.Recv(); err != nil {
			break
		}
	}
	if _, produceErr := produce.Recv(); status.Code(produceErr) != codes.Unavailable || status.Code(err) != codes.Unavailable {
		t.Error(produceErr, err)
	}
}

// Who comes over a connection that has proven nothing proves who it is with each call, and in a stream again and again.
func TestCredentials(t *testing.T) {
	var now, gone atomic.Int64
	now.Store(time.Now().UnixNano())
	o := Options{
		Authorizer: only{},
		Now:        func() time.Time { return time.Unix(0, now.Load()) },
		Authenticate: func(_ context.Context, c broker.Caller, authorization string) (broker.Caller, error) {
			switch {
			case c.Principal != "" || c.Listener != "L":
				return c, fmt.Errorf("asked about %v", c)
			case authorization == "" || gone.Load() > 0:
				return broker.Caller{}, auth.ErrNoCredentials
			case authorization == "plain":
				return broker.Caller{}, auth.ErrNoPasswords
			}
			c.Principal = broker.Principal("User:" + authorization)
			return c, nil
		},
	}
	_, addr := open(t, o, func(net.Conn) (broker.Caller, error) { return broker.Caller{Listener: "L"}, nil })
	cc := connect(t, addr)
	for authorization, want := range map[string]codes.Code{"alice": codes.OK, "": codes.Unauthenticated, "plain": codes.PermissionDenied} {
		ctx := t.Context()
		if authorization != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, authorizationHeader, authorization)
		}
		if _, err := healthv1.NewHealthClient(cc).Check(ctx, &healthv1.HealthCheckRequest{}); status.Code(err) != want {
			t.Errorf("%q: %v", authorization, err)
		}
	}
	forged := metadata.AppendToOutgoingContext(t.Context(), callerHeader, `{"Principal":"User:admin"}`)
	if _, err := healthv1.NewHealthClient(cc).Check(forged, &healthv1.HealthCheckRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
	twice := metadata.AppendToOutgoingContext(t.Context(), authorizationHeader, "alice", authorizationHeader, "bob")
	if _, err := healthv1.NewHealthClient(cc).Check(twice, &healthv1.HealthCheckRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
	stream, err := quorlogv1.NewRecordsClient(cc).ProduceStream(metadata.AppendToOutgoingContext(t.Context(), authorizationHeader, "alice"))
	if err != nil {
		t.Fatal(err)
	}
	say := func() (*quorlogv1.ProduceStreamResponse, error) {
		if err := stream.Send(&quorlogv1.ProduceStreamRequest{Batch: &quorlogv1.ProduceRequest{Topic: "t"}}); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return stream.Recv()
	}
	if got, err := say(); err != nil || codes.Code(got.GetError().GetCode()) != codes.PermissionDenied {
		t.Fatal(got, err)
	}
	gone.Store(1)
	if _, err := say(); err != nil {
		t.Error(err) // it was looked at a moment ago
	}
	now.Add(int64(renewTime))
	if _, err := say(); status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
}

// What is refused by HTTP before the services are asked.
func TestWebRefusals(t *testing.T) {
	s, _ := open(t, Options{Authorizer: only{}}, nil)
	users := map[string]error{"nobody": auth.ErrNoCredentials, "wrong": auth.ErrAuthentication, "plain": auth.ErrNoPasswords}
	handler := s.HTTP(Web{Prove: func(r *http.Request) (broker.Caller, error) {
		return broker.Caller{Principal: "User:x"}, users[r.Header.Get("User")]
	}})
	for name, c := range map[string]struct {
		method, path, body, header string
		want                       int
	}{
		"no user":               {"GET", "/v1/cluster", "", "User: nobody", http.StatusUnauthorized},
		"wrong password":        {"GET", "/v1/cluster", "", "User: wrong", http.StatusUnauthorized},
		"no password wanted":    {"GET", "/v1/cluster", "", "User: plain", http.StatusForbidden},
		"no right":              {"GET", "/v1/cluster", "", "User: alice", http.StatusForbidden},
		"the same site":         {"POST", "/v1/topics/t/records", "{}", "Sec-Fetch-Site: same-origin", http.StatusForbidden},
		"no browser":            {"POST", "/v1/topics/t/records", "{}", "User: alice", http.StatusForbidden},
		"another site":          {"POST", "/v1/topics/t/records", "{}", "Sec-Fetch-Site: cross-site", http.StatusForbidden},
		"an old browser":        {"POST", "/v1/servers/1/drain", "{}", "Origin: https://evil.example", http.StatusForbidden},
		"many objects":          {"POST", "/v1/topics/t/records", `{"records":[{}` + strings.Repeat(",{}", maxObjects) + "]}", "User: alice", http.StatusBadRequest},
		"a large body":          {"POST", "/v1/topics/t/records", `{"topic":"` + strings.Repeat("x", maxBody) + `"}`, "User: alice", http.StatusBadRequest},
		"a large small body":    {"POST", "/v1/topics", `{"name":"` + strings.Repeat("x", maxSmall) + `"}`, "User: alice", http.StatusBadRequest},
		"making a topic by GET": {"GET", "/v1/servers?topics=t&create=true", "", "User: alice", http.StatusBadRequest},
	} {
		r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(c.body))
		key, value, _ := strings.Cut(c.header, ": ")
		r.Header.Set(key, value)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		challenged := w.Header().Get("WWW-Authenticate") != ""
		if w.Code != c.want || challenged != (c.want == http.StatusUnauthorized) {
			t.Errorf("%s: %d, %q", name, w.Code, w.Body)
		}
		denied := strings.Contains(w.Body.String(), "AUTHORIZATION_FAILED")
		if asked := name == "no right" || name == "the same site" || name == "no browser"; asked != denied {
			t.Errorf("%s: the rights were asked: %v", name, denied)
		}
	}
	if n := s.web.bodies.mu.taken; n != 0 {
		t.Errorf("%d bodies are left", n)
	}
}

// A name of a file is not for clients, and an error that says what to do is.
func TestFailureHidesTheInside(t *testing.T) {
	s, _ := open(t, Options{}, nil)
	s.o.Reason = func(error) string { return unknownError }
	if st := status.Convert(s.failure(errors.New("open /secret/path: no such file"))); st.Code() != codes.Internal || strings.Contains(st.Message(), "secret") {
		t.Error(st)
	}
}

// An error may name what a Kafka client chose; it can be told all the same.
func TestFailureIsText(t *testing.T) {
	s, _ := open(t, Options{}, nil)
	s.o.Reason = func(error) string { return "INVALID_REQUEST" }
	st := status.Convert(s.failure(errors.New("no \xff")))
	if _, err := proto.Marshal(st.Proto()); err != nil || st.Message() != "no \ufffd" {
		t.Error(st, err)
	}
}

// What waits for longer than the server's deadlines is not ended by them.
func TestWebPatience(t *testing.T) {
	s, _ := open(t, Options{}, nil)
	err := s.web.mux.HandlePath(http.MethodGet, "/v1/late", func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
		for range 2 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(100 * time.Millisecond):
				_, _ = io.WriteString(w, "late") // the client tells
				w.(http.Flusher).Flush()
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(s.HTTP(Web{}))
	web.Config.WriteTimeout = 50 * time.Millisecond
	web.Start()
	defer web.Close()
	resp, err := web.Client().Get(web.URL + "/v1/late")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "latelate" {
		t.Errorf("%q, %v", text, err)
	}
}

package grpcapi

import (
	"bytes"
	"context"
	_ "embed" // the OpenAPI page
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/auth"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

//go:embed v1/quorlog.swagger.json
var openAPI []byte

const (
	// maxBody bounds the body of an HTTP request with records, in bytes: base64 makes four of three, and a MiB is the largest batch
	// that topics take by default. Others have at most maxSmall.
	maxBody = 3 << 19
	// maxBodies bounds the bodies that are in memory, each in several forms, and bodyPatience is for how long one may be when others
	// wait: a produce takes less.
	maxBodies, bodyPatience = 32, 10 * time.Second
	// maxObjects bounds the objects in a body. An empty one takes three bytes in the body and fifty times that in memory.
	maxObjects = maxParts
	// maxWebStreams bounds the streams by HTTP: half of what the gateway's connection carries, so that other requests find room.
	maxWebStreams = maxStreams / 2
	// webPatience is what a client has to take the next part of a stream.
	webPatience = 30 * time.Second
	// webAnswer bounds an answer with records, in bytes: as JSON it is in memory three times.
	webAnswer = 512 << 10
)

// gateway turns HTTP/JSON into calls of the server, over a connection in memory.
type gateway struct {
	wire *wire
	conn *grpc.ClientConn
	mux  *runtime.ServeMux

	streams atomic.Int64
	bodies  *room
}

func (g *gateway) open(s *Server) (err error) {
	g.wire, g.bodies = &wire{conns: make(chan net.Conn), closed: make(chan struct{})}, newRoom(maxBodies, bodyPatience)
	g.conn, err = grpc.NewClient("passthrough:///gateway", grpc.WithContextDialer(g.wire.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<31-1)),
		grpc.WithStaticStreamWindowSize(streamWindow), grpc.WithStaticConnWindowSize(connectionWindow)) // for those who take their streams slowly
	if err != nil {
		return err
	}
	g.mux = runtime.NewServeMux(
		// Nothing that an HTTP client sends becomes metadata: one could say that it is somebody else.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithMetadata(func(_ context.Context, r *http.Request) metadata.MD {
			caller, _ := json.Marshal(callerOf(r.Context())) // plain strings and an address
			return metadata.Pairs(callerHeader, string(caller))
		}),
	)
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		quorlogv1.RegisterRecordsHandler, quorlogv1.RegisterTopicsHandler, quorlogv1.RegisterGroupsHandler, quorlogv1.RegisterClusterHandler,
	} {
		if err := register(s.ctx, g.mux, g.conn); err != nil {
			return err
		}
	}
	s.served.Go(func() {
		if err := s.grpc.Serve(g.wire); err != nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) {
			s.logger.Error("the gateway's listener failed", "error", err)
		}
	})
	return nil
}

func (g *gateway) close() {
	_ = g.conn.Close() // twice at the worst
	_ = g.wire.Close()
}

// Web is what stands around the answers to HTTP. All of it may be nil.
type Web struct {
	// Prove tells who sends a request; nil: nobody in particular.
	Prove func(*http.Request) (broker.Caller, error)
	// Still tells it again for a request that has been under way for long. It ends with an error.
	Still func(*http.Request) (broker.Caller, error)
	// Calls bounds the requests that are being answered. Proving who sends them comes before.
	Calls func(http.Handler) http.Handler
}

// HTTP answers the paths below /v1/: the services as JSON, and what they are at /v1/openapi.json. Pages of other sites can't send
// any request that changes something: browsers would add to it what proves who their user is.
func (s *Server) HTTP(w Web) http.Handler {
	if w.Calls == nil {
		w.Calls = func(h http.Handler) http.Handler { return h }
	}
	mux := http.NewServeMux()
	mux.Handle("GET /v1/openapi.json", w.Calls(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openAPI) // the client may have gone
	})))
	mux.Handle("/v1/", s.proving(&w, w.Calls(http.HandlerFunc(s.forWeb))))
	return http.NewCrossOriginProtection().Handler(mux)
}

// proving lets through who can be told, and ends streams of those who no longer can.
func (s *Server) proving(w *Web, next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		caller := broker.Caller{Principal: broker.Anonymous}
		if addr, err := net.ResolveTCPAddr("tcp", r.RemoteAddr); err == nil {
			caller = Anonymous(addr)
		}
		if w.Prove != nil {
			var err error
			if caller, err = w.Prove(r); err != nil {
				s.refuse(rw, err)
				return
			}
		}
		if w.Still != nil && isStream(r) {
			ctx, end := while(r.Context(), func() error { _, err := w.Still(r); return err })
			defer end()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(rw, r.WithContext(withCaller(r.Context(), caller)))
	})
}

// isStream tells the requests whose answers have no end.
func isStream(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/stream") }

// while ends a context when its caller no longer is who it was: who is no user any more could go on for ever.
func while(ctx context.Context, proven func() error) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancel(ctx)
	go func() {
		tick := time.NewTicker(renewTime)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if proven() != nil {
					end()
				}
			}
		}
	}()
	return ctx, end
}

// forWeb answers one request.
func (s *Server) forWeb(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		w = &patient{w, control}
		if isStream(r) {
			if s.web.streams.Add(1) > maxWebStreams {
				s.web.streams.Add(-1)
				refuseWeb(w, http.StatusTooManyRequests, codes.ResourceExhausted, "too many streams are open")
				return
			}
			defer s.web.streams.Add(-1)
		}
	} else {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		give, err := s.web.bodies.take(ctx, 1, func() {
			cancel()
			_ = control.SetReadDeadline(time.Unix(1, 0)) // or the server's own ends it
		})
		if err != nil {
			return // the client has gone
		}
		defer give()
		r = r.WithContext(ctx)
	}
	size := int64(maxSmall)
	if strings.HasSuffix(r.URL.Path, "/records") {
		size = maxBody
	}
	r.Body = &body{ReadCloser: http.MaxBytesReader(w, r.Body, size)}
	s.web.mux.ServeHTTP(w, r)
}

// patient lets an answer go on for as long as its client takes what it is sent.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
}

// again gives the client webPatience from now on. If the connection can't do that, the answer ends with the server's deadline.
func (p *patient) again() { _ = p.control.SetWriteDeadline(time.Now().Add(webPatience)) }

// Write implements io.Writer.
func (p *patient) Write(b []byte) (int, error) {
	p.again()
	return p.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (p *patient) Flush() {
	p.again()
	_ = p.control.Flush() // the next Write tells
}

// Unwrap is for http.ResponseController.
func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// body is the body of a request with a bound on the objects in it.
type body struct {
	io.ReadCloser
	objects int
}

var errManyObjects = fmt.Errorf("more than %d objects in one request", maxObjects)

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.objects += bytes.Count(p[:n], []byte("{")); b.objects > maxObjects {
		return 0, errManyObjects
	}
	return n, err
}

// refuse tells a client that is nobody why.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	st, _ := status.FromError(s.unproven(err))
	switch st.Code() {
	case codes.Unauthenticated:
		w.Header().Set("WWW-Authenticate", auth.BasicChallenge)
	case codes.Unavailable, codes.ResourceExhausted:
		w.Header().Set("Retry-After", "1")
	}
	refuseWeb(w, runtime.HTTPStatusFromCode(st.Code()), st.Code(), st.Message())
}

// refuseWeb answers as the gateway does.
func refuseWeb(w http.ResponseWriter, status int, code codes.Code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "message": message, "details": []any{}}) // the client may have gone
}

// wire is a listener in memory.
type wire struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (w *wire) dial(ctx context.Context, _ string) (net.Conn, error) {
	client, pipe := net.Pipe()
	server := newCounted(pipe)
	server.trusted = true
	select {
	case w.conns <- server:
		return client, nil
	case <-w.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

// Addr implements net.Listener.
func (w *wire) Addr() net.Addr { return &net.UnixAddr{Name: "gateway", Net: "unix"} }

package grpcapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/broker/produce"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/trace"
	"github.com/quorlog/quorlog/internal/turns"
	"github.com/quorlog/quorlog/replication"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// Routes knows who leads partitions. A topic is named by its id, or by its name if the id is zero.
type Routes interface {
	// LeaderOf tells who leads a partition; Node is NoNode if nobody is known to.
	LeaderOf(topic string, id replication.TopicID, partition int32) replication.Leader
}

// Options configure a Server. The services, Routes, Partitions and Reason are needed.
type Options struct {
	Node    replication.NodeID
	Produce *produce.Service
	Fetch   *fetch.Service
	Admin   *admin.Service
	Groups  *group.Service
	Routes  Routes
	// Partitions tells how many partitions a topic has; false if there is no such topic.
	Partitions func(topic string) (int32, bool)
	// Authorizer decides who may do what; nil: everybody may do everything.
	Authorizer broker.Authorizer
	// Reason is the name of the Kafka error code of an error.
	Reason func(error) string
	// Forward makes a call to another node. Its error is replication.ErrNotLeader if the call was certainly not executed, else
	// replication.ErrUnknownOutcome. nil for a node without peers.
	Forward func(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error)
	// Authenticate makes sure who makes a call over a connection whose caller has no principal, by the Authorization that came with the
	// call; empty if there was none (auth.SASL.Basic, whose errors it has). nil: nobody can.
	Authenticate func(ctx context.Context, caller broker.Caller, authorization string) (broker.Caller, error)
	// Turns are for what takes long of a processor: decoding and encoding records. nil: turns of the server's own.
	Turns *turns.Turns
	// Tracer is told of each call; nil for none.
	Tracer trace.Tracer
	Logger *slog.Logger
	Now    func() time.Time
	// MaxConnections bounds the connections; 0 means DefaultMaxConnections. MaxConnectionsPerIP bounds those of one address; 0: as many.
	MaxConnections, MaxConnectionsPerIP int
}

// DefaultMaxConnections is enough for a thousand programs with one channel each.
const DefaultMaxConnections = 1_000

// Limits of a connection.
const (
	// maxMessage is gRPC's own default, in bytes: four times the largest batch of a topic with default settings.
	maxMessage = 4 << 20
	// maxStreams bounds the calls under way on one connection.
	maxStreams = 100
	// The flow control windows bound what a client may send before it is read, in bytes; for the message that is being read there is
	// more. Set, they no longer grow by themselves.
	streamWindow     = 64 << 10
	connectionWindow = 2 << 20
	// handshakeTime is what a client has for the HTTP/2 preface.
	handshakeTime = 5 * time.Second
	// idleTime ends connections without calls. A client makes another when it needs one.
	idleTime = 10 * time.Minute
	// pingAfter and pingWait find connections whose other end is gone; pingMost is how often clients may do the same.
	pingAfter, pingWait, pingMost = time.Minute, 20 * time.Second, 10 * time.Second
	headerListBytes               = 16 << 10
)

// core is what all services need.
type core struct {
	o      Options
	logger *slog.Logger
	auth   broker.Authorizer
	gauge  gauge
	memory memory
	nodes  nodes           // what is on its way to them
	ctx    context.Context // ends with Shutdown, and with it the streams that would not end by themselves
	served sync.WaitGroup  // goroutines
}

// records is the service of that name.
type records struct {
	quorlogv1.UnimplementedRecordsServer
	*core
}

// management is the services about topics, groups and the cluster.
type management struct {
	quorlogv1.UnimplementedTopicsServer
	quorlogv1.UnimplementedGroupsServer
	quorlogv1.UnimplementedClusterServer
	*core
}

// Server serves gRPC.
type Server struct {
	*core
	records *records
	grpc    *grpc.Server
	health  *health.Server
	web     gateway
	stop    context.CancelFunc
	conns   conns
}

// New makes a server.
func New(o Options) (*Server, error) {
	c := &core{o: o, logger: o.Logger, auth: o.Authorizer}
	if c.logger == nil {
		c.logger = slog.Default()
	}
	if c.auth == nil {
		c.auth = broker.Everyone{}
	}
	if c.o.Turns == nil {
		c.o.Turns = turns.New()
	}
	if c.o.Now == nil {
		c.o.Now = time.Now
	}
	if c.o.MaxConnections <= 0 {
		c.o.MaxConnections = DefaultMaxConnections
	}
	c.gauge.receiving, c.memory = newRoom(maxReceiving, 0), newMemory()
	s := &Server{core: c, records: &records{core: c}, health: health.NewServer(), conns: conns{most: c.o.MaxConnections, mostPerIP: c.o.MaxConnectionsPerIP}}
	c.ctx, s.stop = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(
		grpc.Creds(handshake{}), grpc.ForceServerCodecV2(guarded{}),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(1<<31-1), grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(headerListBytes),
		grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(connectionWindow), grpc.ConnectionTimeout(handshakeTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTime, Time: pingAfter, Timeout: pingWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingMost, PermitWithoutStream: true}),
		grpc.InTapHandle(s.gauge.tap), grpc.StatsHandler(&s.gauge),
		grpc.ChainUnaryInterceptor(s.traceUnary, s.unary), grpc.ChainStreamInterceptor(s.traceStream, s.stream),
	)
	m := &management{core: c}
	quorlogv1.RegisterRecordsServer(s.grpc, s.records)
	quorlogv1.RegisterTopicsServer(s.grpc, m)
	quorlogv1.RegisterGroupsServer(s.grpc, m)
	quorlogv1.RegisterClusterServer(s.grpc, m)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	s.gauge.ended = countsOf(s.grpc.GetServiceInfo())
	return s, s.web.open(s)
}

// Identify tells who is at the other end of a connection, or why it may not be used. A caller without a principal has yet to
// prove who it is, with each call (Options.Authenticate).
type Identify func(net.Conn) (broker.Caller, error)

// Serve takes connections until the listener is closed or Shutdown is called; then it returns nil. It may be called for several
// listeners, each with its own Identify; nil is for callers of whom only the address is known.
func (s *Server) Serve(l net.Listener, identify Identify) error {
	err := s.grpc.Serve(s.conns.listener(l, identify))
	if errors.Is(err, grpc.ErrServerStopped) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Shutdown ends the server: streams end at once, with UNAVAILABLE, so that their clients go to another node, but what was begun of a
// ProduceStream is answered first; other calls may finish until the context ends. It may be called more than once.
func (s *Server) Shutdown(ctx context.Context) {
	s.health.Shutdown()
	s.stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
	s.web.close()
	s.served.Wait()
}

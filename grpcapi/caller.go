package grpcapi

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/broker"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// handshake stands where gRPC expects TLS: the port has done that already. It only asks who is there.
type handshake struct{}

// identity is what a connection has proven.
type identity struct {
	caller broker.Caller
	conn   *counted
}

// AuthType implements credentials.AuthInfo.
func (identity) AuthType() string { return "quorlog" }

// ServerHandshake implements credentials.TransportCredentials.
func (handshake) ServerHandshake(nc net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := nc.(*counted)
	switch {
	case !ok:
		return nil, nil, errForeign // Serve makes no others
	case c.trusted:
		return c, identity{conn: c}, nil
	case c.identify == nil:
		return c, identity{Anonymous(c.RemoteAddr()), c}, nil
	}
	caller, err := c.identify(c.Conn)
	if err != nil {
		return nil, nil, err
	}
	return c, identity{caller, c}, nil
}

var errForeign = errors.New("not a connection of this server")

// ClientHandshake implements credentials.TransportCredentials; a server's are never asked.
func (handshake) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, net.ErrClosed
}

// Info implements credentials.TransportCredentials.
func (handshake) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "quorlog"}
}

// Clone implements credentials.TransportCredentials.
func (h handshake) Clone() credentials.TransportCredentials { return h }

// OverrideServerName implements credentials.TransportCredentials.
func (handshake) OverrideServerName(string) error { return nil }

// identityOf is what the connection of a call has proven; nothing if there is none.
func identityOf(ctx context.Context) (id identity) {
	if p, ok := peer.FromContext(ctx); ok {
		id, _ = p.AuthInfo.(identity)
	}
	return id
}

// byWeb tells whether a call is the gateway's.
func byWeb(ctx context.Context) bool {
	c := identityOf(ctx).conn
	return c != nil && c.trusted
}

// Anonymous is a caller of whom only the address is known.
func Anonymous(addr net.Addr) broker.Caller {
	return broker.Caller{Principal: broker.Anonymous, Host: hostOf(addr)}
}

// hostOf is the address without the port; the zero value for anything but IP.
func hostOf(addr net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

const (
	// callerHeader carries the caller of a call that the gateway makes. From anybody else it means nothing.
	callerHeader = "quorlog-caller-bin"
	// authorizationHeader carries what a client proves by itself who it is.
	authorizationHeader = "authorization"
	// renewTime is how long that is good for in a stream: then it is looked at again, or who is no user any more could go on for
	// ever.
	renewTime = 30 * time.Second
)

// session is who makes a call, and by what that was proven.
type session struct {
	caller        broker.Caller
	connected     broker.Caller // what the connection has proven
	authorization string        // what the client added, if that was not enough
	proven        atomic.Int64  // when, as Unix time in ns
}

type sessionKey struct{}

func callerOf(ctx context.Context) broker.Caller {
	if s, ok := ctx.Value(sessionKey{}).(*session); ok {
		return s.caller
	}
	return broker.Caller{}
}

func withCaller(ctx context.Context, c broker.Caller) context.Context {
	return context.WithValue(ctx, sessionKey{}, &session{caller: c})
}

// identified finds out who makes a call.
func (s *core) identified(ctx context.Context) (context.Context, error) {
	id := identityOf(ctx)
	who := &session{caller: id.caller, connected: id.caller}
	switch {
	case id.conn == nil:
	case id.conn.trusted:
		values := metadata.ValueFromIncomingContext(ctx, callerHeader)
		if len(values) != 1 || json.Unmarshal([]byte(values[0]), &who.caller) != nil {
			return nil, status.Error(codes.Unauthenticated, "the gateway did not say who calls")
		}
	case who.caller.Principal == "" && s.o.Authenticate != nil:
		if values := metadata.ValueFromIncomingContext(ctx, authorizationHeader); len(values) == 1 {
			who.authorization = values[0]
		}
		if err := s.prove(ctx, who); err != nil {
			return nil, err
		}
	}
	if who.caller.Principal == "" {
		return nil, status.Error(codes.Unauthenticated, "not authenticated")
	}
	return context.WithValue(ctx, sessionKey{}, who), nil
}

// prove asks whether a client is who it says it is.
func (s *core) prove(ctx context.Context, who *session) error {
	caller, err := s.o.Authenticate(ctx, who.connected, who.authorization)
	if err != nil {
		return s.unproven(err)
	}
	if who.proven.Swap(s.o.Now().UnixNano()) == 0 {
		who.caller = caller // later the same, or there would have been an error
	}
	return nil
}

// proven tells whether the caller of a stream still is who it was when the stream began.
func (s *core) proven(ctx context.Context) error {
	who, ok := ctx.Value(sessionKey{}).(*session)
	if !ok || who.authorization == "" || s.o.Now().Sub(time.Unix(0, who.proven.Load())) < renewTime {
		return nil
	}
	return s.prove(ctx, who)
}

// heldAnswer is where Consume says what gives back the memory of its answer, which outlives it.
type heldAnswer struct{ give func() }

type heldKey struct{}

// unary stands before each call.
func (s *core) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, err := s.identified(ctx)
	if err != nil {
		return nil, err
	}
	held := &heldAnswer{give: func() {}}
	resp, err := handle(context.WithValue(ctx, heldKey{}, held), req)
	if err != nil {
		held.give()
		return nil, ended(ctx, err)
	}
	if records, ok := resp.(*quorlogv1.ConsumeResponse); ok {
		return &answer{message: records, taken: callIn(ctx).answers(held.give)}, nil
	}
	return resp, nil
}

// stream stands before each stream, and ends those that would outlive the server. ProduceStream ends by itself.
func (s *core) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, err := s.identified(ss.Context())
	if err != nil {
		return err
	}
	if info.FullMethod != quorlogv1.Records_ProduceStream_FullMethodName {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
	}
	err = ended(ctx, handle(srv, &callStream{ss, ctx}))
	if status.Code(err) == codes.Canceled && s.ctx.Err() != nil {
		return errStopping
	}
	return err
}

var errStopping = status.Error(codes.Unavailable, "the node stops")

// ended is the error of a call: why it was ended, if it was.
func ended(ctx context.Context, err error) error {
	why := context.Cause(ctx)
	if _, ours := status.FromError(why); err != nil && why != nil && ours {
		return why
	}
	return err
}

// callStream is a stream that knows its caller.
type callStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (c *callStream) Context() context.Context { return c.ctx }

// may tells whether the caller may do op to a resource.
func (s *core) may(ctx context.Context, op broker.Operation, r broker.Resource) bool {
	return s.auth.Allowed(callerOf(ctx), op, r)
}

// need is nil if the caller may do op to a resource, else the error of that.
func (s *core) need(ctx context.Context, op broker.Operation, r broker.Resource) error {
	if s.may(ctx, op, r) {
		return nil
	}
	switch r.Type {
	case broker.TopicResource:
		return broker.ErrTopicDenied
	case broker.GroupResource:
		return broker.ErrGroupDenied
	default:
		return broker.ErrClusterDenied
	}
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/api"
	"github.com/quorlog/quorlog/grpcapi"
	"github.com/quorlog/quorlog/internal/certs"
	"github.com/quorlog/quorlog/internal/portmux"
	"github.com/quorlog/quorlog/internal/trace"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/transport"
)

// handleNative lets other nodes hand over what their gRPC clients want of what this node leads or coordinates.
func (c *contacts) handleNative() {
	for _, name := range grpcapi.CallNames() {
		c.peers.Handle(name, func(ctx context.Context, _ transport.PeerInfo, body []byte) ([]byte, error) {
			s := c.native.Load()
			if s == nil {
				return nil, errStarting
			}
			return s.HandleCall(ctx, name, body)
		})
	}
}

// forwardNative makes such a call to another node. What was not delivered, or not understood, was certainly not executed.
func (c *contacts) forwardNative(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
	answer, err := c.callPeer(ctx, to, name, body)
	var refused *transport.RemoteError
	switch {
	case err == nil:
		return answer, nil
	case errors.Is(err, transport.ErrUnreachable), errors.As(err, &refused):
		return nil, fmt.Errorf("%w: its leader, node %d, took no call: %w", replication.ErrNotLeader, to, err)
	}
	return nil, fmt.Errorf("%w: node %d: %w", replication.ErrUnknownOutcome, to, err)
}

// openNative begins to answer gRPC, and HTTP/JSON below /v1/.
func openNative(a *Agent, lookup *admin.Partitions, services *api.Services, tracer trace.Tracer) error {
	server, err := grpcapi.New(grpcapi.Options{
		Node: a.node.NodeID, Produce: services.Produce, Fetch: services.Fetch, Admin: services.Admin, Groups: services.Group, Routes: lookup,
		Partitions: func(topic string) (int32, bool) {
			t, ok := a.controller.Image().Topics[topic]
			if !ok {
				return 0, false
			}
			return int32(len(t.Partitions)), true
		},
		Authorizer: services.Authorizer, Reason: api.Reason, Forward: a.forwardNative, Authenticate: a.logins.authenticate,
		Logger: a.levels.Logger("grpc"), Now: a.config.Now, Turns: a.turns.Line(), Tracer: tracer,
		MaxConnectionsPerIP: int(a.layers.Int("max.connections.per.ip")),
	})
	if err != nil {
		return err
	}
	a.native.Store(server)
	a.web.serves(server.HTTP(grpcapi.Web{Prove: a.web.prove, Still: a.web.caller, Calls: few(webCalls)}))
	for _, p := range a.ports.all {
		identify := func(nc net.Conn) (broker.Caller, error) {
			c, _ := nc.(*portmux.Conn)
			return a.nativeCaller(p, nc.RemoteAddr().String(), c)
		}
		calls := p.mux.GRPC() // from now on, not from when the loop runs: clients are let in as soon as this returns
		a.loops.Go(func() {
			if err := server.Serve(calls, identify); err != nil {
				a.logger.Error("the gRPC listener failed", "listener", p.Name, "error", err)
			}
		})
	}
	return nil
}

// nativeCaller tells who calls through a port: whom the certificate of the connection stands for, if it has one. Where the port
// wants a login it is nobody yet: see authenticate.
func (c *contacts) nativeCaller(p *port, remote string, nc *portmux.Conn) (broker.Caller, error) {
	caller := broker.Caller{Principal: broker.Anonymous, Listener: p.Name, Host: hostOf(remote)}
	if p.SASL {
		caller.Principal = ""
		return caller, nil
	}
	if nc == nil || certs.ClientAuth(c.node.ClientAuthOf(p.Listener)) == certs.NoClientAuth {
		return caller, nil
	}
	if state, secure := nc.TLS(); secure && len(state.VerifiedChains) > 0 {
		var err error
		if caller.Principal, err = c.ports.principal(state); err != nil {
			return broker.Caller{}, err
		}
	}
	return caller, nil
}

// hostOf is the address of host:port; the zero value for anything but IP.
func hostOf(remote string) netip.Addr {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// closeNative ends what gRPC clients have under way.
func closeNative(ctx context.Context, c *contacts) {
	if s := c.native.Load(); s != nil {
		ctx, cancel := context.WithTimeout(ctx, drainPatience)
		defer cancel()
		s.Shutdown(ctx)
	}
}

package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/api"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/internal/certs"
	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/internal/portmux"
	"github.com/quorlog/quorlog/replication"
)

// port is a listener of this node: an address, with what holds for those who come in there.
type port struct {
	config.Listener
	mux  *portmux.Mux
	gate *gate
}

// ports are all listeners of a node. Other nodes come in on the first.
type ports struct {
	all     []*port
	certs   *certs.Keeper  // nil if no listener has TLS
	mapping *certs.Mapping // who a client's certificate stands for
}

// openCerts reads the certificates: what can't be used stops the start.
func (c *contacts) openCerts() (err error) {
	set := c.node.TLS
	if set.Cert == "" {
		return nil
	}
	if c.ports.mapping, err = certs.ParseMapping(c.layers.Get(config.Broker, "ssl.principal.mapping.rules")); err != nil {
		return err
	}
	c.ports.certs, err = certs.Open(certs.Files{Cert: set.Cert, Key: set.Key, CA: set.CA}, c.levels.Logger("certs"))
	if err != nil {
		return err
	}
	c.loops.Go(func() { c.ports.certs.Run(c.ctx) })
	return nil
}

// openPort listens.
func (c *contacts) openPort(l config.Listener, forPeers bool) (*port, error) {
	nl, err := net.Listen("tcp", l.Bind)
	if err != nil {
		return nil, fmt.Errorf("%w (is another broker running? --listen chooses another address)", err)
	}
	o := portmux.Options{
		Logger: c.levels.Logger("portmux"), PeerProtocol: certs.PeerProtocol,
		MaxSniffing: int(c.layers.Int("max.connections")), MaxSniffingPerIP: int(c.layers.Int("max.connections.per.ip")),
		RatePerIP: int(c.layers.Int("max.connection.creation.rate")),
	}
	switch may, _ := c.node.PeerTLS(); {
	case l.TLS:
		o.TLS = c.ports.certs.Server(certs.ClientAuth(c.node.ClientAuthOf(l)), forPeers)
	case forPeers && may:
		o.PeerTLS = c.ports.certs.Peers()
	}
	p := &port{Listener: l, mux: portmux.New(nl, o)}
	p.gate = newGate(p.mux.Kafka())
	c.loops.Go(func() {
		if err := p.mux.Serve(); err != nil {
			c.logger.Error("the port failed", "listener", l.Name, "error", err)
		}
	})
	c.loops.Go(p.gate.refuse)
	return p, nil
}

// kafka is the port's side of Kafka clients.
func (c *contacts) kafka(p *port, handlers *api.API) conn.Listener {
	l := conn.Listener{Net: p.gate, Name: p.Name}
	if p.SASL {
		l.Phase = handlers.Phase
	}
	if !p.SASL && certs.ClientAuth(c.node.ClientAuthOf(p.Listener)) != certs.NoClientAuth {
		l.Principal = c.ports.principal
	}
	return l
}

// principal is whom a client's certificate stands for.
func (p *ports) principal(s tls.ConnectionState) (broker.Principal, error) {
	dn, err := certs.DistinguishedName(s.PeerCertificates[0])
	if err != nil {
		return "", err
	}
	name, err := p.mapping.Name(dn)
	if err != nil {
		return "", err
	}
	if name == "" {
		return "", fmt.Errorf("the certificate of %q stands for no name", dn)
	}
	return broker.Principal("User:" + name), nil
}

// endpoints are what clients of each listener are told.
func (p *ports) endpoints() (out []replication.Endpoint, err error) {
	for _, one := range p.all {
		host, port, err := one.AdvertisedAddress(one.mux.Addr().String())
		if err != nil {
			return nil, err
		}
		out = append(out, replication.Endpoint{Listener: one.Name, Host: host, Port: port})
	}
	return out, nil
}

// close closes the ports.
func (p *ports) close() error {
	var errs []error
	for _, one := range p.all {
		errs = append(errs, one.mux.Close())
	}
	return errors.Join(errs...)
}

// Listeners are the addresses listened on by the listeners' names, "NAME=host:port", comma-separated, once Start has returned.
func (a *Agent) Listeners() string {
	var out []string
	for _, p := range a.ports.all {
		out = append(out, p.Name+"="+p.mux.Addr().String())
	}
	return strings.Join(out, ",")
}

// dialPeer connects to another node by TLS. Where that is not a must, it does without if the other side won't.
func (c *contacts) dialPeer(ctx context.Context, addr string) (net.Conn, error) {
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	secured, err := c.ports.certs.DialPeer(ctx, nc)
	if err == nil {
		return secured, nil
	}
	err = errors.Join(err, nc.Close())
	if _, must := c.node.PeerTLS(); must || ctx.Err() != nil {
		return nil, err
	}
	c.logger.Info("a connection to another node is without TLS", "address", addr, "reason", err)
	return dialer.DialContext(ctx, "tcp", addr)
}

// certified is the node whose certificate the other side of a peer's connection has.
func (c *contacts) certified(nc net.Conn) (replication.NodeID, bool) {
	var state tls.ConnectionState
	secure := true
	switch s := nc.(type) {
	case *tls.Conn:
		state = s.ConnectionState()
	case interface {
		TLS() (tls.ConnectionState, bool)
	}:
		state, secure = s.TLS()
	default:
		secure = false
	}
	if !secure {
		_, must := c.node.PeerTLS()
		return replication.NoNode, !must
	}
	id, err := certs.NodeOf(state)
	return replication.NodeID(id), err == nil
}

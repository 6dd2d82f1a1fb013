package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/internal/portmux"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/leaders"
	"github.com/quorlog/quorlog/replication/membership"
	"github.com/quorlog/quorlog/replication/transport"
)

// errStarting answers peers that ask for what is not there yet.
var errStarting = errors.New("the node is starting")

// listen opens the port. Peers are served from now on, because the node needs them to start; clients are when it is ready.
func (a *Agent) listen(context.Context) error {
	l, err := net.Listen("tcp", a.node.Listen)
	if err != nil {
		return fmt.Errorf("%w (is another broker running? --listen chooses another address)", err)
	}
	a.mux = portmux.New(l, portmux.Options{Logger: a.logger, MaxSniffing: int(a.layers.Int("max.connections"))})
	a.loops.Go(func() {
		if err := a.mux.Serve(); err != nil {
			a.logger.Error("the port failed", "error", err)
		}
	})
	host, port, err := a.node.AdvertisedAddress(a.Addr())
	if err != nil {
		return err
	}
	a.self = replication.Node{ID: a.node.NodeID, Host: host, Port: port, Rack: a.node.Rack}
	a.gate = newGate(a.mux.Kafka())
	a.loops.Go(a.gate.refuse)
	return nil
}

// meet starts the network between the nodes and the gossip, and finds this node's cluster.
func (a *Agent) meet(ctx context.Context) error {
	a.joiner = newJoiner(joinerOptions{
		Store: a.identity, Self: a.self, Version: a.config.Version, Expect: a.node.BootstrapExpect, Join: len(a.node.Join) > 0,
		Logger: a.logger, Now: a.config.Now,
	})
	if a.node.Clustered() {
		key, warning, err := config.ReadClusterKey(a.node.ClusterKeyFile)
		if err != nil {
			return err
		}
		if warning != "" {
			a.logger.Warn(warning)
		}
		a.makePeers(key)
		if err := a.openGossip(key); err != nil {
			return err
		}
		a.joiner.o.Gossip, a.joiner.o.Peers = a.gossip, a.peers
		a.joiner.handle(a.peers)
		a.loops.Go(a.keepLoop)
		a.loops.Go(func() {
			if err := a.peers.Serve(a.mux.Peers()); err != nil && a.ctx.Err() == nil {
				a.logger.Error("the peers' listener failed", "error", err)
			}
		})
	}
	var err error
	a.joined, err = a.joiner.run(ctx)
	return err
}

// openGossip starts Serf. Whom it finds is a hint; a node that can't be what it says is told about.
func (a *Agent) openGossip(key []byte) (err error) {
	self := describeSelf(a.identity.get(), a.self, hostPort(a.self), a.config.Version, a.node.BootstrapExpect)
	a.gossip, err = membership.Open(membership.Options{
		Node: a.node.NodeID, Bind: a.node.Gossip, Advertise: a.node.GossipAdvertise, Key: key, Self: self, Join: a.node.Join,
		Logger: a.logger, Now: a.config.Now,
		OnStranger: func(m membership.Member) {
			if err := a.joiner.foreign(m, len(a.machine.Image().Nodes)); err != nil {
				a.fail(err)
			}
		},
	})
	return err
}

// makePeers makes the network between the nodes. Some handlers stand for parts that are made later; until then they say so.
func (a *Agent) makePeers(key []byte) {
	a.peers = transport.NewPeers(transport.PeersOptions{
		Node: a.node.NodeID, Directory: a.identity.get().Directory, Version: a.config.Version, Key: key,
		Cluster: a.identity.clusterID, Resolve: a.resolve, Admit: a.admit, OnPeer: a.peerMoved, Logger: a.logger, Now: a.config.Now,
	})
	a.peers.Handle(leaders.PushCall, func(ctx context.Context, from transport.PeerInfo, body []byte) ([]byte, error) {
		return a.table.HandlePush(ctx, from.Node, body)
	})
	a.peers.Handle(controller.ProposeCall, func(ctx context.Context, from transport.PeerInfo, body []byte) ([]byte, error) {
		return a.proposals.Load().HandlePropose(ctx, from.Node, body)
	})
	for _, name := range admin.CallNames() {
		a.peers.Handle(name, func(ctx context.Context, from transport.PeerInfo, body []byte) ([]byte, error) {
			s := a.admin.Load()
			if s == nil {
				return nil, errStarting
			}
			return s.Handlers()[name](ctx, from.Node, body)
		})
	}
}

// network is what the Raft groups of this node speak through.
func (a *Agent) network() transport.Network {
	if a.peers == nil {
		return transport.None{}
	}
	return a.peers
}

// resolve finds a node's address. Of a node that gossip sees alive, gossip has the newest one. Of one that it has lost, what the
// metadata says may be newer: a node that is back somewhere else has registered there.
func (a *Agent) resolve(id replication.NodeID) (addr string, ok bool) {
	var gossiped string
	if a.gossip != nil {
		m, _ := a.gossip.Find(id)
		if gossiped = m.Addr; gossiped != "" && m.Status == membership.Alive {
			return gossiped, true
		}
	}
	if n, ok := a.machine.Image().Nodes[id]; ok {
		return hostPort(n), true
	}
	return gossiped, gossiped != ""
}

func hostPort(n replication.Node) string {
	return net.JoinHostPort(n.Host, strconv.Itoa(int(n.Port)))
}

// admit refuses a peer that says it is this node.
func (a *Agent) admit(p transport.PeerInfo) error {
	if p.Node == a.node.NodeID && p.Directory != a.identity.get().Directory {
		return fmt.Errorf("%w: node %d", ErrDuplicateNode, p.Node)
	}
	return nil
}

// peerMoved follows the connections to other nodes.
func (a *Agent) peerMoved(id replication.NodeID, up bool) {
	if up {
		a.table.PeerUp(id)
	} else {
		a.table.PeerDown(id)
	}
}

// oldAlive reports whether a process with a node id and a directory is connected.
func (a *Agent) oldAlive(id replication.NodeID, dir controller.DirectoryID) bool {
	if id == a.node.NodeID {
		return a.identity.get().Directory == directoryID(dir)
	}
	if a.peers == nil {
		return false
	}
	for _, p := range a.peers.Peers() {
		if p.Node == id && p.Directory == dir {
			return true
		}
	}
	return false
}

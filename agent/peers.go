package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/share/keeper"
	"github.com/quorlog/quorlog/grpcapi"
	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/internal/portmux"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/leaders"
	"github.com/quorlog/quorlog/replication/membership"
	"github.com/quorlog/quorlog/replication/partition"
	"github.com/quorlog/quorlog/replication/transport"
)

// contacts is a node among others: its port, its identity, whom it knows, and what it knows of them.
type contacts struct {
	base
	identity *identityStore
	ports    ports
	mux      *portmux.Mux     // the first port's
	self     replication.Node // as clients and peers are told
	joiner   *joiner
	joined   membershipResult
	peers    *transport.Peers   // nil for a node without a cluster key
	gossip   *membership.Gossip // likewise
	machine  *controller.Machine
	table    *leaders.Table
	// What peers may ask for before it is there.
	proposals atomic.Pointer[controller.Controller]
	admin     atomic.Pointer[admin.Service]
	txn       atomic.Pointer[transactions]
	keeper    atomic.Pointer[keeper.Service]
	compactor atomic.Pointer[partition.Compactor]
	local     atomic.Pointer[partition.Manager]
	native    atomic.Pointer[grpcapi.Server]
}

// errStarting answers peers that ask for what is not there yet.
var errStarting = errors.New("the node is starting")

// listen opens the ports. Peers are served from now on, because the node needs them to start; clients are when it is ready.
func (c *contacts) listen(context.Context) error {
	if err := c.openCerts(); err != nil {
		return err
	}
	for i, l := range c.node.Listeners {
		p, err := c.openPort(l, i == 0)
		if err != nil {
			return err
		}
		c.ports.all = append(c.ports.all, p)
	}
	c.mux = c.ports.all[0].mux
	told, err := c.ports.endpoints()
	if err != nil {
		return err
	}
	c.self = replication.Node{ID: c.node.NodeID, Host: told[0].Host, Port: told[0].Port, Rack: c.node.Rack, Endpoints: told}
	return nil
}

// meet starts the network between the nodes and the gossip, and finds this node's cluster.
func (c *contacts) meet(ctx context.Context) error {
	c.joiner = newJoiner(joinerOptions{
		Store: c.identity, Self: c.self, Version: c.config.Version, Expect: c.node.BootstrapExpect, Join: len(c.node.Join) > 0,
		Logger: c.levels.Logger("join"), Now: c.config.Now,
	})
	if c.node.Clustered() {
		key, warning, err := config.ReadClusterKey(c.node.ClusterKeyFile)
		if err != nil {
			return err
		}
		if warning != "" {
			c.logger.Warn(warning)
		}
		c.makePeers(key)
		nodes := c.mux.Peers() // before they hear of this one
		if err := c.openGossip(ctx, key); err != nil {
			return err
		}
		c.joiner.o.Gossip, c.joiner.o.Peers = c.gossip, c.peers
		c.joiner.handle(c.peers)
		c.loops.Go(c.keepLoop)
		c.loops.Go(func() {
			if err := c.peers.Serve(nodes); err != nil && c.ctx.Err() == nil {
				c.logger.Error("the peers' listener failed", "error", err)
			}
		})
	}
	var err error
	c.joined, err = c.joiner.run(ctx)
	return err
}

// openGossip starts Serf. Whom it finds is a hint; a node that can't be what it says is told about.
func (c *contacts) openGossip(ctx context.Context, key []byte) (err error) {
	self := describeSelf(c.identity.get(), c.self, hostPort(c.self), c.config.Version, c.node.BootstrapExpect)
	c.gossip, err = membership.Open(ctx, membership.Options{
		Node: c.node.NodeID, Bind: c.node.Gossip, Advertise: c.node.GossipAdvertise, Key: key, Self: self, Join: c.node.Join,
		Logger: c.levels.Logger("membership"), Now: c.config.Now,
		OnStranger: func(m membership.Member) {
			if err := c.joiner.foreign(m, len(c.machine.Image().Nodes)); err != nil {
				c.fail(err)
			}
		},
	})
	return err
}

// makePeers makes the network between the nodes. Some handlers stand for parts that are made later; until then they say so.
func (c *contacts) makePeers(key []byte) {
	o := transport.PeersOptions{
		Node: c.node.NodeID, Directory: c.identity.get().Directory, Version: c.config.Version, Key: key,
		Cluster: c.identity.clusterID, Resolve: c.resolve, Admit: c.admit, OnPeer: c.peerMoved, Logger: c.levels.Logger("transport"), Now: c.config.Now,
		Beat: min(transport.DefaultBeat, raftTiming(c.layers).Lease*3/10),
	}
	if may, _ := c.node.PeerTLS(); may {
		o.Dial, o.Certified = c.dialPeer, c.certified
	}
	c.peers = transport.NewPeers(o)
	c.peers.Handle(leaders.PushCall, func(ctx context.Context, from transport.PeerInfo, body []byte) ([]byte, error) {
		return c.table.HandlePush(ctx, from.Node, body)
	})
	c.peers.Handle(controller.ProposeCall, func(ctx context.Context, from transport.PeerInfo, body []byte) ([]byte, error) {
		return c.proposals.Load().HandlePropose(ctx, from.Node, body)
	})
	c.handleTxn()
	c.handleShares()
	c.handleCompact()
	c.handleWatermarks()
	c.handleNative()
	for _, name := range admin.CallNames() {
		c.peers.Handle(name, func(ctx context.Context, from transport.PeerInfo, body []byte) ([]byte, error) {
			s := c.admin.Load()
			if s == nil {
				return nil, errStarting
			}
			return s.Handlers()[name](ctx, from.Node, body)
		})
	}
}

// network is what the Raft groups of this node speak through.
func (c *contacts) network() transport.Network {
	if c.peers == nil {
		return transport.None{}
	}
	return c.peers
}

// resolve finds a node's address. Of a node that gossip sees alive, gossip has the newest one. Of one that it has lost, what the
// metadata says may be newer: a node that is back somewhere else has registered there.
func (c *contacts) resolve(id replication.NodeID) (addr string, ok bool) {
	var gossiped string
	if c.gossip != nil {
		m, _ := c.gossip.Find(id)
		if gossiped = m.Addr; gossiped != "" && m.Status == membership.Alive {
			return gossiped, true
		}
	}
	if n, ok := c.machine.Image().Nodes[id]; ok {
		return hostPort(n), true
	}
	return gossiped, gossiped != ""
}

func hostPort(n replication.Node) string {
	return net.JoinHostPort(n.Host, strconv.Itoa(int(n.Port)))
}

// admit refuses a peer that says it is this node.
func (c *contacts) admit(p transport.PeerInfo) error {
	if p.Node == c.node.NodeID && p.Directory != c.identity.get().Directory {
		return fmt.Errorf("%w: node %d", ErrDuplicateNode, p.Node)
	}
	return nil
}

// peerMoved follows the connections to other nodes.
func (c *contacts) peerMoved(id replication.NodeID, up bool) {
	if up {
		c.table.PeerUp(id)
	} else {
		c.table.PeerDown(id)
	}
}

// oldAlive reports whether a process with a node id and a directory is connected.
func (c *contacts) oldAlive(id replication.NodeID, dir controller.DirectoryID) bool {
	if id == c.node.NodeID {
		return c.identity.get().Directory == directoryID(dir)
	}
	if c.peers == nil {
		return false
	}
	for _, p := range c.peers.Peers() {
		if p.Node == id && p.Directory == dir {
			return true
		}
	}
	return false
}

// live lists the nodes that this one is in touch with, and itself.
func (c *contacts) live() []replication.NodeID {
	nodes := []replication.NodeID{c.node.NodeID}
	if c.peers != nil {
		for _, p := range c.peers.Peers() {
			nodes = append(nodes, p.Node)
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// callPeer reaches another node.
func (c *contacts) callPeer(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
	if c.peers == nil {
		return nil, transport.ErrUnreachable
	}
	return c.peers.Call(ctx, to, name, body)
}

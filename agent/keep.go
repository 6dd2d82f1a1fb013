package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// keepInterval is how often keepLoop looks without being told: the metadata names nodes that gossip has not found.
const keepInterval = time.Second

// keepLoop keeps this node connected to the others of its cluster, whether it has something to say to them or not: a node
// is alive, for the controller, the leadership table and the choice of replicas, while it is connected.
func (c *contacts) keepLoop() {
	wake := make(chan struct{}, 1)
	defer c.gossip.Watch(func() {
		select {
		case wake <- struct{}{}:
		default: // it will look at all members anyway
		}
	})()
	tick := time.NewTicker(keepInterval)
	defer tick.Stop()
	for {
		c.peers.Keep(c.fellows())
		select {
		case <-c.ctx.Done():
			return
		case <-wake:
		case <-tick.C:
		}
	}
}

// fellows are the nodes of this node's cluster, as far as metadata or gossip know them.
func (c *contacts) fellows() []replication.NodeID {
	nodes := maps.Clone(c.machine.Image().Nodes)
	if nodes == nil {
		nodes = map[replication.NodeID]replication.Node{}
	}
	cluster := c.identity.clusterID()
	for _, m := range c.gossip.Members() {
		if cluster != "" && m.Cluster == cluster {
			nodes[m.Node] = replication.Node{}
		}
	}
	return slices.Sorted(maps.Keys(nodes))
}

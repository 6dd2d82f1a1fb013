package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/membership"
)

// gossiping is a node of the world whose gossip is real; only calls and the metadata group are the world's.
type gossiping struct {
	*worldNode
	gossip *membership.Gossip
	ended  chan error
}

// gossipOn opens a node's gossip on loopback and lets it find its cluster.
func gossipOn(t *testing.T, n *worldNode, expect int, key string, join ...string) *gossiping {
	t.Helper()
	if err := n.start(expect, len(join) > 0); err != nil {
		t.Fatal(err)
	}
	g, err := membership.Open(t.Context(), membership.Options{Node: n.id, Bind: "127.0.0.1:0", Key: []byte(key), Self: n.mu.self, Join: join})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	n.j.o.Gossip = g
	out := &gossiping{n, g, make(chan error, 1)}
	go func() {
		r, err := n.j.run(t.Context())
		if err == nil {
			err = n.open(r)
		}
		out.ended <- err
	}()
	return out
}

func await(t *testing.T, nodes ...*gossiping) {
	t.Helper()
	for _, n := range nodes {
		select {
		case err := <-n.ended:
			if err != nil {
				t.Errorf("node %d: %v", n.id, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("node %d has not found its cluster: it is %s", n.id, n.state())
		}
	}
}

// TestThreeNodesGossip: three nodes that know one address each find each other through Serf on loopback, found one cluster, and a
// fourth one that comes later joins it.
func TestThreeNodesGossip(t *testing.T) {
	const key = "the key of this cluster"
	w := newJoinWorld(t)
	for id := replication.NodeID(1); id <= 4; id++ {
		w.node(id)
	}
	three := gossipOn(t, w.nodes[3], 3, key)
	one := gossipOn(t, w.nodes[1], 3, key, three.gossip.Addr())
	two := gossipOn(t, w.nodes[2], 3, key, one.gossip.Addr())
	await(t, one, two, three)
	w.check()
	four := gossipOn(t, w.nodes[4], 0, key, two.gossip.Addr())
	await(t, four)
	cluster := one.store.clusterID()
	for _, n := range []*gossiping{one, two, three, four} {
		if i := n.store.get(); i.State != member || i.ClusterID != cluster || cluster == "" {
			t.Errorf("node %d is %s, the cluster is %s", n.id, n.state(), cluster)
		}
		if m, ok := n.gossip.Find(n.id); !ok || m.Cluster != cluster || m.Fresh {
			t.Errorf("node %d tells of itself: %+v", n.id, m)
		}
	}
	if w.mu.founders[cluster] != 1 {
		t.Errorf("node %d founded it", w.mu.founders[cluster])
	}
}

// TestGossipForeignCluster: a cluster of one that is told to join another one learns of it, by both names.
func TestGossipForeignCluster(t *testing.T) {
	const key = "the key of both clusters"
	here, there := newJoinWorld(t).node(1), newJoinWorld(t).node(2)
	for _, n := range []*worldNode{here, there} {
		if err := n.start(1, false); err != nil {
			t.Fatal(err)
		}
		r, err := n.j.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(n.open(r), n.store.Close()); err != nil {
			t.Fatal(err)
		}
	}
	first := gossipOn(t, here, 1, key)
	await(t, first)
	if err := there.start(0, true); err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 1)
	var once sync.Once
	g, err := membership.Open(t.Context(), membership.Options{
		Node: 2, Bind: "127.0.0.1:0", Key: []byte(key), Self: there.mu.self, Join: []string{first.gossip.Addr()},
		OnStranger: func(m membership.Member) { once.Do(func() { refused <- there.j.foreign(m, 1) }) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case err := <-refused:
		if !errors.Is(err, ErrOtherCluster) {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("the other cluster was not noticed")
	}
}

package faults

import (
	"testing"
	"time"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// cut is one way to break the network of three nodes, of which one leads partition 0.
type cut struct {
	name string
	make func(t *testing.T, n *testcluster.Network, leader, a, b int)
	// stuck tells that the partition may take nothing while the cut lasts.
	stuck bool
}

var cuts = []cut{
	{name: "the leader is alone", make: func(t *testing.T, n *testcluster.Network, leader, _, _ int) { n.Isolate(t, leader) }},
	{name: "a follower is alone", make: func(t *testing.T, n *testcluster.Network, _, a, _ int) { n.Isolate(t, a) }},
	{name: "the leader hears nobody", make: func(t *testing.T, n *testcluster.Network, leader, a, b int) {
		n.CutOneWay(t, a, leader)
		n.CutOneWay(t, b, leader)
	}},
	{name: "nobody hears the leader", make: func(t *testing.T, n *testcluster.Network, leader, a, b int) {
		n.CutOneWay(t, leader, a)
		n.CutOneWay(t, leader, b)
	}},
	{name: "a follower hears nobody", make: func(t *testing.T, n *testcluster.Network, leader, a, b int) {
		n.CutOneWay(t, leader, a)
		n.CutOneWay(t, b, a)
	}},
	{name: "the leader and a follower don't hear each other, the third hears both", make: func(t *testing.T, n *testcluster.Network, leader, a, _ int) {
		n.Cut(t, leader, a)
	}},
	{name: "each hears one other, in a ring", make: func(t *testing.T, n *testcluster.Network, leader, a, b int) {
		n.CutOneWay(t, leader, a)
		n.CutOneWay(t, a, b)
		n.CutOneWay(t, b, leader)
	}, stuck: true},
	{name: "everybody is alone", make: func(t *testing.T, n *testcluster.Network, leader, a, b int) {
		n.Isolate(t, leader)
		n.Cut(t, a, b)
	}, stuck: true},
	{name: "clients don't reach the leader", make: func(t *testing.T, n *testcluster.Network, leader, _, _ int) {
		n.Cut(t, leader, testcluster.ClientHost)
	}, stuck: true},
	{name: "a third of the packets to the leader are lost", make: func(t *testing.T, n *testcluster.Network, leader, _, _ int) {
		n.Lose(t, leader, 30)
	}, stuck: true},
	{name: "connections to the leader are reset", make: func(t *testing.T, n *testcluster.Network, leader, a, b int) {
		n.Reset(t, a, leader)
		n.Reset(t, b, leader)
	}},
}

// TestCuts cuts links in every way that three nodes allow. A majority whose members hear each other must go on.
func TestCuts(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{Netns: true}, LoadOptions{Probers: 1, Shots: 2, Plain: 1})
	rounds := scaled(1, 15)
	for i := range rounds * len(cuts) {
		cut := cuts[i%len(cuts)]
		l.WaitAcked(100 + rng.IntN(500))
		leader := leaderOf(t, c, l.Topic, 0)
		l.Probers[0].ResetGap()
		cut.make(t, c.Network, leader, leader%3+1, (leader+1)%3+1)
		if !cut.stuck {
			// Twice what the probers wait for an answer: these acknowledgements were given while the cut lasted.
			idle(2 * probeLimit)
			awaitAcks(t, l.Probers[0], 20)
		} else {
			idle(time.Duration(1+rng.IntN(3)) * time.Second)
		}
		c.Network.Heal(t)
		awaitAcks(t, l.Probers[0], 3)
		gap, _ := l.Probers[0].Gap()
		awaitWhole(t, c, l.Topic, l.o.Partitions)
		t.Logf("%s: %v without acknowledgement", cut.name, gap.Round(time.Millisecond))
	}
	l.Check()
	t.Logf("the prober's answers: %v; sent once: %v", l.Probers[0].Errors(), l.Probers[1].Errors())
}

// TestGossipCut blocks the gossip port alone: gossip is a hint, so nothing may move.
func TestGossipCut(t *testing.T) {
	c, l, _ := cluster(t, testcluster.ClusterOptions{Netns: true}, LoadOptions{Probers: 1})
	before := l.History.Elections()
	for id := range 3 {
		c.Network.DropPort(t, id+1, c.Gossip(id+1))
	}
	idle(time.Duration(scaled(10, 60)) * time.Second)
	l.WaitAcked(100)
	c.Network.Heal(t)
	noElections(t, l, before)
	l.Check()
}

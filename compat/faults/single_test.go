package faults

import (
	"testing"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestSingleKilled: a node alone, killed again and again.
func TestSingleKilled(t *testing.T) {
	c, l, rng := single(t, testcluster.ClusterOptions{})
	for range scaled(5, 100) {
		l.WaitAcked(200 + rng.IntN(1000))
		c.Kill(1)
		c.StartAll(1)
	}
	l.WaitAcked(200)
	l.Check()
	t.Logf("the prober's answers: %v", l.Probers[0].Errors())
}

// TestSinglePaused: a node alone that stands still for longer than its clients wait.
func TestSinglePaused(t *testing.T) {
	c, l, rng := single(t, testcluster.ClusterOptions{})
	for range scaled(2, 20) {
		l.WaitAcked(200 + rng.IntN(1000))
		c.Node(1).Pause()
		idle(2 * probeLimit)
		c.Node(1).Resume()
	}
	l.WaitAcked(200)
	l.Check()
}

// TestSingleCutOff: clients that lose their node for a while, both ways and one way: what was under way when the link
// broke may have been written, and is sent again.
func TestSingleCutOff(t *testing.T) {
	c, l, rng := single(t, testcluster.ClusterOptions{Netns: true})
	for i := range scaled(3, 30) {
		l.WaitAcked(200 + rng.IntN(1000))
		switch i % 3 {
		case 0:
			c.Network.Cut(t, 1, testcluster.ClientHost)
		case 1:
			c.Network.Lose(t, 1, 30)
		case 2:
			c.Network.Reset(t, testcluster.ClientHost, 1)
		}
		idle(2 * probeLimit)
		c.Network.Heal(t)
	}
	l.WaitAcked(200)
	l.Check()
}

// TestSinglePowerCut: a node alone whose power goes.
func TestSinglePowerCut(t *testing.T) {
	c, l, rng := single(t, testcluster.ClusterOptions{DiskMB: 512})
	for range scaled(3, 50) {
		l.WaitAcked(200 + rng.IntN(1000))
		c.PowerCut()
		c.StartAll(1)
	}
	l.WaitAcked(200)
	l.Check()
}

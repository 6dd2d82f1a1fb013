package faults

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// cluster starts some nodes and a load.
func cluster(t *testing.T, o testcluster.ClusterOptions, lo LoadOptions) (*testcluster.Cluster, *Load, *rand.Rand) {
	t.Helper()
	rng, seed := chance(t)
	c := testcluster.StartCluster(t, o)
	l := StartLoad(t, c, seed, lo)
	awaitWhole(t, c, l.Topic, l.o.Partitions)
	return c, l, rng
}

// TestLeaderKills kills the leader of a partition under load, again and again, and measures how long the partition takes
// nothing: from the last acknowledgement before to the first after, seen by one client that follows hints.
func TestLeaderKills(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 1, Shots: 1, Plain: 1})
	prober := l.Probers[0]
	var gaps, ready []time.Duration
	for range scaled(30, 500) {
		l.WaitAcked(100 + rng.IntN(500))
		victim := leaderOf(t, c, l.Topic, prober.partition)
		prober.ResetGap()
		c.Kill(victim)
		awaitAcks(t, prober, 30)
		gap, _ := prober.Gap()
		gaps = append(gaps, gap)
		ready = append(ready, c.StartAll(victim))
		awaitWhole(t, c, l.Topic, l.o.Partitions)
	}
	l.Check()
	t.Logf("without a leader: %s", quantiles(gaps))
	t.Logf("restart until ready: %s", quantiles(ready))
	t.Logf("the prober's answers: %v", prober.Errors())
	slices.Sort(gaps)
	if p99 := gaps[len(gaps)*99/100]; rig.Full() && p99 > aimGap {
		t.Logf("the aim, a p99 of %v, is missed", aimGap)
	}
}

// aimGap is how long a partition should be without a leader at most, in 99 of 100 kills, on a machine that is quiet. It is a figure, and no
// check: what a new leader needs most of is time on a processor and a disk that whatever else is running takes from it.
const aimGap = 1200 * time.Millisecond

// awaitAcks waits until a prober has got some more acknowledgements.
func awaitAcks(t *testing.T, p *Prober, more int) {
	t.Helper()
	_, before := p.Gap()
	await(t, func() string {
		if _, now := p.Gap(); now < before+more {
			return "the prober gets no acknowledgements"
		}
		return ""
	})
}

// TestTwoLeadersInARow kills the leader, and its successor as soon as that has acknowledged something: only when one of
// them is back can the partition go on.
func TestTwoLeadersInARow(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 1, Shots: 1})
	for range scaled(4, 60) {
		l.WaitAcked(100 + rng.IntN(500))
		first := leaderOf(t, c, l.Topic, 0)
		c.Kill(first)
		awaitAcks(t, l.Probers[0], 3)
		second := leaderOf(t, c, l.Topic, 0, first)
		c.Kill(second)
		back := []int{first, second}
		rng.Shuffle(2, func(i, j int) { back[i], back[j] = back[j], back[i] })
		c.Launch(back[0])
		awaitAcks(t, l.Probers[0], 3)
		c.Launch(back[1])
		c.AwaitReady(back...)
		awaitWhole(t, c, l.Topic, l.o.Partitions)
	}
	l.Check()
}

// TestAllKilled kills all nodes at once and starts them in any order. All that was acknowledged must be there, and every
// partition must take records again within seconds of the last start.
func TestAllKilled(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 4, Plain: 1})
	var serving []time.Duration
	for range scaled(5, 100) {
		l.WaitAcked(100 + rng.IntN(1000))
		c.Kill()
		serving = append(serving, restartAll(t, c, l, rng))
	}
	l.Check()
	t.Logf("all partitions serve after the last start: %s", quantiles(serving))
	for _, took := range serving {
		if rig.Full() && took > 5*time.Second {
			t.Errorf("it took %v until all partitions served again", took)
		}
	}
}

// restartAll starts all nodes in a random order, with random pauses, and returns the time from the last start until each
// prober was acknowledged.
func restartAll(t *testing.T, c *testcluster.Cluster, l *Load, rng *rand.Rand) time.Duration {
	t.Helper()
	ids := c.IDs()
	rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	before := make([]int, len(l.Probers))
	for i, p := range l.Probers {
		_, before[i] = p.Gap()
	}
	for _, id := range ids {
		idle(time.Duration(rng.IntN(300)) * time.Millisecond)
		c.Launch(id)
	}
	began := time.Now()
	for i, p := range l.Probers {
		await(t, func() string {
			if _, acks := p.Gap(); acks == before[i] {
				return "a partition takes nothing after all nodes were restarted"
			}
			return ""
		})
	}
	took := time.Since(began)
	c.AwaitReady(ids...)
	return took
}

// TestAllPowerCut takes the power from all nodes at once.
func TestAllPowerCut(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{DiskMB: 1024}, LoadOptions{Probers: 4, Plain: 1})
	var serving []time.Duration
	for range scaled(20, 100) {
		l.WaitAcked(200 + rng.IntN(1500))
		c.PowerCut()
		serving = append(serving, restartAll(t, c, l, rng))
	}
	l.Check()
	t.Logf("all partitions serve after the last start: %s", quantiles(serving))
}

// TestPowerCutAndPause is what lost most of NATS' acknowledged messages in Jepsen's report: the power of one node goes
// while another stands still, so that the cluster's fate hangs on the third and on what the first had fsynced.
func TestPowerCutAndPause(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{DiskMB: 1024}, LoadOptions{Probers: 1, Plain: 1})
	for range scaled(4, 60) {
		l.WaitAcked(200 + rng.IntN(1000))
		ids := rng.Perm(3)
		paused, cut := ids[0]+1, ids[1]+1
		c.Node(paused).Pause()
		idle(time.Duration(rng.IntN(700)) * time.Millisecond)
		c.PowerCut(cut)
		c.StartAll(cut)
		awaitAcks(t, l.Probers[0], 3)
		c.Node(paused).Resume()
		awaitWhole(t, c, l.Topic, l.o.Partitions)
	}
	l.Check()
}

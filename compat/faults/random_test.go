package faults

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// fault is something that goes wrong for a while with one node.
type fault struct {
	name  string
	begin func(m *mess, id int)
	end   func(m *mess, id int)
}

// mess is what TestRandomFaults works on.
type mess struct {
	t   *testing.T
	c   *testcluster.Cluster
	l   *Load
	rng *rand.Rand
}

func (m *mess) other(id int) int { return (id+m.rng.IntN(2))%3 + 1 }

var faults = []fault{
	{"kill", func(m *mess, id int) { m.c.Kill(id) }, func(m *mess, id int) { m.c.Launch(id) }},
	{"stop", func(m *mess, id int) { m.c.Stop(id) }, func(m *mess, id int) { m.c.Launch(id) }},
	{"power cut", func(m *mess, id int) { m.c.PowerCut(id) }, func(m *mess, id int) { m.c.Launch(id) }},
	{"pause", func(m *mess, id int) { m.c.Node(id).Pause() }, func(m *mess, id int) { m.c.Node(id).Resume() }},
	{"alone", func(m *mess, id int) { m.c.Network.Isolate(m.t, id) }, heal},
	{"cut", func(m *mess, id int) { m.c.Network.Cut(m.t, id, m.other(id)) }, heal},
	{"deaf", func(m *mess, id int) { m.c.Network.CutOneWay(m.t, m.other(id), id) }, heal},
	{"lossy", func(m *mess, id int) { m.c.Network.Lose(m.t, id, 20) }, heal},
	{"preferred leaders", electPreferred, func(*mess, int) {}},
	{"nothing", func(*mess, int) {}, func(*mess, int) {}},
	{"nothing", func(*mess, int) {}, func(*mess, int) {}},
}

func heal(m *mess, _ int) { m.c.Network.Heal(m.t) }

// electPreferred moves leaderships, whatever else goes on; that it may fail is part of it.
func electPreferred(m *mess, _ int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var all kadm.TopicsSet
	for p := range m.l.o.Partitions {
		all.Add(m.l.Topic, p)
	}
	_, _ = m.c.Admin().ElectLeaders(ctx, kadm.ElectPreferredReplica, all)
}

// TestRandomFaults lets two faults at a time go on, on nodes chosen by chance, each beginning and ending when it likes: a
// node that is started while another is cut off, two that are down at once, a pause in the middle of an election. In the
// end all is healed, and all must be well.
func TestRandomFaults(t *testing.T) {
	randomFaults(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 2, Shots: 2, Plain: 1, Readers: 2})
}

// TestRandomFaultsWithRetention is the same while the log start moves all the time: who was away for some seconds comes back
// to a log that has gone on without it.
func TestRandomFaultsWithRetention(t *testing.T) {
	randomFaults(t, testcluster.ClusterOptions{Args: []string{"--set", "log.retention.check.interval.ms=500"}}, LoadOptions{
		Partitions: 2, Probers: 1, Shots: 1, Readers: 1, Jumps: true, Size: 4 << 10,
		Configs: []string{"segment.bytes=1048576", "retention.bytes=1048576"},
	})
}

func randomFaults(t *testing.T, o testcluster.ClusterOptions, lo LoadOptions) {
	t.Helper()
	o.Netns, o.DiskMB = true, 1024
	c, l, rng := cluster(t, o, lo)
	m := &mess{t: t, c: c, l: l, rng: rng}
	for end := time.Now().Add(length(40*time.Second, time.Hour)); time.Now().Before(end); {
		a, b := rng.IntN(3)+1, rng.IntN(3)+1
		first, second := faults[rng.IntN(len(faults))], faults[rng.IntN(len(faults))]
		t.Logf("%s of node %d, %s of node %d", first.name, a, second.name, b)
		first.begin(m, a)
		m.wait()
		if b != a {
			second.begin(m, b)
			m.wait()
		}
		first.end(m, a)
		if b != a {
			m.wait()
			second.end(m, b)
		}
		for _, id := range []int{a, b} {
			if !c.Node(id).Running() {
				t.Fatalf("node %d has ended by itself: %v", id, c.Node(id).ExitError())
			}
		}
		c.Network.Heal(t)
		m.wait()
		if rng.IntN(4) == 0 {
			awaitWhole(t, c, l.Topic, l.o.Partitions)
			l.WaitAcked(50)
		}
	}
	awaitWhole(t, c, l.Topic, l.o.Partitions)
	l.WaitAcked(100)
	l.Check()
	t.Logf("%d changes of leaders; answers: %v; sent once: %v", l.History.Elections(), l.Probers[0].Errors(), l.Probers[len(l.Probers)-1].Errors())
	for _, id := range c.IDs() {
		t.Logf("node %d took snapshots of %v bytes", id, snapshots(c.Node(id)))
	}
}

// wait lets a fault last from hardly at all to longer than an election.
func (m *mess) wait() { idle(time.Duration(m.rng.IntN(1200)) * time.Millisecond) }

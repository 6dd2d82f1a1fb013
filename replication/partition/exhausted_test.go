package partition

//quorlog:bubble every test of this file runs in one

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/transport"
)

// shortages are the ways in which a read of a sealed segment fails though nothing is wrong with its files.
var shortages = []vfs.Rule{
	{Op: vfs.OpOpen, Match: func(name string) bool { return strings.HasSuffix(name, ".log") }, Err: syscall.EMFILE, Last: -1},
	{Op: vfs.OpOpen, Match: func(name string) bool { return strings.HasSuffix(name, ".index") }, Err: syscall.ENFILE, Last: -1},
	{Op: vfs.OpMap, Match: func(name string) bool { return strings.HasSuffix(name, ".index") }, Err: syscall.ENOMEM, Last: -1},
}

// crowd is some nodes with one partition, on file systems whose calls can fail.
type crowd struct {
	t     *testing.T
	net   *transport.Mem
	disks map[replication.NodeID]*vfs.Injector
	nodes map[replication.NodeID]*node
	cfg   replication.TopicConfig
	tail  int64
}

func newCrowd(t *testing.T) *crowd {
	c := &crowd{t: t, net: transport.NewMem(0), disks: map[replication.NodeID]*vfs.Injector{}, nodes: map[replication.NodeID]*node{}, cfg: testConfig()}
	c.cfg.SegmentBytes = 4 << 10
	return c
}

func (c *crowd) ensure(a replication.Assignment, id replication.NodeID) (*Partition, error) {
	if c.disks[id] == nil {
		c.disks[id] = vfs.Inject(vfs.NewMem())
	}
	if c.nodes[id] == nil {
		c.nodes[id] = open(c.t, Options{DataDir: "/d", FS: c.disks[id], Node: id, Network: c.net, TailBytes: c.tail})
	}
	return c.nodes[id].Ensure(ctx, testID(0), "topic", a, c.cfg)
}

func (c *crowd) start(a replication.Assignment, nodes ...replication.NodeID) (parts []*Partition) {
	c.t.Helper()
	for _, id := range nodes {
		p, err := c.ensure(a, id)
		if err != nil {
			c.t.Fatal(err)
		}
		parts = append(parts, p)
	}
	return parts
}

func (c *crowd) stop(id replication.NodeID) {
	c.t.Helper()
	if err := c.nodes[id].Close(); err != nil {
		c.t.Error(err)
	}
	delete(c.nodes, id)
}

func (c *crowd) close() {
	for id := range c.nodes {
		c.disks[id].Disarm()
		c.stop(id)
	}
}

func (c *crowd) waitFor(what string, done func() bool) {
	c.t.Helper()
	for range 6000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("in vain: %s", what)
}

// A leader has no descriptor left to read for a learner what was there before it. That is no damage: the learner gets it once there is one.
func TestALearnerWaitsForDescriptors(t *testing.T) {
	for _, shortage := range shortages {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t)
			defer c.close()
			a := replication.Assignment{Replicas: rids(1)}
			p := c.start(a, 1)[0]
			c.nodes[1].waitLead(p)
			for range 40 {
				mustAppend(t, p, batch.BuildOptions{}, strings.Repeat("v", 1000))
			}
			c.stop(1) // what is in memory is forgotten
			p = c.start(a, 1)[0]
			c.nodes[1].waitLead(p)
			rule := c.disks[1].Arm(shortage)
			learner := c.start(reassign(a, rids(1, 2)...), 1, 2)[1]
			var reached []replication.ReplicaID
			converge := func() bool {
				for _, n := range c.nodes {
					n.Converge(ctx, func(_ replication.PartitionID, voters []replication.ReplicaID) { reached = voters })
				}
				return reached != nil
			}
			c.waitFor("reads that fail", func() bool { converge(); return rule.Hits() > 20 || p.Err() != nil })
			if p.Err() != nil || !p.Leading() || reached != nil || learner.log.Offsets().LogEnd == p.log.Offsets().LogEnd {
				t.Fatalf("%v: offline %v, leading %v, reached %v, learner %+v", shortage.Err, p.Err(), p.Leading(), reached, learner.log.Offsets())
			}
			if _, err := p.Read(ReadRequest{MaxBytes: 1 << 20, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch}); err == nil || p.Err() != nil {
				t.Errorf("%v: a consumer's read: %v, offline %v", shortage.Err, err, p.Err())
			}
			mustAppend(t, p, batch.BuildOptions{}, "meanwhile")
			rule.Disarm()
			c.waitFor("the learner has all", converge)
			if want := readAll(t, p, 0); len(want) != 41 || !slices.Equal(reached, rids(1, 2)) {
				t.Errorf("%d values, group %v", len(want), reached)
			}
			c.waitFor("both have the same", func() bool { return learner.log.Offsets() == p.log.Offsets() })
		})
	}
}

// A follower that can't read what it is to apply waits, and applies all of it.
func TestAFollowerWaitsForDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		c.tail, c.cfg.SegmentBytes = 1, 1
		defer c.close()
		parts := c.start(replication.Assignment{Replicas: rids(1, 2, 3)}, 1, 2, 3)
		var leader *Partition
		c.waitFor("a leader", func() bool {
			i := slices.IndexFunc(parts, (*Partition).Leading)
			if i >= 0 {
				leader = parts[i]
			}
			return i >= 0
		})
		follower := parts[leader.self.Node%3]
		mustAppend(t, leader, batch.BuildOptions{}, "before")
		rule := c.disks[follower.self.Node].Arm(shortages[2])
		for range 10 {
			mustAppend(t, leader, batch.BuildOptions{}, "v")
		}
		c.waitFor("reads that fail", func() bool { return rule.Hits() > 20 || follower.Err() != nil })
		if o := follower.log.Offsets(); follower.Err() != nil || o.HighWatermark == leader.log.Offsets().HighWatermark {
			t.Fatalf("offline %v, %+v", follower.Err(), o)
		}
		rule.Disarm()
		c.waitFor("it has applied all", func() bool { return follower.log.Offsets() == leader.log.Offsets() })
		if follower.Err() != nil || leader.Err() != nil {
			t.Errorf("offline: %v, %v", follower.Err(), leader.Err())
		}
	})
}

// A node stops while it waits so. It can't start without reading either; that is no damage, and is tried again.
func TestANodeStopsWithoutDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		c.tail, c.cfg.SegmentBytes = 1, 1
		defer c.close()
		a := replication.Assignment{Replicas: rids(1, 2, 3)}
		parts := c.start(a, 1, 2, 3)
		c.waitFor("a leader", func() bool { return slices.ContainsFunc(parts, (*Partition).Leading) })
		leader := parts[slices.IndexFunc(parts, (*Partition).Leading)]
		follower := parts[leader.self.Node%3]
		id := follower.self.Node
		rule := c.disks[id].Arm(shortages[2])
		for range 10 {
			mustAppend(t, leader, batch.BuildOptions{}, "v")
		}
		c.waitFor("reads that fail", func() bool { return rule.Hits() > 20 || follower.Err() != nil })
		c.stop(id)
		if err := follower.Err(); err != nil {
			t.Errorf("offline: %v", err)
		}
		if _, err := c.ensure(a, id); !errors.Is(err, syscall.ENOMEM) || isDamage(err) {
			t.Errorf("the start: %v", err)
		}
		if _, ok := c.nodes[id].Get(testID(0)); ok || len(c.nodes[id].fatals()) > 0 {
			t.Errorf("open: %v, fatal: %v", ok, c.nodes[id].fatals())
		}
		rule.Disarm()
		follower = c.start(a, id)[0]
		c.waitFor("it has applied all", func() bool { return follower.log.Offsets() == leader.log.Offsets() })
	})
}

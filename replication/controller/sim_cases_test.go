package controller

//quorlog:bubble simulate runs every test of this file in one

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/replication"
)

func oneTopic(name string) []NewTopic {
	return []NewTopic{{Name: name, Partitions: 1, ReplicationFactor: 1}}
}

func TestSimForming(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 7} {
		simulate(t, func(t *testing.T, c *cluster) {
			began := time.Now()
			c.found(n)
			t.Logf("%d nodes: %v", n, time.Since(began))
		})
	}
}

// A change at any node is answered when every node has it.
func TestSimForwarding(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.found(3)
		for i, m := range c.present() {
			name := fmt.Sprintf("from-%d", i)
			began := time.Now()
			r := m.ctl.CreateTopics(t.Context(), []NewTopic{{Name: name, Partitions: 2, ReplicationFactor: 3}, {Name: "bad/name", Partitions: 1, ReplicationFactor: 1}}, false)
			if r[0].Err != nil || r[0].Topic.Name != name || len(r[0].Topic.Partitions[1].Replicas) != 3 || !errors.Is(r[1].Err, replication.ErrInvalidTopic) {
				t.Fatalf("%+v", r)
			}
			for _, other := range c.present() {
				got := other.ctl.Image().Topics[name]
				if got == nil || got.ID != r[0].Topic.ID {
					t.Errorf("node %d does not know what node %d has made", other.id, m.id)
				}
			}
			if took := time.Since(began); took >= DefaultSpreadPatience {
				t.Errorf("node %d was answered after %v", m.id, took)
			}
			first, count, err := m.ctl.AllocateProducerIDs(t.Context())
			if err != nil || first != int64(i)*int64(count) {
				t.Errorf("%d, %d, %v", first, count, err)
			}
			if _, err := m.ctl.RenewReplica(t.Context(), replication.PartitionID{}, replication.ReplicaID{}); !errors.Is(err, replication.ErrUnknownTopicID) {
				t.Errorf("the error has lost its kind: %v", err)
			}
		}
		// A node that does not follow costs no more than the patience.
		follower := c.present()[0]
		if follower == c.leader() {
			follower = c.present()[1]
		}
		for id := range c.nodes {
			c.each(id, follower.id, c.net.Cut)
		}
		began := time.Now()
		if r := c.leader().ctl.CreateTopics(t.Context(), oneTopic("late"), false); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
		if took := time.Since(began); took < DefaultSpreadPatience || took > 2*DefaultSpreadPatience {
			t.Errorf("answered after %v", took)
		}
		c.mendAll()
		c.until("it follows again", c.formed)
	})
}

// The answer got lost: the change may have been made, and the caller is told so, unless it may be made twice, or it can be seen whether it was.
func TestSimLostAnswer(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.found(3)
		leader := c.leader()
		var other *member
		for _, m := range c.present() {
			if m != leader {
				other = m
			}
		}
		c.calls.losing[leader.id] = 1
		if r := other.ctl.CreateTopics(t.Context(), oneTopic("perhaps"), false); r[0].Err != nil || r[0].Topic.ID != other.ctl.Image().Topics["perhaps"].ID {
			t.Errorf("got %+v", r[0])
		}
		if r := other.ctl.CreateTopics(t.Context(), oneTopic("perhaps"), false); !errors.Is(r[0].Err, replication.ErrTopicExists) {
			t.Errorf("again: %v", r[0].Err)
		}
		c.calls.losing[leader.id] = 1
		if r := other.ctl.DeleteTopics(t.Context(), []TopicRef{{Name: "perhaps"}}); !errors.Is(r[0], replication.ErrUnknownOutcome) {
			t.Errorf("a deletion: %v", r[0])
		}
		c.until("it was deleted", func() bool { return other.ctl.Image().Topics["perhaps"] == nil })
		// What may be made twice is.
		before := other.ctl.Image().NextProducerID
		c.calls.losing[leader.id] = 1
		if first, _, err := other.ctl.AllocateProducerIDs(t.Context()); err != nil || first != before+1000 {
			t.Errorf("%d after %d, %v", first, before, err)
		}
		// Without a way to the controller nothing is made, and that is certain.
		c.oneWay(other.id, leader.id)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if r := other.ctl.CreateTopics(ctx, oneTopic("never"), false); !errors.Is(r[0].Err, ErrNotController) {
			t.Errorf("got %v", r[0].Err)
		}
		c.mendAll()
		c.until("all is well", c.formed)
		if other.ctl.Image().Topics["never"] != nil {
			t.Error("what was certainly not made was made")
		}
	})
}

// The controller dies: a change waits for the next one.
func TestSimControllerDies(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.found(3)
		old := c.leader()
		old.stop()
		for _, m := range c.present() {
			if r := m.ctl.CreateTopics(t.Context(), oneTopic(fmt.Sprintf("after-%d", m.id)), false); r[0].Err != nil {
				t.Fatalf("at node %d: %v", m.id, r[0].Err)
			}
		}
		if err := old.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.until("it is back", c.formed)
	})
}

// A node comes back with an empty disk: it is another incarnation everywhere, and votes again in the end.
func TestSimWipedNode(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.found(3)
		if r := c.leader().ctl.CreateTopics(t.Context(), []NewTopic{{Name: "a", Partitions: 2, ReplicationFactor: 3}}, false); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
		for _, victim := range []*member{c.leader(), c.nodes[3]} {
			old := *victim.meta
			victim.stop()
			victim.wipe()
			if err := victim.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if victim.meta.Incarnation <= old.Incarnation {
				t.Errorf("it came back as %s after %s", victim.meta, old)
			}
			c.until("it is a member again", c.formed)
			for _, m := range victim.ctl.ListReassignments() {
				if err := victim.ctl.FinishReassignment(t.Context(), m.ID, m.Assignment.Target()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if left := c.leader().ctl.ListReassignments(); len(left) != 0 {
			t.Errorf("left are %+v", left)
		}
	})
}

// A node's files are put back to an earlier state: it is another incarnation everywhere, however often it starts before it can ask.
func TestSimOlderCopy(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.found(3)
		if r := c.leader().ctl.CreateTopics(t.Context(), []NewTopic{
			{Name: "a", Partitions: 2, ReplicationFactor: 3},
			{Name: "alone", Partitions: 1, Assignments: map[int32][]replication.NodeID{0: {3}}, ReplicationFactor: -1},
		}, false); r[0].Err != nil || r[1].Err != nil {
			t.Fatal(r)
		}
		victim := c.nodes[3]
		again := func() (Registered, error) {
			victim.stop()
			if err := victim.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			victim.begin()
			return victim.ctl.Register(t.Context(), victim.request())
		}
		for range 3 {
			r, err := again()
			if err != nil || r.Meta != *victim.meta || r.Renewed {
				t.Fatalf("an ordinary start: %+v, %v", r, err)
			}
			victim.starts = victim.starts[len(victim.starts)-1:]
		}
		victim.stop()
		copied, starts := filepath.Join(t.TempDir(), "copy"), slices.Clone(victim.starts)
		if err := os.CopyFS(copied, os.DirFS(victim.dir)); err != nil {
			t.Fatal(err)
		}
		if _, err := again(); err != nil {
			t.Fatal(err)
		}
		last, late := victim.starts[len(victim.starts)-1], victim.request()
		victim.stop()
		victim.dir, victim.starts = copied, starts
		old := *victim.meta
		for range 3 {
			if r, err := again(); !errors.Is(err, ErrOlderCopy) || r.Forgotten != last {
				t.Fatalf("it came back as %+v, %v, and forgot %x", r, err, last)
			}
		}
		q := victim.request()
		q.Forgone = last
		r, err := victim.ctl.Register(t.Context(), q)
		if err != nil || !r.Renewed || r.Meta.Incarnation <= old.Incarnation {
			t.Fatalf("it came back as %+v after %s, %v", r, old, err)
		}
		im := victim.ctl.Image()
		for _, p := range im.Topics["a"].Partitions {
			if newest, _ := newestOn(p, 3); newest.Incarnation <= 2 {
				t.Errorf("its replica is not a new one: %+v", p)
			}
		}
		if p := im.Topics["alone"].Partitions[0]; len(p.Replicas) != 1 || moving(p) {
			t.Errorf("what was on it alone does not stay: %+v", p)
		}
		// What is still under way of its former life, and its own request once more, change nothing.
		late.Forgone = last
		if r, err := c.nodes[1].ctl.Register(t.Context(), late); !errors.Is(err, ErrOlderCopy) {
			t.Errorf("a late request: %+v, %v", r, err)
		}
		if r, err := victim.ctl.Register(t.Context(), q); err != nil || r.Renewed {
			t.Errorf("once more: %+v, %v", r, err)
		}
		victim.stop()
		victim.meta = &r.Meta
		if err := victim.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.until("it is a member again", c.formed)
	})
}

// Another node with the id of one that is alive gets nothing, through whichever node it asks.
func TestSimDuplicateNode(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.found(3)
		twin := &member{c: c, id: 2, rack: "x"}
		twin.wipe()
		for _, m := range c.present() {
			if _, err := m.ctl.Register(t.Context(), RegisterRequest{Node: twin.describe(), Directory: twin.directory}); !errors.Is(err, ErrDuplicateNode) {
				t.Errorf("node %d says %v", m.id, err)
			}
		}
		// Also if the node that was asked does not see it: the controller does.
		asked := c.nodes[1]
		if asked == c.leader() {
			asked = c.nodes[3]
		}
		asked.ctl.router.around.aliveAs = nil
		if c.leader().id != 2 {
			if _, err := asked.ctl.Register(t.Context(), RegisterRequest{Node: twin.describe(), Directory: twin.directory}); !errors.Is(err, ErrDuplicateNode) {
				t.Errorf("the controller says %v", err)
			}
		}
	})
}

// A node is taken out of service: it hands over, is drained, unregistered, and its id comes back as somebody new.
func TestSimDrainAndReplace(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.found(4)
		leader := c.leader()
		if err := leader.ctl.AlterConfigs(t.Context(), Resource{BrokerResource, fmt.Sprint(leader.id)}, []ConfigOp{{Name: "num.partitions", Value: "3"}}, false); err != nil {
			t.Fatal(err)
		}
		leader.stopping.Store(true)
		leader.ctl.Reconcile()
		c.until("another one leads", func() bool { return c.leader() != nil && c.leader() != leader })
		if err := c.leader().ctl.UnregisterNode(t.Context(), leader.id); !errors.Is(err, ErrNodeInUse) {
			t.Errorf("a live node is unregistered: %v", err)
		}
		old := *leader.meta
		leader.stop()
		if err := c.nodes[leader.id%4+1].ctl.UnregisterNode(t.Context(), leader.id); err != nil {
			t.Fatal(err)
		}
		c.until("it is gone", c.formed)
		if len(c.leader().ctl.Image().NodeConfig) != 0 {
			t.Error("its settings are left")
		}
		leader.wipe()
		leader.stopping.Store(false)
		if err := leader.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if leader.meta.Incarnation <= old.Incarnation {
			t.Errorf("it came back as %s after %s", leader.meta, old)
		}
		c.until("it is back", c.formed)
		if err := leader.ctl.HandOver(t.Context()); err != nil {
			t.Error(err)
		}
		now := c.leader()
		if err := now.ctl.HandOver(t.Context()); err != nil {
			t.Error(err)
		}
		c.until("the leadership was handed over", func() bool { return c.leader() != nil && c.leader() != now })
	})
}

// A node that was unregistered comes back with all its files: it is somebody new, since nobody knows what it has missed.
func TestSimUnregisteredComesBack(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.found(3)
		if r := c.leader().ctl.CreateTopics(t.Context(), []NewTopic{{Name: "a", Partitions: 1, Assignments: map[int32][]replication.NodeID{0: {1, 2}}, ReplicationFactor: -1}}, false); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
		gone := c.nodes[3]
		gone.stop()
		if err := c.nodes[1].ctl.UnregisterNode(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		c.until("it is gone", c.formed)
		old := *gone.meta
		r, err := c.nodes[1].ctl.Register(t.Context(), RegisterRequest{Node: gone.describe(), Directory: gone.directory, Running: &old.Incarnation})
		if err != nil || r.Meta.Incarnation <= old.Incarnation {
			t.Fatalf("it came back as %+v after %s, %v", r, old, err)
		}
		gone.meta = &r.Meta
		if err := gone.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.until("it is back", c.formed)
	})
}

// The same with a snapshot of the metadata in its files, by which it still is registered. It asks itself first, as a joining node
// does, and then the others.
func TestSimUnregisteredWithSnapshot(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.found(3)
		gone := c.nodes[3]
		gone.snapshot()
		gone.stop()
		if err := c.nodes[1].ctl.UnregisterNode(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		c.until("it is gone", c.formed)
		if err := gone.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		old := *gone.meta
		if _, known := gone.ctl.Image().Registrations[3]; !known {
			t.Fatal("it has forgotten that it was registered")
		}
		request := RegisterRequest{Node: gone.describe(), Directory: gone.directory, Running: &old.Incarnation, Start: 7}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		// One of the leader's last messages to it may still have told it who leads, and then its request went there.
		r, err := gone.ctl.Register(ctx, request)
		if !errors.Is(err, ErrNotController) && (err != nil || r.Meta.Incarnation <= old.Incarnation) {
			t.Errorf("it says to itself that it is %+v, %v", r, err)
		}
		if r, err = c.nodes[1].ctl.Register(t.Context(), request); err != nil || r.Meta.Incarnation <= old.Incarnation {
			t.Fatalf("it came back as %+v after %s, %v", r, old, err)
		}
		gone.stop()
		gone.meta = &r.Meta
		if err := gone.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.until("it is back", c.formed)
	})
}

// Two of three are lost for good: the third one is recovered, and goes on with new ones.
func TestSimRecover(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.found(3)
		if r := c.leader().ctl.CreateTopics(t.Context(), oneTopic("a"), false); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
		for _, m := range c.present() {
			m.stop()
		}
		last := c.nodes[2]
		im, err := Recover(RecoverOptions{Dir: last.dir, Self: *last.meta})
		if err != nil || im.Topics["a"] == nil || len(im.Nodes) != 3 {
			t.Fatalf("%+v, %v", im, err)
		}
		if err := last.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r := last.ctl.CreateTopics(t.Context(), oneTopic("b"), false); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
		for _, id := range []replication.NodeID{1, 3} {
			c.nodes[id].wipe()
			if err := c.nodes[id].start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		c.until("there are three again", c.formed)
	})
}

// A node that has just started knows what the cluster knows only after a Sync: what it reads from its own log is from earlier.
func TestSimSync(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.found(4)
		for i := range 20 {
			late := c.present()[i%4]
			late.stop()
			c.until("the others have a controller", func() bool { return c.leader() != nil })
			name := fmt.Sprint("missed-", i)
			if r := c.leader().ctl.CreateTopics(t.Context(), oneTopic(name), false); r[0].Err != nil {
				t.Fatal(r[0].Err)
			}
			if err := late.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := late.ctl.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if im := late.ctl.Image(); im.Topics[name] == nil {
				t.Fatalf("node %d has only %d topics of %d", late.id, len(im.Topics), i+1)
			}
		}
		for _, m := range c.present() {
			if err := m.ctl.Sync(t.Context()); err != nil {
				t.Error(err)
			}
			if im := m.ctl.Image(); im.ClusterID != "cluster" || im.FoundedNodes != 3 {
				t.Errorf("node %d is in cluster %q of %d", m.id, im.ClusterID, im.FoundedNodes)
			}
		}
		// Without a majority nobody knows.
		for _, m := range c.present()[1:] {
			m.stop()
		}
		alone := c.present()[0]
		c.until("it leads no more", func() bool { return !alone.group.IsLeader() })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := alone.ctl.Sync(ctx); err == nil {
			t.Error("it knows without the others")
		}
	})
}

// A node without others knows everything once it leads.
func TestSyncAlone(t *testing.T) {
	c, g := newTestController(t, nil)
	if err := c.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.follows = true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Sync(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

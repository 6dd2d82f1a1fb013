package controller

//quorlog:bubble simulate runs every test of this file in one

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftgroup"
	"github.com/quorlog/quorlog/replication/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	simSeed   = flag.Uint64("sim.seed", 1, "the first seed of simulated clusters")
	simRounds = flag.Int("sim.rounds", 6, "how many of them to run")
)

// A simulated cluster: the metadata groups and controllers of several nodes, on real files and networks in memory, in a synctest
// bubble. Partitions are played by whoever calls FinishReassignment.

// cluster is a simulated cluster.
type cluster struct {
	t     testing.TB
	net   *transport.Mem
	calls *calls
	nodes map[replication.NodeID]*member
	dirs  int
}

// member is a node: what is on its disk and, while it is on, what runs.
type member struct {
	c         *cluster
	id        replication.NodeID
	dir       string
	directory DirectoryID
	rack      string
	meta      *replication.ReplicaID // what its disk says; nil on an empty disk

	machine *Machine
	group   *raftgroup.MetaGroup
	ctl     *Controller
}

// calls carries calls between nodes, and is cut like the network.
type calls struct {
	mu     sync.Mutex
	up     map[replication.NodeID]*member
	cut    map[[2]replication.NodeID]bool
	losing map[replication.NodeID]int // answers of a node that get lost
}

func (c *calls) on(id replication.NodeID) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up[id]
}

func (c *calls) broken(from, to replication.NodeID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut[[2]replication.NodeID{from, to}]
}

func (c *calls) loses(id replication.NodeID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.losing[id] == 0 {
		return false
	}
	c.losing[id]--
	return true
}

// live lists who a node sees.
func (c *calls) live(from replication.NodeID) []replication.NodeID {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []replication.NodeID
	for id := range c.up {
		if !c.cut[[2]replication.NodeID{from, id}] && !c.cut[[2]replication.NodeID{id, from}] {
			out = append(out, id)
		}
	}
	return out
}

// line is a node's end of the calls.
type line struct {
	*calls
	from replication.NodeID
}

var errUnanswered = errors.New("no answer")

// Call implements Caller.
func (l line) Call(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
	peer := l.on(to)
	if name != ProposeCall || peer == nil || l.broken(l.from, to) {
		return nil, fmt.Errorf("%w: node %d", transport.ErrUnreachable, to)
	}
	type answer struct {
		body []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		b, err := peer.ctl.HandlePropose(ctx, l.from, bytes.Clone(body))
		done <- answer{b, err}
	}()
	select {
	case a := <-done:
		if l.broken(to, l.from) || l.loses(to) || l.on(to) != peer {
			return nil, errUnanswered
		}
		return a.body, a.err
	case <-ctx.Done():
		return nil, errUnanswered
	}
}

func newCluster(t testing.TB) *cluster {
	return &cluster{t: t, net: transport.NewMem(0), nodes: map[replication.NodeID]*member{}, calls: &calls{
		up: map[replication.NodeID]*member{}, cut: map[[2]replication.NodeID]bool{}, losing: map[replication.NodeID]int{},
	}}
}

// add makes a node with an empty disk.
func (c *cluster) add(id replication.NodeID) *member {
	m := &member{c: c, id: id, rack: string(rune('a' + id%3))}
	c.nodes[id] = m
	m.wipe()
	return m
}

// wipe gives a stopped node an empty disk.
func (m *member) wipe() {
	m.c.dirs++
	m.dir, m.meta = filepath.Join(m.c.t.TempDir(), fmt.Sprint(m.c.dirs)), nil
	copy(m.directory[:], fmt.Sprintf("disk %d", m.c.dirs))
}

func (m *member) describe() replication.Node {
	return replication.Node{ID: m.id, Host: fmt.Sprintf("host%d", m.id), Port: 9092, Rack: m.rack}
}

// start turns a node on. One whose disk says who it is goes on as that; the first node founds; any other joins through the others.
func (m *member) start(ctx context.Context) error {
	found := m.meta == nil && len(m.c.nodes) == 1
	if found {
		m.meta = &replication.ReplicaID{Node: m.id, Incarnation: 1}
	}
	if m.meta == nil {
		if err := m.join(ctx); err != nil {
			return err
		}
	}
	m.machine = NewMachine(MachineOptions{Node: m.id, OnFatal: func(err error) { m.c.t.Errorf("node %d: %v", m.id, err) }})
	var err error
	m.group, err = raftgroup.OpenMeta(raftgroup.MetaOptions{
		Dir: m.dir, Self: *m.meta, Machine: m.machine, Found: found, Network: m.c.net, OnFatal: func(err error) { m.c.t.Errorf("node %d: %v", m.id, err) },
	})
	if err != nil {
		return err
	}
	m.ctl = New(Options{
		Machine: m.machine, Group: m.group, Directory: m.directory, Members: m.group, Forward: line{m.c.calls, m.id},
		Live:      func() []replication.NodeID { return m.c.calls.live(m.id) },
		AppliedOn: m.appliedOn, OldAlive: m.oldAlive,
	})
	m.c.calls.mu.Lock()
	m.c.calls.up[m.id] = m
	m.c.calls.mu.Unlock()
	if found {
		if err := m.ctl.NameCluster(ctx, "cluster", 3); err != nil {
			return err
		}
		_, err := m.ctl.Register(ctx, RegisterRequest{Node: m.describe(), Directory: m.directory, Running: &m.meta.Incarnation})
		return err
	}
	return nil
}

func (m *member) appliedOn(id replication.NodeID) (uint64, bool) {
	if peer := m.c.calls.on(id); peer != nil {
		return peer.machine.Applied(), true
	}
	return 0, false
}

func (m *member) oldAlive(id replication.NodeID, dir DirectoryID) bool {
	peer := m.c.calls.on(id)
	return peer != nil && peer.directory == dir && slices.Contains(m.c.calls.live(m.id), id)
}

// join asks the others who this node is.
func (m *member) join(ctx context.Context) error {
	err := ErrNotController
	for _, id := range slices.Sorted(maps.Keys(m.c.nodes)) {
		if peer := m.c.calls.on(id); peer != nil {
			var r Registered
			if r, err = peer.ctl.Register(ctx, RegisterRequest{Node: m.describe(), Directory: m.directory}); err == nil {
				m.meta = &r.Meta
				return nil
			}
		}
	}
	return err
}

func (m *member) on() bool { return m.ctl != nil }

// stop turns a node off. To the others it is a crash: nothing is told to them.
func (m *member) stop() {
	if !m.on() {
		return
	}
	m.c.calls.mu.Lock()
	delete(m.c.calls.up, m.id)
	m.c.calls.mu.Unlock()
	for id := range m.c.nodes {
		m.c.cut(m.id, id)
	}
	m.ctl.Close()
	if err := m.group.Close(); err != nil {
		m.c.t.Errorf("node %d: %v", m.id, err)
	}
	for id := range m.c.nodes {
		m.c.mend(m.id, id)
	}
	m.ctl, m.group, m.machine = nil, nil, nil
}

// addresses are those that a node's replicas may have had.
func addresses(id replication.NodeID) []raft.ServerAddress {
	var out []raft.ServerAddress
	for i := range replication.Incarnation(30) {
		out = append(out, raft.ServerAddress(replication.ReplicaID{Node: id, Incarnation: i}.String()))
	}
	return out
}

func (c *cluster) each(a, b replication.NodeID, do func(x, y raft.ServerAddress)) {
	if a == b {
		return
	}
	for _, x := range addresses(a) {
		for _, y := range addresses(b) {
			do(x, y)
		}
	}
}

// cut separates two nodes.
func (c *cluster) cut(a, b replication.NodeID) {
	c.oneWay(a, b)
	c.oneWay(b, a)
}

// oneWay loses what a sends to b.
func (c *cluster) oneWay(a, b replication.NodeID) {
	c.each(a, b, c.net.Cut)
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	c.calls.cut[[2]replication.NodeID{a, b}] = a != b
}

func (c *cluster) mend(a, b replication.NodeID) {
	c.each(a, b, c.net.Join)
	c.each(b, a, c.net.Join)
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	delete(c.calls.cut, [2]replication.NodeID{a, b})
	delete(c.calls.cut, [2]replication.NodeID{b, a})
}

func (c *cluster) mendAll() {
	c.net.Heal()
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	clear(c.calls.cut)
	clear(c.calls.losing)
}

// present lists the nodes that are on, in order.
func (c *cluster) present() []*member {
	var out []*member
	for _, id := range slices.Sorted(maps.Keys(c.nodes)) {
		if c.nodes[id].on() {
			out = append(out, c.nodes[id])
		}
	}
	return out
}

func (c *cluster) stopAll() {
	for _, m := range c.present() {
		m.stop()
	}
}

func (c *cluster) leader() *member {
	for _, m := range c.present() {
		if m.group.IsLeader() {
			return m
		}
	}
	return nil
}

// until waits in the time of the simulation.
func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	limit := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			c.t.Fatalf("it never came that %s; %s", what, c.state())
		}
	}
}

func (c *cluster) state() string {
	out := ""
	for _, m := range c.present() {
		out += fmt.Sprintf("\n  node %d as %v: %+v, registered %v", m.id, m.meta, m.group.Status(), m.ctl.Image().Registrations)
	}
	return out
}

// formed tells whether the metadata group is as it should be, and all nodes hold the same.
func (c *cluster) formed() bool {
	leader := c.leader()
	if leader == nil {
		return false
	}
	im, members := leader.ctl.Image(), leader.group.Members()
	var want []replication.ReplicaID
	for id, r := range im.Registrations {
		want = append(want, r.MetaReplica(id))
	}
	have := slices.Concat(members.Voters, members.Learners)
	if !sameReplicas(have, want) || len(members.Voters) != wantedVoters(len(want)) {
		return false
	}
	for _, m := range c.present() {
		if r, ok := im.Registrations[m.id]; !ok || r.MetaReplica(m.id) != *m.meta || m.ctl.Image().Index != im.Index || m.ctl.ControllerNode() != leader.id {
			return false
		}
	}
	return true
}

// same checks that all nodes hold the same metadata, byte for byte.
func (c *cluster) same() {
	c.t.Helper()
	var first []byte
	for _, m := range c.present() {
		data, err := encodeImage(m.ctl.Image())
		if err != nil {
			c.t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if !bytes.Equal(first, data) {
			c.t.Errorf("node %d holds other metadata", m.id)
		}
		if err := checkImage(m.ctl.Image()); err != nil {
			c.t.Error(err)
		}
	}
}

// found starts a cluster of nodes 1 to n.
func (c *cluster) found(n int) {
	c.t.Helper()
	for id := range replication.NodeID(n) {
		if err := c.add(id + 1).start(c.t.Context()); err != nil {
			c.t.Fatalf("node %d: %v", id+1, err)
		}
	}
	c.until("the cluster has formed", c.formed)
}

func simulate(t *testing.T, run func(t *testing.T, c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.stopAll()
		run(t, c)
		c.same()
	})
}

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

// The answer got lost: the change may have been made, and the caller is told so, unless it may be made twice.
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
		if r := other.ctl.CreateTopics(t.Context(), oneTopic("perhaps"), false); !errors.Is(r[0].Err, replication.ErrUnknownOutcome) {
			t.Errorf("got %v", r[0].Err)
		}
		c.until("it was made", func() bool { return other.ctl.Image().Topics["perhaps"] != nil })
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
		leader.ctl.router.around.stopping = func(id replication.NodeID) bool { return id == leader.id }
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

// TestSimChaos: crashes, cuts in one and two directions, lost answers, wiped and drained nodes, while all nodes change things.
// What was acknowledged is there, what was definitely refused is not, and in the end all nodes agree.
func TestSimChaos(t *testing.T) {
	for seed := *simSeed; seed < *simSeed+uint64(*simRounds); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			simulate(t, func(t *testing.T, c *cluster) {
				rng := rand.New(rand.NewPCG(seed, 11))
				c.found(3 + rng.IntN(3))
				ch := &chaos{cluster: c, rng: rng, made: map[string]bool{}, refused: map[string]bool{}, maybe: map[string]bool{}}
				for range 25 {
					ch.event()
					ch.work()
				}
				ch.finish()
				t.Logf("seed %d: %d topics made, %d refused, %d of unknown outcome, %d wipes, metadata at %d", seed, len(ch.made), len(ch.refused), len(ch.maybe), ch.wipes, c.leader().ctl.Image().Index)
			})
		})
	}
}

type chaos struct {
	*cluster
	rng                  *rand.Rand
	made, refused, maybe map[string]bool
	topics, wipes        int
}

func (ch *chaos) pick(all []*member) *member { return all[ch.rng.IntN(len(all))] }

func (ch *chaos) off() []*member {
	var out []*member
	for _, id := range slices.Sorted(maps.Keys(ch.nodes)) {
		if !ch.nodes[id].on() {
			out = append(out, ch.nodes[id])
		}
	}
	return out
}

// event does something bad, or undoes it. A majority of the nodes stays on.
func (ch *chaos) event() {
	most := (len(ch.nodes) - 1) / 2
	switch k := ch.rng.IntN(9); {
	case k == 0 && len(ch.off()) < most:
		ch.pick(ch.present()).stop()
	case k == 1 && len(ch.off()) < most && ch.leader() != nil:
		ch.leader().stop()
	case k == 2 && len(ch.off()) > 0:
		ch.restart(ch.pick(ch.off()))
	case k == 3 && ch.formed() && len(ch.off()) < most && ch.wipes < 3:
		// Another disk is lost only once all is well again: two lost disks of three are a lost majority.
		victim := ch.pick(ch.present())
		victim.stop()
		victim.wipe()
		ch.wipes++
		ch.restart(victim)
	case k == 4:
		a := ch.pick(ch.present())
		for id := range ch.nodes {
			ch.cut(a.id, id)
		}
	case k == 5:
		ch.oneWay(ch.pick(ch.present()).id, ch.pick(ch.present()).id)
	case k == 6:
		ch.calls.mu.Lock()
		ch.calls.losing[ch.pick(ch.present()).id]++
		ch.calls.mu.Unlock()
	default:
		ch.mendAll()
	}
	time.Sleep(time.Duration(ch.rng.IntN(2500)) * time.Millisecond) // of the simulation
}

// restart turns a node on; if it can't join now, it stays off.
func (ch *chaos) restart(m *member) {
	ctx, cancel := context.WithTimeout(ch.t.Context(), 5*time.Second)
	defer cancel()
	if err := m.start(ctx); err != nil && !errors.Is(err, ErrNotController) && !errors.Is(err, replication.ErrUnknownOutcome) {
		ch.t.Fatalf("node %d: %v; %s", m.id, err, ch.state())
	}
}

// work lets all nodes make a topic at once.
func (ch *chaos) work() {
	type result struct {
		name string
		err  error
	}
	results := make(chan result, len(ch.nodes))
	n := 0
	for _, m := range ch.present() {
		name := fmt.Sprintf("t%d", ch.topics)
		ch.topics++
		n++
		go func() {
			ctx, cancel := context.WithTimeout(ch.t.Context(), 2*time.Second)
			defer cancel()
			results <- result{name, m.ctl.CreateTopics(ctx, oneTopic(name), false)[0].Err}
		}()
	}
	for range n {
		switch r := <-results; {
		case r.err == nil:
			ch.made[r.name] = true
		case errors.Is(r.err, replication.ErrUnknownOutcome):
			ch.maybe[r.name] = true
		case errors.Is(r.err, ErrNotController), errors.Is(r.err, replication.ErrInvalidReplicationFactor):
			ch.refused[r.name] = true
		default:
			ch.t.Errorf("topic %s: %v", r.name, r.err)
		}
	}
}

// finish mends everything and checks the outcome.
func (ch *chaos) finish() {
	ch.mendAll()
	for range 20 {
		for _, m := range ch.off() {
			ch.restart(m)
		}
	}
	if left := ch.off(); len(left) > 0 {
		ch.t.Fatalf("node %d does not start", left[0].id)
	}
	ch.until("all is well", ch.formed)
	im := ch.leader().ctl.Image()
	for name := range ch.made {
		if im.Topics[name] == nil {
			ch.t.Errorf("topic %s was made and is lost", name)
		}
	}
	for name := range ch.refused {
		if im.Topics[name] != nil {
			ch.t.Errorf("topic %s was refused and is there", name)
		}
	}
}

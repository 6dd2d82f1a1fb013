package controller

//quorlog:bubble simulate runs every test of this file in one

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
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
	starts    []StartID              // and of its starts

	machine  *Machine
	group    *raftgroup.MetaGroup
	ctl      *Controller
	stopping atomic.Bool // it gives its leaderships away
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
		Stopping:  func(id replication.NodeID) bool { return id == m.id && m.stopping.Load() },
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

// snapshot adds to a node's files a snapshot of the metadata as they are.
func (m *member) snapshot() {
	m.c.t.Helper()
	store, err := raft.NewFileSnapshotStore(m.dir, 2, io.Discard)
	if err != nil {
		m.c.t.Fatal(err)
	}
	data, err := m.machine.Snapshot()
	if err != nil {
		m.c.t.Fatal(err)
	}
	var servers raft.Configuration
	for _, v := range m.group.Members().Voters {
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(v.String()), Address: raft.ServerAddress(v.String())})
	}
	index := m.machine.Applied()
	_, peers := raft.NewInmemTransport("")
	sink, err := store.Create(raft.SnapshotVersionMax, index, m.group.Status().Term, servers, index, peers)
	if err != nil {
		m.c.t.Fatal(err)
	}
	if _, err = sink.Write(data); err == nil {
		err = sink.Close()
	}
	if err != nil {
		m.c.t.Fatal(err)
	}
}

// begin notes a new start.
func (m *member) begin() {
	m.c.dirs++
	m.starts = append(m.starts, StartID(m.c.dirs))
}

// request is a registration by the present start.
func (m *member) request() RegisterRequest {
	last := len(m.starts) - 1
	return RegisterRequest{
		Node: m.describe(), Directory: m.directory, Start: m.starts[last], Earlier: slices.Clone(m.starts[:last]), Running: &m.meta.Incarnation,
	}
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
		// What only the leader knows dies with it: the others would not know that they have a vote.
		if mine := m.group.Members(); !sameReplicas(mine.Voters, members.Voters) || !sameReplicas(mine.Learners, members.Learners) {
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

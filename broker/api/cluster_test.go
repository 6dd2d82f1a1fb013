package api

//quorlog:bubble inCluster runs every test of this file in one

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/broker/produce"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/leaders"
	"github.com/quorlog/quorlog/replication/partition"
	"github.com/quorlog/quorlog/replication/transport"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// cluster is three brokers without clients' network: real services over real Raft groups on disks and a network in memory,
// in simulated time. They share one controller, as if its every change reached all at once. Node n is in rack "r<n>".
type cluster struct {
	t     *testing.T
	net   *transport.Mem
	ctl   *controller.Controller
	nodes map[replication.NodeID]*member
	moves *moves
}

// member is a node of a cluster.
type member struct {
	*client
	id       replication.NodeID
	manager  *partition.Manager
	table    *leaders.Table
	handlers map[string]admin.PeerHandler
	mu       sync.Mutex
	down     bool
}

var threeNodes = []replication.NodeID{1, 2, 3}

func inCluster(t *testing.T, do func(c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.close()
		do(c)
	})
}

func newCluster(t *testing.T) *cluster {
	machine := controller.NewMachine(controller.MachineOptions{Node: 1, OnFatal: func(err error) { t.Error(err) }})
	c := &cluster{t: t, net: transport.NewMem(0), nodes: make(map[replication.NodeID]*member), moves: &moves{}}
	c.ctl = controller.New(controller.Options{Machine: machine, Group: &atOnce{machine: machine}})
	ctx := context.Background()
	if err := c.ctl.EnsureClusterID(ctx); err != nil {
		t.Fatal(err)
	}
	for _, id := range threeNodes {
		n := replication.Node{ID: id, Host: "127.0.0.1", Port: 9090 + int32(id), Rack: "r" + string('0'+rune(id))}
		if err := c.ctl.RegisterNode(ctx, n); err != nil {
			t.Fatal(err)
		}
		c.start(id)
	}
	for a, m := range c.nodes {
		for b := range c.nodes {
			if a != b {
				m.table.PeerUp(b)
			}
		}
	}
	return c
}

func (c *cluster) start(id replication.NodeID) {
	m := &member{id: id}
	c.nodes[id] = m
	m.table = leaders.New(leaders.Options{Node: id, Call: func(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
		return c.call(ctx, id, to, name, body)
	}})
	var err error
	m.manager, err = partition.NewManager(partition.Options{
		DataDir: "/d", FS: vfs.NewMem(), Node: id, Network: c.net, Logger: slog.New(slog.DiscardHandler),
		OnFatal: func(err error) { c.t.Error(err) },
		OnLeader: func(l partition.LeaderChange) {
			e := leaders.Entry{ID: l.ID, Leader: l.Leader}
			if p, ok := m.manager.Get(l.ID); ok && l.Local {
				e.ISR = p.ISR()
			}
			m.table.Set(e)
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	lookup := admin.NewPartitions(c.ctl, m.manager, m.table)
	service := admin.New(admin.Options{
		Node: id, Images: c.ctl, Controller: c.ctl, Local: m.manager, Leaders: m.table, Groups: m,
		Call: func(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
			return c.call(ctx, id, to, name, body)
		},
		Placement: c.moves, FS: vfs.NewMem(), DataDir: "/d", LeaderWait: 30 * time.Second,
	})
	m.handlers = service.Handlers()
	m.handlers[leaders.PushCall] = m.table.HandlePush
	m.client = newClient(c.t, New(Services{
		Produce: produce.New(produce.Options{Partitions: lookup, Leaders: lookup}),
		Fetch:   fetch.New(fetch.Options{Partitions: fetch.Local(lookup), Routes: lookup, Sessions: fetch.DefaultSessions}),
		Admin:   service,
		Logger:  slog.New(slog.DiscardHandler),
	}))
}

var errDown = errors.New("no connection")

func (c *cluster) isDown(id replication.NodeID) bool {
	m := c.nodes[id]
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down
}

func (c *cluster) call(ctx context.Context, from, to replication.NodeID, name string, body []byte) ([]byte, error) {
	if c.isDown(from) || c.isDown(to) {
		return nil, errDown
	}
	time.Sleep(time.Millisecond)
	h := c.nodes[to].handlers[name]
	if h == nil {
		return nil, errors.New("no such call: " + name)
	}
	return h(ctx, from, body)
}

// cut takes a node off the network of the others.
func (c *cluster) cut(id replication.NodeID) {
	m := c.nodes[id]
	m.mu.Lock()
	m.down = true
	m.mu.Unlock()
	for _, t := range c.ctl.Image().Topics {
		for _, a := range t.Partitions {
			i := slices.IndexFunc(a.Replicas, func(r replication.ReplicaID) bool { return r.Node == id })
			for _, r := range a.Replicas {
				c.net.Isolate(raft.ServerAddress(a.Replicas[i].String()), raft.ServerAddress(r.String()))
			}
		}
	}
	for other, n := range c.nodes {
		if other != id {
			n.table.PeerDown(id)
			m.table.PeerDown(other)
		}
	}
}

// part cuts the replicas on two nodes off from each other, while the nodes themselves go on hearing each other.
func (c *cluster) part(a, b replication.NodeID) {
	for _, t := range c.ctl.Image().Topics {
		for _, p := range t.Partitions {
			at := map[replication.NodeID]raft.ServerAddress{}
			for _, r := range p.Replicas {
				at[r.Node] = raft.ServerAddress(r.String())
			}
			c.net.Isolate(at[a], at[b])
		}
	}
}

func (c *cluster) close() {
	c.net.Heal()
	for _, m := range c.nodes {
		m.table.Close()
		if err := m.manager.Close(); err != nil {
			c.t.Error(err)
		}
	}
	c.ctl.Close()
}

// createTopic makes a topic with a replica on every node.
func (c *cluster) createTopic(name string, partitions int32) replication.TopicID {
	c.t.Helper()
	cancel := c.ctl.Watch(func(_, im *controller.Image) { go c.follow(im) })
	defer cancel()
	r := c.nodes[1].api.Admin.CreateTopics(context.Background(), []controller.NewTopic{{Name: name, Partitions: partitions, ReplicationFactor: 3}}, false)[0]
	if r.Err != nil {
		c.t.Fatal(r.Err)
	}
	settle()
	return r.Topic.ID
}

// follow opens the replicas of an image.
func (c *cluster) follow(im *controller.Image) {
	for _, t := range im.Topics {
		for i, a := range t.Partitions {
			for _, m := range c.nodes {
				id := replication.PartitionID{Topic: t.ID, Partition: int32(i)}
				if _, err := m.manager.Ensure(context.Background(), id, t.Name, a, im.TopicConfig(t.Name)); err != nil {
					c.t.Error(err)
				}
			}
		}
	}
}

// settle lets elections end and news arrive.
func settle() {
	time.Sleep(3 * time.Second)
	synctest.Wait()
}

// Transfer, Quorum and MetadataQuorum make a member admin.Groups.
func (m *member) Transfer(_ context.Context, id replication.PartitionID, to replication.NodeID) error {
	p, ok := m.manager.Get(id)
	if !ok || !p.Leading() {
		return replication.ErrNotLeader
	}
	for _, r := range p.Assignment().Replicas {
		if r.Node == to {
			return p.Group().TransferLeadership(r)
		}
	}
	return replication.ErrInvalidRequest
}

func (m *member) Quorum(id replication.PartitionID) (admin.Quorum, error) {
	p, ok := m.manager.Get(id)
	if !ok || !p.Leading() {
		return admin.Quorum{}, replication.ErrNotLeader
	}
	q := admin.Quorum{Leader: p.Leader(), HighWatermark: 7}
	for _, r := range p.Group().Voters() {
		q.Voters = append(q.Voters, admin.QuorumReplica{Replica: r, LogEnd: 8, Contact: -1, CaughtUp: 9})
	}
	return q, nil
}

func (m *member) MetadataQuorum() (admin.Quorum, error) {
	if m.id != 1 {
		return admin.Quorum{}, replication.ErrNotLeader
	}
	return admin.Quorum{
		Leader: replication.Leader{Node: 1, Epoch: 5}, HighWatermark: 10,
		Voters:    []admin.QuorumReplica{{Replica: replication.ReplicaID{Node: 1}, LogEnd: 11}},
		Observers: []admin.QuorumReplica{{Replica: replication.ReplicaID{Node: 2}, LogEnd: 10}},
	}, nil
}

// moves is an admin.Placement that writes down what it is asked for.
type moves struct {
	asked []controller.Reassignment
	gone  []replication.NodeID
	errs  []error
}

func (m *moves) ReassignPartitions(_ context.Context, asked []controller.Reassignment) []error {
	m.asked = append(m.asked, asked...)
	if m.errs != nil {
		return m.errs
	}
	return make([]error, len(asked))
}

func (m *moves) UnregisterNode(_ context.Context, id replication.NodeID) error {
	if id > 3 {
		return controller.ErrUnknownNode
	}
	m.gone = append(m.gone, id)
	return nil
}

// metadata asks a node about a topic.
func (m *member) metadata(topic string) *kmsg.MetadataResponse {
	return ask[*kmsg.MetadataResponse](m.client, minimal(m.t, kafkaproto.KeyMetadata, 13, topic, replication.TopicID{}), 13)
}

// leader is the node that leads a partition, according to node 1.
func (c *cluster) leader(topic string, partition int32) (*member, replication.Leader) {
	c.t.Helper()
	for _, m := range c.nodes {
		if c.isDown(m.id) {
			continue
		}
		p := m.metadata(topic).Topics[0].Partitions[partition]
		if p.ErrorCode != 0 || p.Leader < 0 {
			c.t.Fatalf("node %d knows no leader of %s-%d: %v", m.id, topic, partition, kafkaproto.Code(p.ErrorCode))
		}
		l := replication.Leader{Node: replication.NodeID(p.Leader)}
		return c.nodes[l.Node], l
	}
	return nil, replication.Leader{}
}

// others are the nodes but one.
func (c *cluster) others(m *member) []*member {
	var out []*member
	for _, id := range threeNodes {
		if id != m.id {
			out = append(out, c.nodes[id])
		}
	}
	return out
}

// Package replicated gives the group coordinator what it needs from the rest of the node: the replicas of
// __consumer_offsets as group.Logs, and the controller's image with the leadership table as group.Cluster. It is apart from package group so that
// the coordinator can be built and tested without Raft. It starts no goroutine.
package replicated

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
)

// Partitions finds the partitions on this node. *partition.Manager is one.
type Partitions interface {
	Get(id replication.PartitionID) (*partition.Partition, bool)
}

// Controller is the part of *controller.Controller that is needed.
type Controller interface {
	Image() *controller.Image
	CreateTopics(ctx context.Context, topics []controller.NewTopic, validateOnly bool) []controller.TopicResult
}

// Leaders is the leadership table. *leaders.Table is one.
type Leaders interface {
	Leader(id replication.PartitionID) (replication.Leader, []replication.NodeID, bool)
}

// Options make a Node.
type Options struct {
	Partitions Partitions
	Controller Controller
	// Leaders finds the coordinators on other nodes; nil: only what the replicas here know.
	Leaders Leaders
	// OffsetsPartitions is offsets.topic.num.partitions; 0 stands for DefaultOffsetsPartitions.
	OffsetsPartitions int32
	// OffsetsReplicas is offsets.topic.replication.factor; 0 and -1 leave it to the cluster.
	OffsetsReplicas int16
	// Address overrides where clients of a listener reach a node; nil stands for the registered address.
	Address func(id replication.NodeID, listener string) (replication.Node, bool)
}

// DefaultOffsetsPartitions is less than Kafka's 50: each is a Raft group, and most clusters have few consumer groups.
const DefaultOffsetsPartitions = 16

// Node implements group.Logs and group.Cluster.
type Node struct {
	partitions Partitions
	controller Controller
	leaders    Leaders
	count      int32
	replicas   int16
	address    func(id replication.NodeID, listener string) (replication.Node, bool)
}

// New returns a Node over the parts.
func New(o Options) *Node {
	n := &Node{partitions: o.Partitions, controller: o.Controller, leaders: o.Leaders, count: o.OffsetsPartitions, replicas: o.OffsetsReplicas, address: o.Address}
	if n.replicas == 0 {
		n.replicas = -1
	}
	if n.count <= 0 {
		n.count = DefaultOffsetsPartitions
	}
	if n.address == nil {
		n.address = n.registered
	}
	return n
}

func (n *Node) registered(id replication.NodeID, _ string) (replication.Node, bool) {
	node, ok := n.controller.Image().Nodes[id]
	return node, ok
}

// Forward passes a change of leadership on to the coordinator if it is about __consumer_offsets. It is meant for
// partition.Options.OnLeader.
func (n *Node) Forward(s *group.Service, c partition.LeaderChange) {
	if t := n.controller.Image().ByID[c.ID.Topic]; t != nil && t.Name == broker.OffsetsTopic {
		s.LeaderChanged(c.ID.Partition, c.Leader.Epoch, c.Local)
	}
}

// ForwardDeletions tells the coordinator of topics that an image has and the next one lacks. It is meant for
// (*controller.Controller).Watch.
func ForwardDeletions(s *group.Service, before, after *controller.Image) {
	if before == nil || after == nil {
		return
	}
	var gone []string
	for name, t := range before.Topics {
		if now := after.Topics[name]; now == nil || now.ID != t.ID {
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 {
		s.TopicsDeleted(gone...)
	}
}

// Topic finds a topic by name.
func (n *Node) Topic(name string) (group.Topic, bool) {
	return describe(n.controller.Image().Topics[name])
}

// TopicByID finds a topic by id.
func (n *Node) TopicByID(id replication.TopicID) (group.Topic, bool) {
	return describe(n.controller.Image().ByID[id])
}

func describe(t *controller.Topic) (group.Topic, bool) {
	if t == nil {
		return group.Topic{}, false
	}
	return group.Topic{Name: t.Name, ID: t.ID, Partitions: int32(len(t.Partitions))}, true
}

// Coordinator is the leader of a partition of __consumer_offsets, on whichever node it is.
func (n *Node) Coordinator(index int32, listener string) (replication.Node, bool) {
	leader := n.leader(index)
	if leader == replication.NoNode {
		return replication.Node{}, false
	}
	return n.address(leader, listener)
}

// leader is the node that leads a partition of __consumer_offsets; NoNode if none is known to.
func (n *Node) leader(index int32) replication.NodeID {
	t := n.controller.Image().Topics[broker.OffsetsTopic]
	if t == nil {
		return replication.NoNode
	}
	id := replication.PartitionID{Topic: t.ID, Partition: index}
	// A replica here that leads knows it before anybody else.
	if p, ok := n.partitions.Get(id); ok && (n.leaders == nil || p.Leading()) {
		return p.Leader().Node
	}
	if n.leaders == nil {
		return replication.NoNode
	}
	if l, _, ok := n.leaders.Leader(id); ok {
		return l.Node
	}
	return replication.NoNode
}

func (n *Node) open(index int32) (*partition.Partition, error) {
	t := n.controller.Image().Topics[broker.OffsetsTopic]
	if t == nil {
		return nil, replication.ErrUnknownPartition
	}
	p, ok := n.partitions.Get(replication.PartitionID{Topic: t.ID, Partition: index})
	if !ok {
		return nil, replication.ErrNotLeader
	}
	return p, nil
}

// How a node waits for the partitions that it has just created.
const (
	leaderWait = 2 * time.Second
	leaderPoll = 5 * time.Millisecond
)

// offsetsMaxMessage is the largest batch of __consumer_offsets, in bytes: a group's whole membership is one record, and a
// commit one batch.
const offsetsMaxMessage = 32 << 20

// EnsureOffsetsTopic creates __consumer_offsets unless it exists, and waits a moment for its partitions to have leaders:
// the client that asked uses one at once.
func (n *Node) EnsureOffsetsTopic(ctx context.Context) error {
	if n.controller.Image().Topics[broker.OffsetsTopic] != nil {
		return nil
	}
	results := n.controller.CreateTopics(ctx, []controller.NewTopic{{
		Name: broker.OffsetsTopic, Partitions: n.count, ReplicationFactor: n.replicas, Internal: true,
		Config: map[string]string{
			"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": strconv.Itoa(100 << 20),
			"max.message.bytes": strconv.Itoa(offsetsMaxMessage),
		},
	}}, false)
	for _, r := range results {
		if r.Err != nil && !errors.Is(r.Err, replication.ErrTopicExists) {
			return fmt.Errorf("creating %s: %w", broker.OffsetsTopic, r.Err)
		}
	}
	n.awaitLeaders(ctx)
	return nil
}

func (n *Node) awaitLeaders(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	ticker := time.NewTicker(leaderPoll)
	defer ticker.Stop()
	for i := int32(0); i < n.count; {
		if n.leader(i) != replication.NoNode {
			i++
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Open finds this node's replica, as leader of an epoch.
func (n *Node) Open(index int32, epoch batch.Epoch) (group.Log, error) {
	p, err := n.open(index)
	if err != nil {
		return nil, err
	}
	return replica{p, epoch}, nil
}

// replica is a partition as group.Log, as long as it leads in an epoch.
type replica struct {
	p     *partition.Partition
	epoch batch.Epoch
}

// fenced makes one error of all that mean that the epoch is over.
func fenced(err error) error {
	if errors.Is(err, replication.ErrFencedLeaderEpoch) || errors.Is(err, replication.ErrUnknownLeaderEpoch) {
		return fmt.Errorf("%w: %w", replication.ErrNotLeader, err)
	}
	return err
}

// Append hands a frame over.
func (r replica) Append(frame []byte) group.Pending {
	h, err := batch.ParseHeader(frame)
	if err != nil {
		return failed{err}
	}
	info := batch.Info{Header: h, MinTimestamp: h.BaseTimestamp, MaxTimestamp: h.MaxTimestamp}
	return pending{r.p.Append(partition.Batch{Frame: frame, Info: info, Epoch: r.epoch})}
}

// pending is an append under way.
type pending struct{ p *partition.Pending }

// Done is closed when the outcome is known.
func (p pending) Done() <-chan struct{} { return p.p.Done() }

// Err is the outcome.
func (p pending) Err() error {
	_, err := p.p.Wait(context.Background()) // does not wait: Done is closed
	return err
}

// failed is an append that never began.
type failed struct{ err error }

var closed = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// Done is closed.
func (f failed) Done() <-chan struct{} { return closed }

// Err is why.
func (f failed) Err() error { return f.err }

// Bounds tells from where to where the log can be read.
func (r replica) Bounds() (group.Bounds, error) {
	o, err := r.p.Offsets(r.epoch)
	if err != nil {
		return group.Bounds{}, fenced(err)
	}
	return group.Bounds{Start: o.LogStart, Committed: o.HighWatermark, End: o.LogEnd}, nil
}

// Read returns committed frames.
func (r replica) Read(from batch.Offset, maxBytes int) (group.Chunk, error) {
	got, err := r.p.Read(partition.ReadRequest{
		Offset: from, MaxBytes: maxBytes, AtLeastOne: true, CurrentEpoch: r.epoch, LastFetchedEpoch: batch.NoEpoch,
	})
	if err != nil {
		return group.Chunk{}, fenced(err)
	}
	defer got.Range.Release()
	frames, err := got.Range.AppendTo(make([]byte, 0, got.Range.Len()))
	if err != nil {
		return group.Chunk{}, err
	}
	return group.Chunk{Frames: frames, Next: got.Range.Next}, nil
}
